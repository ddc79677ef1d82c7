"""Euclidean distance to a set of pixels, exact up to a limit, in numpy only."""

from __future__ import annotations

import numpy as np

from intarsia.imaging.arrays import BoolArray, FloatArray


def distance_to(marked: BoolArray, limit: int) -> FloatArray:
    """Distance in pixels of each pixel of (H, W) to the nearest marked one; `inf` where it is more than
    `limit`.

    Two passes, columns then rows, of the squared distance transform (Felzenszwalb and Huttenlocher 2012);
    with a limit r the lower envelope needs only the 2r + 1 nearest columns.
    """
    result = np.full(marked.shape, np.inf, np.float32)
    box = bounding_box(marked)
    if box is None:
        return result
    top, left, height, width = box
    rows = slice(max(0, top - limit), top + height + limit)
    columns = slice(max(0, left - limit), left + width + limit)
    result[rows, columns] = _distance(marked[rows, columns], limit)
    return result


def bounding_box(marked: BoolArray) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of the marked pixels, or None where there are none."""
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not len(rows):
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


def _distance(marked: BoolArray, limit: int) -> FloatArray:
    height, width = marked.shape
    far = limit + 1
    index = np.arange(height, dtype=np.int32)[:, None]
    above = np.maximum.accumulate(np.where(marked, index, -far), axis=0)
    below = np.minimum.accumulate(np.where(marked, index, height + far)[::-1], axis=0)[::-1]
    column = np.minimum(np.minimum(index - above, below - index), far).astype(np.int32) ** 2
    squared = column.copy()
    for step in range(1, min(limit, width - 1) + 1):
        shifted = column + step * step
        np.minimum(squared[:, step:], shifted[:, :-step], out=squared[:, step:])
        np.minimum(squared[:, :-step], shifted[:, step:], out=squared[:, :-step])
    return np.where(squared <= limit * limit, np.sqrt(squared, dtype=np.float32), np.float32(np.inf))
