"""Bringing a model's result back over its source: the same place to a fraction of a pixel, the same colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intarsia.editing.pictures import FloatArray

_FITS = 6
_TUKEY = 4.685
_LEAST_SPREAD = 0.004
"""Residuals below this (one step of 8 bits) are not noise to be measured."""
_RIDGE = 4e-4
"""Variance of a channel below which its gain is not told from 1."""
_LEAST_GAIN, _MOST_GAIN = 0.5, 2.0
_OUTLYING = 0.06
"""c of Geman and McClure: a difference of brightness that is no noise."""
_STEPS = (1.0, 0.5, 0.25, 0.125)
_WORTH = 0.95
"""A shift is believed where it leaves at most this share of the cost."""


@dataclass(frozen=True)
class Registration:
    """result(p + shift) ≈ gain · source(p) + offset where nothing was changed; `shift` (rows, columns) in pixels."""

    shift: tuple[float, float] = (0.0, 0.0)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def apply(self, result: FloatArray) -> FloatArray:
        """The result (H, W, 3) at the source's place, in its colours."""
        there = moved(result, self.shift)
        return ((there - np.array(self.offset, np.float32)) / np.array(self.gain, np.float32)).astype(np.float32)


def register(source: FloatArray, result: FloatArray) -> Registration:
    """How a result (H, W, 3) lies over its source (H, W, 3) where it shows the same: a shift of about a pixel at most,
    and gain and offset of each channel.

    Changed pixels have little say: colours are fitted by iteratively reweighted least squares with Tukey's biweight
    (Beaton and Tukey 1974), the shift is searched for, by ever smaller steps, with the cost of Geman and McClure (1987)
    on the brightness, r² / (r² + c²). Holds while less than about half of the picture is changed.
    """
    still = _fitted(source, result, (0.0, 0.0))
    blurred, seen = (_binomial(picture.mean(axis=-1, keepdims=True)) for picture in (source, still.apply(result)))

    def cost(shift: tuple[float, float]) -> float:
        squared = (moved(seen, shift) - blurred)[2:-2, 2:-2] ** 2
        return float((squared / (squared + _OUTLYING**2)).sum())

    best = (0.0, 0.0)
    least = cost(best)
    for step in _STEPS:
        around = [(best[0] + y * step, best[1] + x * step) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
        costs = [cost(shift) for shift in around]
        if min(costs) < least * _WORTH:
            least = min(costs)
            best = around[costs.index(least)]
    return still if best == (0.0, 0.0) else _fitted(source, result, best)


def moved(picture: FloatArray, shift: tuple[float, float]) -> FloatArray:
    """The picture (H, W, C) read at p + shift, (rows, columns); beyond its border the border goes on. Fractions by
    cubic interpolation (Catmull and Rom 1974)."""
    for axis, by in enumerate(shift):
        whole = int(np.floor(by))
        part = by - whole
        length = picture.shape[axis]
        if part == 0.0:
            taps = [(whole, 1.0)] if whole else []
        else:
            taps = [
                (whole - 1, 0.5 * (-part + 2 * part**2 - part**3)),
                (whole, 0.5 * (2 - 5 * part**2 + 3 * part**3)),
                (whole + 1, 0.5 * (part + 4 * part**2 - 3 * part**3)),
                (whole + 2, 0.5 * (-(part**2) + part**3)),
            ]
        if taps:
            index = np.arange(length)
            read = [np.take(picture, np.clip(index + at, 0, length - 1), axis) * np.float32(w) for at, w in taps]
            picture = np.sum(read, axis=0, dtype=np.float32)
    return picture


def _fitted(source: FloatArray, result: FloatArray, shift: tuple[float, float]) -> Registration:
    there = moved(result, shift)
    gain, offset = np.ones(3), np.median(there - source, axis=(0, 1)).astype(np.float64)
    for _ in range(_FITS):
        weights = _weights(np.linalg.norm(there - gain * source - offset, axis=-1))
        total = weights.sum()
        means = [(weights[..., None] * values).sum(axis=(0, 1)) / total for values in (source, there)]
        spread = weights[..., None] * (source - means[0])
        shared, own = ((spread * values).sum(axis=(0, 1)) / total for values in (there - means[1], source - means[0]))
        gain = np.clip((shared + _RIDGE) / (own + _RIDGE), _LEAST_GAIN, _MOST_GAIN)
        offset = means[1] - gain * means[0]
    return Registration(shift, _three(gain), _three(offset))


def _weights(distance: FloatArray) -> FloatArray:
    """Tukey's biweight (H, W) of residuals (H, W), 0 beyond 4.7 times their robust spread."""
    spread = max(1.4826 * float(np.median(distance)), _LEAST_SPREAD)
    weights = np.clip(1 - (distance / (_TUKEY * spread)) ** 2, 0, None) ** 2
    return np.asarray(weights, np.float32)


def _binomial(picture: FloatArray) -> FloatArray:
    """Smoothed by (1, 2, 1) / 4 along both sides: interpolation then takes no noise away."""
    for axis in (0, 1):
        shift = (1.0, 0.0) if axis == 0 else (0.0, 1.0)
        back = (-shift[0], -shift[1])
        picture = (moved(picture, shift) + 2 * picture + moved(picture, back)) * np.float32(0.25)
    return picture


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
