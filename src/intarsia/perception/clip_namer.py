"""Naming attributes by any image-text encoder and a list of words: for models without an image tower of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from intarsia.perception.errors import HelperError, NamerError
from intarsia.perception.helpers import BoolArray, FloatArray, QualityScorer
from intarsia.perception.requests import subject_views
from intarsia.perception.vocabulary import Vocabulary
from intarsia.perception.vocabulary_namer import chosen_attributes


class ClipNamer:
    """Chooses as `VocabularyNamer` does, from words for real photos, by an encoder loaded when first asked.

    Args:
        load: () -> scorer, called at the first question and after `release`.
        vocabulary: by default `photo_vocabulary.yaml` of this package.
    """

    def __init__(
        self, load: Callable[[], QualityScorer], vocabulary: Vocabulary | None = None, *, rounds: int = 2
    ) -> None:
        self.vocabulary = Vocabulary.for_photos() if vocabulary is None else vocabulary
        self.rounds = rounds
        self._load = load
        self._scorer: QualityScorer | None = None

    @classmethod
    def of(cls, model: str, words: str | Path | None = None, device: str = "auto") -> ClipNamer:
        """A CLIP-like model (a folder or a name at the model hub) and a vocabulary file. Raises VocabularyError."""

        def load() -> QualityScorer:
            from intarsia.perception.encoders import ClipScorer

            try:
                return ClipScorer.load(model, device)
            except HelperError as error:
                raise NamerError(str(error)) from error

        return cls(load, None if words is None else Vocabulary.load(words))

    def name(self, images: Sequence[FloatArray], masks: Sequence[BoolArray], class_noun: str) -> dict[str, list[str]]:
        """Raises NamerError: no images, an empty mask, or the encoder cannot be loaded."""
        views = subject_views(images, masks)
        scorer = self._scorer = self._scorer or self._load()

        def scores(captions: Sequence[str]) -> FloatArray:
            return np.asarray(scorer.similarity(views, captions).mean(axis=0), np.float32)

        return chosen_attributes(self.vocabulary, class_noun, scores, self.rounds)

    def release(self) -> None:
        """Give the encoder's memory back; another question loads it again."""
        self._scorer = None
