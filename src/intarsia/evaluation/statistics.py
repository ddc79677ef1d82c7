"""Intervals and rank correlation for the numbers that are no shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def bootstrap_interval(values: Sequence[float], seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over samples drawn with replacement (Efron 1979)."""
    sample = np.asarray(values, np.float64)
    rows = np.random.default_rng(seed).integers(0, len(sample), (draws, len(sample)))
    low, high = np.percentile(sample[rows].mean(1), [2.5, 97.5])
    return float(low), float(high)


def spearman(values: Sequence[float]) -> float:
    """Spearman's rank correlation of values with their order; ties share their mean rank; 0 where all are equal."""
    ranks, order = _ranks(values), np.arange(len(values), dtype=np.float64)
    if ranks.std() == 0:
        return 0.0
    return float(np.corrcoef(ranks, order)[0, 1])


def steps_against(values: Sequence[float], *, rising: bool) -> int:
    """How many steps from one value to the next go the other way."""
    steps = np.diff(np.asarray(values, np.float64))
    return int((steps < 0).sum() if rising else (steps > 0).sum())


def _ranks(values: Sequence[float]) -> Floats:
    sample = np.asarray(values, np.float64)
    below, alike = (sample[:, None] > sample[None]).sum(1), (sample[:, None] == sample[None]).sum(1)
    return np.asarray(below + (alike - 1) / 2, np.float64)
