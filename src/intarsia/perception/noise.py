"""Chance for truth helpers: which answers are wrong, and scores that tell right from wrong only partly."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from intarsia.perception.errors import HelperError


@dataclass(frozen=True)
class Noise:
    """``level``: the probability that an answer about one thing is wrong. ``repeat``: the share of these errors that
    the helper makes again whenever it looks at the same thing (a real model's errors are not washed out by asking
    twice). Everything follows from ``seed`` and what the question is about, never from the order of questions."""

    level: float = 0.2
    seed: int = 0
    repeat: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1 or not 0 <= self.repeat <= 1:
            raise HelperError(f"noise {self.level} with repetition {self.repeat}: use numbers from 0 to 1")

    def draw(self, *parts: object) -> np.random.Generator:
        """The generator of a question."""
        text = "\0".join(str(part) for part in (self.seed, *parts))
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))

    def error(self, helper: str, key: str, thing: object, look: object) -> np.random.Generator | None:
        """A generator to draw the error from where the answer is to be wrong, else None. An error that is made again
        is drawn alike at every look."""
        lasting = self.draw(helper, key, thing)
        if lasting.random() < self.level * self.repeat:
            return lasting
        fleeting = self.draw(helper, key, thing, look)
        rest = 1 - self.level * self.repeat
        if fleeting.random() * rest < self.level * (1 - self.repeat):
            return fleeting
        return None

    def score(self, generator: np.random.Generator, right: bool) -> float:
        """Beta(9, 2) (mean 0.82) for a right answer, Beta(4.5, 4) (mean 0.53) for a wrong one: at 0.6, 5 % of the
        right ones fall and a third of the wrong ones stay. Without noise a score is 0.95."""
        if self.level == 0:
            return 0.95
        return float(generator.beta(9.0, 2.0) if right else generator.beta(4.5, 4.0))
