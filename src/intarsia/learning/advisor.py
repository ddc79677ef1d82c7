"""Who answers the paper's three requests (ADM, TAS): offline code, or a model that is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intarsia.learning.dictionary import AttributeDictionary
from intarsia.learning.errors import LearnConfigError, LearningError
from intarsia.learning.identity import prompt_with_token
from intarsia.learning.recombination import recombine
from intarsia.perception import AttributeNamer, Attributes, RegularPrompt, Vocabulary

if TYPE_CHECKING:
    from intarsia.learning.config import LearnConfig


@dataclass(frozen=True)
class OfflineAdvisor:
    """An `AttributeAdvisor` of any namer, the balanced recombination and the dictionary's own rules of conflict."""

    namer: AttributeNamer
    vocabulary: Vocabulary | None = None

    def name(
        self, images: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.bool_]], class_noun: str
    ) -> dict[str, list[str]]:
        """The namer's."""
        return self.namer.name(images, masks, class_noun)

    def recombine(self, dictionary: Attributes, class_noun: str, count: int, seed: int) -> list[RegularPrompt]:
        """See `recombine`: a value of each kind rather than one to three, so that all are used equally often."""
        return recombine(_dictionary(dictionary, class_noun), class_noun, count, seed, vocabulary=self.vocabulary)

    def conflicts(self, dictionary: Attributes, class_noun: str, prompt: str) -> list[str]:
        """See `AttributeDictionary.conflicts`: of a value of several words perhaps only some."""
        return _dictionary(dictionary, class_noun).conflicts(prompt, vocabulary=self.vocabulary)


def _dictionary(kinds: Attributes, class_noun: str) -> AttributeDictionary:
    return AttributeDictionary({kind: tuple(values) for kind, values in kinds.items()}, class_noun)


def regular_prompts(
    dictionary: AttributeDictionary,
    class_noun: str,
    config: LearnConfig,
    vocabulary: Vocabulary,
    namer: AttributeNamer | None = None,
) -> list[RegularPrompt]:
    """The prompts of the regular images as `config` wants them: balanced, by a namer that is an advisor, or the class
    alone, without the identity token (DreamBooth, Ruiz et al. 2023, eq. 2).

    Raises:
        LearnConfigError: the namer recombines nothing. NamerError: it gives no usable answer.
        LearningError: a prompt of the advisor's holds the identity token.
    """
    token = config.token if config.regular_prompts_with_token else None
    count = 0 if config.beta == 0 else config.regular_images
    if config.regular_prompts == "class":
        return [RegularPrompt(f"a photo of a {class_noun}", MappingProxyType({}))] * count
    if not _asks_advisor(config):
        return recombine(dictionary, class_noun, count, config.seed, vocabulary=vocabulary, token=token)
    ask: Any = getattr(namer, "recombine", None)
    require_advisor(config, ask is not None)
    prompts: list[RegularPrompt] = ask(dictionary.kinds, class_noun, count, config.seed)
    for prompt in prompts:
        if config.token.lower() in prompt.text.lower().split():
            raise LearningError(
                f"the advisor's prompt {prompt.text!r} holds the identity token {config.token!r}: choose another token"
            )
    if token is None:
        return prompts
    return [replace(prompt, text=prompt_with_token(prompt.text, token, class_noun)) for prompt in prompts]


def require_advisor(config: LearnConfig, recombines: bool) -> None:
    """`LearnConfigError` where an advisor is wanted and the namer recombines nothing."""
    if _asks_advisor(config) and not recombines:
        raise LearnConfigError(
            "regular_prompts 'advisor' needs a namer that recombines: use openai:URL#MODEL or vlm:MODEL, or 'balanced'"
        )


def _asks_advisor(config: LearnConfig) -> bool:
    """Whether a learning asks its namer for prompts."""
    return config.regular_prompts == "advisor" and config.beta != 0 and config.regular_images > 0


def release(namer: AttributeNamer | None) -> None:
    """A local model that was asked gives its memory back."""
    if (give_back := getattr(namer, "release", None)) is not None:
        give_back()
