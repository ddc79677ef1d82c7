"""The bootstrap of rows that hang together: whole subjects are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.bench.metrics.distances import polynomial_kernel

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float32]
DRAWS = 2_000


def cluster_weights(clusters: Sequence[str], draws: int = DRAWS, seed: int = 0) -> Counts:
    """How often each of N rows is in each of ``draws`` samples (B, N).

    Clusters are drawn with replacement, as many as there are, all rows of one together (Field and Welsh 2007,
    "Bootstrapping clustered data", the cluster bootstrap). With one cluster its rows are drawn.
    """
    _, numbers = np.unique(np.asarray(clusters), return_inverse=True)
    if len(clusters) and not numbers.any():
        numbers = np.arange(len(clusters))
    count = int(numbers.max(initial=-1)) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / max(1, count)), draws)
    return np.asarray(drawn[:, numbers], np.float32)


def interval_of_mean(values: Floats, weights: Counts) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of N values. ``weights``: (B, N)."""
    mean = values.mean()  # in single precision only how far off it the draws are
    low, high = percentiles((weights @ (values - mean).astype(np.float32)) / weights.sum(1))
    return float(mean + low), float(mean + high)


def rule_of_three(difference: float, units: int) -> tuple[float, float]:
    """A 95 % interval of a mean of values in [-1, 1] that are all ``difference``: of ``units`` that are alike, at most
    a share of 3 / units of all is otherwise (Hanley and Lippman-Hand 1983), and that by as much as can be."""
    other = min(1.0, 3 / units)
    return difference - other * (1 + difference), difference + other * (1 - difference)


def percentiles(draws: Floats | Counts) -> tuple[float, float]:
    """The 2.5th and the 97.5th."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def kernel_draws(
    sample: Floats, reference: Floats, weights: Counts, others: Counts | None = None, block: int = 1_000
) -> Floats:
    """The unbiased squared MMD (Gretton et al. 2012, eq. 3) of KID's kernel (x·y / D + 1)³ in each of B samples (B,).

    ``sample`` (N, D) is resampled by ``weights`` (B, N), ``reference`` (M, D) by ``others`` (B, M), or not at all. A
    row drawn twice makes no pair with itself; pairs of rows of one subject are as often as it was drawn, squared, so
    the draws lie beside the estimate: only how they spread is of use. NaN where a sample has no two rows.
    """
    mine = weights.astype(np.float64)
    theirs = np.ones((1, len(reference))) if others is None else others.astype(np.float64)
    across = np.zeros(len(mine))
    for start in range(0, len(sample), block):
        rows = slice(start, start + block)
        across += (mine[:, rows] * (theirs @ polynomial_kernel(reference, sample[rows]))).sum(1)
    pairs = mine.sum(1) * theirs.sum(1)
    between = np.divide(across, pairs, out=np.full(len(mine), np.nan), where=pairs > 0)
    return np.asarray(_within(sample, mine, block) - 2 * between + _within(reference, theirs, block), np.float64)


def _within(points: Floats, counts: Floats, block: int) -> Floats:
    """The kernel's mean over pairs of different rows, each row as often as it counts: (B,)."""
    total = np.zeros(len(counts))
    for start in range(0, len(points), block):
        rows = slice(start, start + block)
        kernel = polynomial_kernel(points[rows], points)
        kernel[np.arange(len(kernel)), start + np.arange(len(kernel))] = 0
        total += (counts[:, rows] * (counts @ kernel.T)).sum(1)
    pairs = counts.sum(1) ** 2 - (counts**2).sum(1)
    return np.asarray(np.divide(total, pairs, out=np.full(len(counts), np.nan), where=pairs > 0), np.float64)
