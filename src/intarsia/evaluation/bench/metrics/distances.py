"""Distances between two sets of features (N, D): FID and KID, in float64."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.bench.errors import BenchError

Floats = npt.NDArray[np.float64]


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Heusel et al. 2017, eq. 6: |μa - μb|² + tr(Σa + Σb - 2 (Σa Σb)^½), with unbiased covariances.

    With centred features A (N, D) and B (M, D), the eigenvalues of Σa Σb are the squared singular values of A Bᵀ over
    (N - 1)(M - 1). So the trace of the root is a sum of singular values, and no root of a rounded zero is drawn.

    Raises:
        BenchError: fewer than two rows, or other widths.
    """
    x, y = _pair(a, b)
    mean = np.square(x.mean(0) - y.mean(0)).sum()
    x, y = (x - x.mean(0)) / math.sqrt(len(x) - 1), (y - y.mean(0)) / math.sqrt(len(y) - 1)
    # The R of a QR decomposition has the same products, and no more than D rows.
    first, second = (np.asarray(np.linalg.qr(part, mode="r"), np.float64) for part in (x, y))
    root = np.linalg.svd(first @ second.T, False, False).sum()
    return float(mean + np.square(x).sum() + np.square(y).sum() - 2 * root)


def kernel_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """KID of the whole sets (Bińkowski et al. 2018): the unbiased estimate of the squared maximum mean discrepancy
    under the kernel (x·y / D + 1)³. It may be below 0.

    Raises:
        BenchError: fewer than two rows, or other widths.
    """
    x, y = _pair(a, b)
    return _discrepancy(polynomial_kernel(x, x), polynomial_kernel(x, y), polynomial_kernel(y, y))


def kernel_distance_of_subsets(
    a: npt.ArrayLike, b: npt.ArrayLike, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """KID as it is published: mean and standard deviation over ``subsets`` pairs of ``size`` rows each, drawn without
    replacement; of smaller sets, all rows.

    Raises:
        BenchError: fewer than two rows, other widths, no subset, or a size below 2.
    """
    x, y = _pair(a, b)
    if subsets < 1 or size < 2:
        raise BenchError(f"{subsets} subsets of {size} rows: KID needs at least one subset, of at least 2 rows")
    size = min(size, len(x), len(y))
    draw = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        p, q = x[draw.permutation(len(x))[:size]], y[draw.permutation(len(y))[:size]]
        values.append(_discrepancy(polynomial_kernel(p, p), polynomial_kernel(p, q), polynomial_kernel(q, q)))
    return float(np.mean(values)), float(np.std(values))


def _pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise BenchError(f"features of shapes {x.shape} and {y.shape} cannot be compared: score both with one encoder")
    if min(len(x), len(y)) < 2:
        raise BenchError(f"a distance of sets needs two pictures in each, not {len(x)} and {len(y)}: run more rows")
    return x, y


def polynomial_kernel(x: Floats, y: Floats) -> Floats:
    """KID's (x·y / D + 1)³ of every row of (N, D) with every row of (M, D): (N, M)."""
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3, np.float64)


def _discrepancy(xx: Floats, xy: Floats, yy: Floats) -> float:
    """Of the kernel's values (N, N), (N, M), (M, M); a row with itself does not count."""
    n, m = xy.shape
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())
