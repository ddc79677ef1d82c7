"""Smooth surfaces through known pixels: the membrane (Laplace) equation, coarse to fine.

On the unknown pixels the surface u has Δu = 0, on the known ones it has their values: what Poisson image
editing (Pérez, Gangnet and Blake 2003) solves for. A pyramid of normalised averages ("push-pull", Gortler
et al. 1996) gives the start at each scale and a few relaxation steps there remove its unevenness (cascadic
multigrid).
"""

from __future__ import annotations

import numpy as np

from intarsia.imaging.arrays import BoolArray, FloatArray

_RELAXATIONS = 6
_COARSEST = 2


def membrane(values: FloatArray, known: BoolArray) -> FloatArray:
    """Values (H, W, C) with the unknown pixels replaced by a membrane through the known ones, which stay as
    they are.

    The result never leaves the range of the known values. Without any known pixel it is zero.
    """
    known_values = np.where(known[..., None], values, np.float32(0)).astype(np.float32)
    return _solve(known_values, known.astype(np.float32)[..., None])


def fill_hole(rgb: FloatArray, mask: BoolArray) -> FloatArray:
    """Colours (H, W, 3) whose masked pixels (H, W) are a smooth continuation of their surroundings; the
    rest is equal.

    With everything masked there are no surroundings: mid-grey.
    """
    if mask.all():
        return np.full_like(rgb, 0.5, dtype=np.float32)
    box = _hole(mask)
    result = np.array(rgb, np.float32)
    if box is not None:
        result[box] = membrane(result[box], ~mask[box])
    return result


def _hole(mask: BoolArray) -> tuple[slice, slice] | None:
    """The masked rectangle and one row and column of surroundings."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return slice(max(0, rows[0] - 1), rows[-1] + 2), slice(max(0, columns[0] - 1), columns[-1] + 2)


def _solve(values: FloatArray, weights: FloatArray) -> FloatArray:
    """`values` are zero where `weights` (H, W, 1) are; partly known coarse pixels count as known."""
    unknown = weights == 0
    if not unknown.any():
        return values
    height, width = weights.shape[:2]
    if max(height, width) <= _COARSEST or min(height, width) == 0:
        total = weights.sum()
        mean = (values * weights).sum(axis=(0, 1)) / total if total else np.zeros(values.shape[2], np.float32)
        return np.where(unknown, mean, values).astype(np.float32)
    summed, total_weights = _halve(values * weights), _halve(weights)
    coarse_values = np.divide(summed, total_weights, out=np.zeros_like(summed), where=total_weights > 0)
    coarse = _solve(coarse_values, np.minimum(total_weights, 1))
    result: FloatArray = np.where(unknown, _double(coarse, (height, width)), values)
    for _ in range(_RELAXATIONS):
        np.copyto(result, _neighbour_mean(result), where=unknown)
    return result


def _halve(array: FloatArray) -> FloatArray:
    """Sums of 2x2 blocks; an odd last row or column is a block of its own."""
    height, width = array.shape[:2]
    padded = np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)))
    return padded[0::2, 0::2] + padded[1::2, 0::2] + padded[0::2, 1::2] + padded[1::2, 1::2]


def _double(array: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Bilinear, with block centres in place, cut to `size`."""
    for axis in (0, 1):
        padded = np.pad(array, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="edge")
        lines = np.moveaxis(padded, axis, 0)
        doubled = np.empty((2 * (len(lines) - 2), *lines.shape[1:]), np.float32)
        doubled[0::2] = 0.25 * lines[:-2] + 0.75 * lines[1:-1]
        doubled[1::2] = 0.25 * lines[2:] + 0.75 * lines[1:-1]
        array = np.moveaxis(doubled[: size[axis]], 0, axis)
    return array


def _neighbour_mean(array: FloatArray) -> FloatArray:
    padded = np.pad(array, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return 0.25 * (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:])
