"""The bootstrap of rows that hang together: subjects are drawn, then rows of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float32]
DRAWS = 2_000


def cluster_weights(clusters: Sequence[str], draws: int = DRAWS, seed: int = 0) -> Counts:
    """How often each of N rows is in each of ``draws`` samples (B, N).

    Two stages (Davison and Hinkley 1997, 3.8): as many clusters as there are, with replacement, then as many rows of
    each as it has, with replacement. With one cluster this is the usual bootstrap of its rows.
    """
    names = {name: number for number, name in enumerate(sorted(set(clusters)))}
    numbers = np.asarray([names[name] for name in clusters], np.int64)
    by_cluster, sizes = np.argsort(numbers, kind="stable"), np.bincount(numbers)
    starts, many = np.cumsum(sizes) - sizes, len(clusters)
    random = np.random.default_rng(seed)
    counts = np.zeros(draws * many, np.float32)
    first = np.arange(draws)[:, None] * many
    for _ in range(len(sizes)):
        picked = random.integers(0, len(sizes), draws)
        size = sizes[picked][:, None]
        inner = (random.random((draws, int(sizes.max()))) * size).astype(np.int64)
        there = np.arange(inner.shape[1])[None] < size
        rows = by_cluster[np.where(there, starts[picked][:, None] + inner, 0)]
        np.add.at(counts, (first + rows)[there], 1)
    return counts.reshape(draws, many)


def interval_of_mean(values: Floats, weights: Counts) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of N values. ``weights``: (B, N)."""
    mean = values.mean()  # in single precision only how far off it the draws are
    low, high = percentiles((weights @ (values - mean).astype(np.float32)) / weights.sum(1))
    return float(mean + low), float(mean + high)


def percentiles(draws: Floats | Counts) -> tuple[float, float]:
    """The 2.5th and the 97.5th."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def kernel_draws(sample: Floats, reference: Floats, weights: Counts, block: int = 1_000) -> Floats:
    """The unbiased squared MMD (Gretton et al. 2012, eq. 3) of KID's kernel (x·y / D + 1)³ in each of B samples (B,).

    ``sample`` (N, D) is resampled by ``weights`` (B, N), ``reference`` (M, D) is not. A row drawn twice makes no pair
    with itself: such pairs would make every sample look farther off than it is.
    """
    counts, inside = weights.astype(np.float64), np.zeros(len(weights))
    for start in range(0, len(sample), block):
        rows = slice(start, start + block)
        kernel = _kernel(sample[rows], sample)
        kernel[np.arange(len(kernel)), start + np.arange(len(kernel))] = 0
        inside += (counts[:, rows] * (counts @ kernel.T)).sum(1)
    across = np.concatenate(
        [_kernel(sample[s : s + block], reference).mean(1) for s in range(0, len(sample), block)]
    )
    many, total = counts.sum(1), 0.0
    for start in range(0, len(reference), block):
        part = reference[start : start + block]
        total += float(_kernel(part, reference).sum() - (((part**2).sum(1) / part.shape[1] + 1) ** 3).sum())
    pairs = many**2 - (counts**2).sum(1)
    within = np.divide(inside, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return np.asarray(within - 2 * (counts @ across) / many + total / (len(reference) * (len(reference) - 1)))


def _kernel(first: Floats, second: Floats) -> Floats:
    return np.asarray((first @ second.T / first.shape[1] + 1) ** 3, np.float64)
