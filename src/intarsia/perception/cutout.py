"""A rough cut-out of the subject where photos come without masks: what differs from the border's colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intarsia.imaging import Window

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

_WORKING_SIDE = 160
_CLUSTERS = 6
_LEAST_SHARE = 0.05
_BORDER = 0.06
# Shadows change brightness more than hue, so brightness counts less.
_OPPONENT = np.array([[0.2, 0.2, 0.2], [0.7, -0.7, 0.0], [0.4, 0.4, -0.8]], np.float32)


def estimate_mask(rgb: FloatArray) -> BoolArray:
    """Guess the subject's silhouette (H, W) in a photo (H, W, 3) in [0, 1], True on the subject.

    The border's colours are grouped (k-means); pixels far from all groups are foreground (Otsu's threshold);
    of their connected regions the largest near the middle is kept and its holes are filled. Rough: it
    includes hard shadows, and fails where the subject has the background's colours, where the background is
    busy, or where the subject touches much of the border. Where nothing stands out, it is an ellipse in the
    middle. Never empty.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = Window.resize(rgb, size, "area")
    sharp = _distance_from_border(small)
    distance: FloatArray = (sharp + _box_blur(sharp)) * np.float32(0.5)
    threshold = _otsu(distance)
    regions = connected_regions(distance > threshold)
    best = _most_central(regions)
    if best is None or not 0.005 <= best.mean() <= 0.85 or distance.max() < 0.02:
        best = _ellipse(size)
    best = _without_holes(best)
    grown = Window.resize(best.astype(np.float32), (height, width), "bilinear") >= 0.5
    return grown if bool(grown.any()) else np.ones((height, width), bool)


def _distance_from_border(rgb: FloatArray) -> FloatArray:
    height, width = rgb.shape[:2]
    depth = max(1, round(_BORDER * min(height, width)))
    border = np.ones((height, width), bool)
    border[depth : height - depth, depth : width - depth] = False
    colours = rgb @ _OPPONENT.T
    samples = colours[border]
    centres = _common(samples, _kmeans(samples, min(_CLUSTERS, len(samples))))
    squared = ((colours[:, :, None] - centres) ** 2).sum(axis=-1)
    return np.asarray(np.sqrt(squared.min(axis=-1)), np.float32)


def _kmeans(samples: FloatArray, count: int) -> FloatArray:
    """Centres (K, 3), started at samples evenly spaced in brightness: no chance is involved."""
    order = np.argsort(samples[:, 0], kind="stable")
    centres = samples[order[np.linspace(0, len(samples) - 1, count).round().astype(int)]].copy()
    for _ in range(12):
        nearest = ((samples[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
        for index in range(count):
            if (nearest == index).any():
                centres[index] = samples[nearest == index].mean(axis=0)
    return np.asarray(centres, np.float32)


def _common(samples: FloatArray, centres: FloatArray) -> FloatArray:
    """Without the centres of few samples: a subject that touches the border is not background there."""
    nearest = ((samples[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
    counts = np.bincount(nearest, minlength=len(centres))
    return np.asarray(centres[counts >= min(_LEAST_SHARE * len(samples), counts.max())], np.float32)


def _otsu(values: FloatArray) -> float:
    """The threshold with the largest variance between the two classes (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(np.nanargmax(np.where(np.isfinite(between), between, -1.0)))])


def _box_blur(values: FloatArray) -> FloatArray:
    padded = np.pad(values, 1, mode="edge")
    rows, columns = values.shape
    shifted = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return np.asarray(np.mean(shifted, axis=0), np.float32)


def connected_regions(marked: BoolArray) -> NDArray[np.int64]:
    """Labels (H, W): equal within each 4-connected region, -1 outside.

    The lowest label of a region spreads along whole rows and columns until nothing changes.
    """
    labels = np.where(marked, np.arange(marked.size).reshape(marked.shape), marked.size)
    while True:
        before = labels
        for axis in (0, 1):
            for flip in (False, True):
                seen, inside = (np.flip(labels, axis), np.flip(marked, axis)) if flip else (labels, marked)
                swept = np.moveaxis(_sweep(np.moveaxis(seen, axis, 0), np.moveaxis(inside, axis, 0)), 0, axis)
                labels = np.flip(swept, axis) if flip else swept
        if np.array_equal(labels, before):
            return np.where(marked, labels, -1)


def _sweep(labels: NDArray[np.int64], marked: BoolArray) -> NDArray[np.int64]:
    result = labels.copy()
    for row in range(1, len(result)):
        both = marked[row] & marked[row - 1]
        result[row] = np.where(both, np.minimum(result[row], result[row - 1]), result[row])
    return result


def _most_central(regions: NDArray[np.int64]) -> BoolArray | None:
    """The region with the most area, counted less towards the borders."""
    height, width = regions.shape
    y = np.abs(np.linspace(-1, 1, height))[:, None]
    x = np.abs(np.linspace(-1, 1, width))[None]
    weights = np.clip(1.1 - np.maximum(y, x), 0.0, None) ** 2
    found, index = np.unique(regions, return_inverse=True)
    totals = np.bincount(index.reshape(-1), weights=weights.reshape(-1))
    totals[found == -1] = 0
    return None if totals.max(initial=0.0) <= 0 else regions == found[int(totals.argmax())]


def _without_holes(region: BoolArray) -> BoolArray:
    padded = np.pad(~region, 1, constant_values=True)
    labels = connected_regions(padded)
    return np.asarray((labels != labels[0, 0])[1:-1, 1:-1])


def _ellipse(size: tuple[int, int]) -> BoolArray:
    y = np.linspace(-1, 1, size[0])[:, None] if size[0] > 1 else np.zeros((1, 1))
    x = np.linspace(-1, 1, size[1])[None] if size[1] > 1 else np.zeros((1, 1))
    return np.asarray(y**2 + x**2 <= 0.4)
