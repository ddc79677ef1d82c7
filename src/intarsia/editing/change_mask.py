"""Where an instruction model has added something: its result against the source it started from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intarsia.editing.pictures import FloatArray
from intarsia.editing.registration import register
from intarsia.imaging import Mask, Window
from intarsia.perception import connected_regions

BoolArray = NDArray[np.bool_]

_NOISE = 5.0
"""A change is beyond this many times the median difference."""
_HYSTERESIS = 0.5
"""Share of the threshold that pixels beside a change need to belong to it."""
_SHADOW = 0.25
"""The same for pixels that only became darker."""
_SPECK = 4.0
_REACH = 5.0
_MARGIN = 1.0
"""Least area, gap that still joins, and growth: in units of a 64th of the picture's side (area: squared)."""
_LEAST_PART = 0.02
_SECOND = 0.15
"""Least share of the largest change that another needs, to be joined to it and to be another thing."""


@dataclass(frozen=True, eq=False)
class Change:
    """`mask` (H, W): what was added, with its shadow. `difference` (H, W): by how much colours differ.

    `result` (H, W, 3): the model's picture, moved and tinted back over the source.
    """

    mask: BoolArray
    difference: FloatArray
    result: FloatArray

    def in_scene(self, window: Window, size: tuple[int, int]) -> Mask:
        """The mask in a scene of `size` (height, width), in which `window` was seen; smooth where it is enlarged."""
        array = np.zeros(size, bool)
        part = window.crop(array)
        if window.height < self.mask.shape[0] or window.width < self.mask.shape[1]:
            part[...] = Mask(self.mask).to_latent(window.size)
        else:
            part[...] = Window.resize(self.mask, window.size, "bilinear") >= 0.5
        return Mask(array)


def find_change(
    source: FloatArray,
    result: FloatArray,
    *,
    threshold: float,
    place: BoolArray | None = None,
    cell: BoolArray | None = None,
    count: int = 1,
) -> Change:
    """What a result (H, W, 3) shows that its source (H, W, 3) does not; the mask is empty where there is nothing.

    Both have been through the same decoder, so that its losses cancel. The result is first registered, so that a small
    shift and a change of all colours count for nothing. A pixel differs by how far its colour (both smoothed) is from
    all of the source's within a pixel. Changes start where that is above `threshold`, or far above the picture's
    median where that is more, and spread over neighbours above half of it (hysteresis: Canny 1986), or a quarter
    where these only became darker, as in a shadow. Of the connected parts the `count` largest and what lies near
    them are kept, their holes filled, and the whole grown by a 64th of the side.

    Args:
        threshold: length of the difference of RGB in [0, 1].
        place: (H, W); only parts that reach into it count.
        cell: (H, W); parts that reach into it come first.
    """
    unit = max(1.0, math.sqrt(source.shape[0] * source.shape[1]) / 64)
    registered = register(source, result).apply(result)
    before, after = (_smooth(picture, 0.7 * math.sqrt(unit)) for picture in (source, registered))
    difference = _distance_nearby(before, after)
    high = max(threshold, _NOISE * float(np.median(difference)))
    darker = (before - after).min(axis=-1) > 0
    weak = (difference > _HYSTERESIS * high) | (darker & (difference > _SHADOW * high))
    mask = _parts(weak, difference, high, unit, place, cell, count)
    if mask.any():
        mask = Mask(_filled(mask)).grow(max(1, round(_MARGIN * unit))).array
    return Change(mask, difference, registered)


def _parts(
    weak: BoolArray,
    difference: FloatArray,
    high: float,
    unit: float,
    place: BoolArray | None,
    cell: BoolArray | None,
    count: int,
) -> BoolArray:
    """Of the connected parts of `weak`, those of the thing."""
    labels = connected_regions(weak).ravel()
    found, index = np.unique(labels, return_inverse=True)
    index = index.reshape(-1)
    strong = (difference > high).ravel()

    def total(values: NDArray[np.generic]) -> FloatArray:
        return np.asarray(np.bincount(index, weights=values.astype(np.float64), minlength=len(found)), np.float32)

    mass = total(np.where(strong, difference.ravel(), 0))
    mass[(found < 0) | (total(strong) < _SPECK * unit**2)] = 0
    ranked = mass.copy()
    if place is not None:
        ranked[total(strong & place.ravel()) == 0] = 0
    largest = float(ranked.max())
    outside = np.zeros(len(found), bool) if cell is None else total(strong & cell.ravel()) == 0
    order = np.lexsort((-ranked, outside))
    kept = [int(part) for part in order if ranked[part] > _SECOND * largest][:count]
    rest = {int(part) for part in np.flatnonzero(mass > _LEAST_PART * largest)} - set(kept)
    mask = np.isin(index, kept).reshape(weak.shape)
    while kept and rest:
        near = Mask(mask).grow(max(1, round(_REACH * unit))).array.ravel()
        joined = {part for part in rest if near[index == part].any()}
        if not joined:
            break
        rest -= joined
        mask = mask | np.isin(index, list(joined)).reshape(weak.shape)
    return mask


def _filled(mask: BoolArray) -> BoolArray:
    """Without its holes."""
    outside = connected_regions(np.pad(~mask, 1, constant_values=True))
    return np.asarray((outside != outside[0, 0])[1:-1, 1:-1])


def _distance_nearby(before: FloatArray, after: FloatArray) -> FloatArray:
    """From each colour of `after` to the nearest of `before` within a pixel, (H, W)."""
    padded = np.pad(before, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows, columns = after.shape[:2]
    nearest = np.full(after.shape[:2], np.inf, np.float32)
    for y in range(3):
        for x in range(3):
            squared = ((after - padded[y : y + rows, x : x + columns]) ** 2).sum(axis=-1)
            nearest = np.minimum(nearest, squared)
    return np.sqrt(nearest)


def _smooth(picture: FloatArray, sigma: float) -> FloatArray:
    """Convolved with a Gaussian; the border goes on beyond the picture."""
    radius = math.ceil(2.5 * sigma)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        width = [(radius, radius) if axis == other else (0, 0) for other in range(picture.ndim)]
        padded = np.pad(picture, width, mode="edge")
        length = picture.shape[axis]
        picture = np.sum(
            [tap * np.take(padded, range(at, at + length), axis) for at, tap in enumerate(taps)],
            axis=0,
            dtype=np.float32,
        )
    return picture
