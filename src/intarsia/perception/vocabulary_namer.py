"""Naming attributes offline: the backbone's own image and text towers compare photos with captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from intarsia.imaging import Mask, Window
from intarsia.perception.errors import NamerError
from intarsia.perception.namer import BoolArray, FloatArray
from intarsia.perception.phrases import describe
from intarsia.perception.vocabulary import ABSENT, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.backbones import Backbone

_SHARE = 0.7
_CHUNK = 64


class VocabularyNamer:
    """Chooses the caption most similar (cosine, mean over the photos) to what the photos show.

    See `chosen_attributes`.
    """

    def __init__(self, backbone: Backbone, vocabulary: Vocabulary | None = None, *, rounds: int = 2) -> None:
        if backbone.image_encoder is None:
            raise NamerError(
                f"model {backbone.name!r} has no image encoder to name attributes with: "
                "use --namer clip:MODEL, openai:URL#MODEL, vlm:MODEL or yaml:PATH"
            )
        self.backbone = backbone
        self.vocabulary = Vocabulary.of(backbone) if vocabulary is None else vocabulary
        self.rounds = rounds

    def name(self, images: Sequence[FloatArray], masks: Sequence[BoolArray], class_noun: str) -> dict[str, list[str]]:
        """Raises NamerError: no images, as many masks as images are not given, or an empty mask."""
        pictures = self._pictures(images, masks)
        return chosen_attributes(
            self.vocabulary, class_noun, lambda captions: self._scores(pictures, captions), self.rounds
        )

    def _scores(self, pictures: Tensor, captions: Sequence[str]) -> FloatArray:
        parts = [
            self.backbone.image_text_similarity(pictures, captions[start : start + _CHUNK]).mean(dim=0)
            for start in range(0, len(captions), _CHUNK)
        ]
        return np.concatenate([part.cpu().numpy() for part in parts]).astype(np.float32)

    def _pictures(self, images: Sequence[FloatArray], masks: Sequence[BoolArray]) -> Tensor:
        import torch

        if not images or len(images) != len(masks):
            raise NamerError(
                f"{len(images)} photos with {len(masks)} masks cannot be named: give at least one, each with its mask"
            )
        side = self.backbone.native_size
        views = []
        for image, mask in zip(images, masks, strict=True):
            if not mask.any():
                raise NamerError("a photo's mask is empty: mark the subject white")
            size = (image.shape[0], image.shape[1])
            window = Window.around(Mask(mask).box, size, share=_SHARE)
            views.append(window.read(image, (side, side)))
        return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2) * 2 - 1


def chosen_attributes(
    vocabulary: Vocabulary, class_noun: str, scores: Callable[[Sequence[str]], FloatArray], rounds: int = 2
) -> dict[str, list[str]]:
    """The attributes of the captions most like the photos; ``scores``: T captions -> their mean similarities (T,).

    Colour and material are chosen together, then the pattern with its own colour, then the accessory with its
    colour; a second round corrects the first choices in the light of the later ones. Shape and parts are not
    guessed: such words are too vague for an image-text encoder.
    """
    chosen: dict[str, str] = {}
    for _ in range(rounds):
        for options in _groups(vocabulary):
            if options:
                captions = [describe(class_noun, {**chosen, **option}) for option in options]
                chosen |= options[int(np.argmax(scores(captions)))]
    return {
        kind: [chosen[kind]]
        for kind in ("colour", "material", "pattern", "accessories")
        if kind in chosen and chosen[kind] != ABSENT.get(kind)
    }


def _groups(vocabulary: Vocabulary) -> list[list[dict[str, str]]]:
    values, colours = vocabulary.values, vocabulary.values("colour")
    body = [{"colour": colour, "material": material} for colour in colours for material in values("material")] or [
        {kind: value} for kind in ("colour", "material") for value in values(kind)
    ]
    bearers = [
        [{kind: value} for value in values(kind) if value == ABSENT[kind]]
        + [
            {kind: f"{colour} {value}".strip()}
            for value in values(kind)
            if value != ABSENT[kind]
            for colour in colours or ("",)
        ]
        for kind in ("pattern", "accessories")
    ]
    return [body, *bearers]
