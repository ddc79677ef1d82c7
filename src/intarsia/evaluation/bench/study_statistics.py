"""Shares with intervals over participants, a check of sides, and agreement between raters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.card import interval as wilson

Floats = npt.NDArray[np.float64]
DRAWS = 10_000
LEAST = 5
"""Fewer participants have no interval: of two or three, samples drawn from them say nothing about other people."""
_SAME = 1 + 1e-7
"""Two outcomes count as equally likely up to rounding."""


class ClusteredBootstrap:
    """95 % percentile intervals of a share over participants drawn with replacement, all answers of one together
    (Field and Welsh 2007, "Bootstrapping clustered data", the cluster bootstrap)."""

    def __init__(self, participants: int, seed: int = 0, draws: int = DRAWS) -> None:
        even = np.full(participants, 1 / participants)
        self.weights = np.random.default_rng(seed).multinomial(participants, even, draws).astype(np.float64)

    def interval(self, hits: Sequence[int], answers: Sequence[int]) -> tuple[float, float] | None:
        """Of sum(hits) / sum(answers), both by participant; None where fewer than `LEAST` participants answered.

        Where all have the same share every sample has it too, and would claim to be sure: then Wilson's interval of
        as many answers as there are participants (Wilson 1927).
        """
        people = int(np.count_nonzero(answers))
        if people < LEAST:
            return None
        shares = {Fraction(int(hit), int(count)) for hit, count in zip(hits, answers, strict=True) if count}
        if len(shares) == 1:
            return wilson(float(shares.pop()), people)
        above = self.weights @ np.asarray(hits, np.float64)
        below = self.weights @ np.asarray(answers, np.float64)
        low, high = np.percentile(above[below > 0] / below[below > 0], [2.5, 97.5])
        return float(low), float(high)


def binomial_p(hits: int, tries: int, chance: float) -> float:
    """The exact two-sided binomial test: how likely are counts no likelier than ``hits`` of ``tries``? 1 of none."""
    logs = [
        math.lgamma(tries + 1)
        - math.lgamma(at + 1)
        - math.lgamma(tries - at + 1)
        + at * math.log(chance)
        + (tries - at) * math.log1p(-chance)
        for at in range(tries + 1)
    ]
    likely = [math.exp(value) for value in logs]
    return min(1.0, math.fsum(value for value in likely if value <= likely[hits] * _SAME))


def krippendorff_alpha(units: Mapping[str, Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for nominal values, 1 - D_o / D_e over coincidences (Krippendorff 2011, "Computing
    Krippendorff's Alpha-Reliability", C).

    ``units``: what each rater said of each unit; raters may be missing. None where no unit has two values or all
    values are the same, so that there is nothing to agree about.
    """
    totals: Counter[Hashable] = Counter()
    observed = 0.0
    for values in units.values():
        if len(values) > 1:
            counts = Counter(values)
            totals.update(counts)
            pairs = len(values) ** 2 - sum(count**2 for count in counts.values())
            observed += pairs / (len(values) - 1)
    number = sum(totals.values())
    expected = number**2 - sum(count**2 for count in totals.values())
    return None if expected == 0 else 1 - observed * (number - 1) / expected
