"""The words of an edit: which prompt is used, which attributes give way, and what the U-Net gets of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from intarsia.conditioning import (
    Conditioning,
    empty_conditioning,
    encode_prompt,
    substitute_attributes,
)
from intarsia.request import EditRequest

if TYPE_CHECKING:
    from intarsia.backbones import Backbone
    from intarsia.learning import Subject


@dataclass(frozen=True)
class Words:
    """`prompt` as it is encoded, and the `removed` attributes (TAS)."""

    prompt: str
    removed: tuple[str, ...]


def words_of(request: EditRequest, subject: Subject | None, background_prompt: str) -> Words:
    """The prompt with the subject's identity token put in, and the attributes that it contradicts (or that
    were given by hand). An empty prompt means the subject as it is; for a removal or an outpainting the model's
    words for emptiness; with a reference alone no words at all.
    """
    prompt = " ".join(request.prompt.split())
    if not prompt and request.verb in ("remove", "outpaint"):
        prompt = background_prompt
    if not prompt and subject is not None:
        prompt = f"a photo of a {subject.class_noun}"
    if subject is not None:
        prompt = subject.prompt_with_token(prompt)
    removed: tuple[str, ...] = ()
    if isinstance(request.remove_attributes, tuple):
        removed = tuple(dict.fromkeys(attribute.strip() for attribute in request.remove_attributes))
    elif request.remove_attributes == "auto" and subject is not None:
        removed = tuple(dict.fromkeys(subject.conflicts(prompt)))
    return Words(prompt, removed)


def encode_words(
    backbone: Backbone, words: Words, negative_prompt: str, attribute_strength: float
) -> tuple[Conditioning, Conditioning]:
    """Positive and negative conditioning; attributes are substituted for both stages, as in the paper (eq.
    9). No words are the model's empty conditioning.
    """
    if not words.prompt:
        positive = empty_conditioning(backbone)
    elif words.removed and attribute_strength > 0:
        positive = substitute_attributes(backbone, words.prompt, words.removed, strength=attribute_strength)
    else:
        positive = encode_prompt(backbone, words.prompt)
    negative = encode_prompt(backbone, negative_prompt) if negative_prompt else empty_conditioning(backbone)
    return positive, negative
