"""From a thing's mask to what is painted anew: grown, towards its shadow too, and decoys of the same shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from intarsia.engines.pairs.options import PairOptions
from intarsia.engines.pairs.samples import BoolArray, Pixels, draw_of
from intarsia.imaging import Mask, Window, fill_hole
from intarsia.perception import Box, box_of, connected_regions, grow, shrink

FloatArray = NDArray[np.float32]
_WORKING_SIDE = 192
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_DARKER = 0.93
_SAME_HUE = 0.12
_DARK_PART = 0.1
_REACH = 0.9
_RING = 0.15
_MOST_GROWTH = 1.5
_NEAR = 0.05
_MOST_AWAY, _FAR = 2.0, 4.0
_MOST_COVERED = 0.02
_DECOY_SIZES = (1, 0.8, 0.6)


def grown_mask(
    rgb: Pixels, mask: BoolArray, key: str, options: PairOptions, others: Sequence[Box] = ()
) -> BoolArray:
    """The mask with its shadow (``effects``), dilated by ``dilation`` and a drawn part of ``over_dilation``. No shadow
    is looked for in the boxes of ``others``: a grey thing beside it looks like one."""
    whole = mask
    if options.effects:
        shadow = shadow_of(rgb, mask)
        for left, top, wide, high in others:
            shadow[top : top + high, left : left + wide] = False
        whole = mask | shadow
    more = options.over_dilation * draw_of(key, "dilation").random()
    pixels = max(1, round((options.dilation + more) * max(mask.shape)))
    result: BoolArray = Mask(whole).grow(pixels).array
    return result


def shadow_of(rgb: Pixels, mask: BoolArray) -> BoolArray:
    """Pixels around a thing that are darker than their surroundings would let one expect, of the same hue, and joined
    to the thing: its shadow, or its reflection. A guess; at most one and a half times the thing's area.

    What is expected is a membrane through the ring outside the reach of the search; the search reaches nine tenths of
    the thing's size, but not above its middle, where light from above throws no shadow.
    """
    box = box_of(mask)
    if box is None:
        return np.zeros_like(mask)
    scale = min(1.0, _WORKING_SIDE / max(mask.shape))
    size = (max(1, round(mask.shape[0] * scale)), max(1, round(mask.shape[1] * scale)))
    values = rgb.astype(np.float32) / np.float32(255)
    small = Window.resize(values, size, "area") if scale < 1 else values
    thing = Mask(mask).to_latent(size) if scale < 1 else mask
    found = _shadow(small, thing)
    if scale < 1:
        found = Window.resize(found.astype(np.float32), mask.shape, "bilinear") >= 0.5
    return np.asarray(found & ~mask)


def _shadow(rgb: FloatArray, thing: BoolArray) -> BoolArray:
    box = box_of(thing)
    assert box is not None
    x, y, w, h = box
    reach = max(3, round(_REACH * max(w, h)))
    search = np.zeros_like(thing)
    search[y + h // 2 : y + h + reach // 2, max(0, x - reach) : x + w + reach] = True
    known = grow(search | thing, max(2, round(_RING * reach))) & ~search & ~thing
    if not known.any():
        return np.zeros_like(thing)
    # Texture must not look like shade: small means of what is no thing stand for each pixel.
    seen = _means(rgb, ~grow(thing, 1), max(1, round(0.02 * max(thing.shape))))
    expected = fill_hole(seen, ~known)
    luma, awaited = seen @ _LUMA, np.maximum(expected @ _LUMA, 1e-3)
    # On checks and stripes only what is darker than their dark parts is shade.
    least = np.minimum(_DARKER * awaited, np.quantile(luma[known], _DARK_PART))
    hue = np.abs(seen / np.maximum(luma, 1e-3)[..., None] - expected / awaited[..., None]).max(axis=-1)
    dark = (luma < least) & (hue < _SAME_HUE) & search & ~thing
    dark = grow(shrink(dark, 1), 1)
    regions = connected_regions(dark | thing)
    joined = np.isin(regions, regions[thing]) & ~thing
    if joined.sum() <= _MOST_GROWTH * thing.sum():
        return joined
    # Too much to be a shadow: what is nearest to the thing.
    near = thing
    for _ in range(reach):
        wider = grow(near, 1) & (joined | thing)
        if (wider & ~thing).sum() > _MOST_GROWTH * thing.sum() or (wider == near).all():
            break
        near = wider
    return near & ~thing


def _means(rgb: FloatArray, known: BoolArray, radius: int) -> FloatArray:
    """Means (H, W, 3) of the known pixels in a square around each pixel; where there are none, the pixel itself."""
    weights = known.astype(np.float64)[..., None]
    total, count = _box_sum(rgb * weights, radius), _box_sum(weights, radius)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), rgb), np.float32)


def _box_sum(values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    for axis in (0, 1):
        sums = np.cumsum(np.moveaxis(values, axis, 0), axis=0)
        sums = np.concatenate([np.zeros_like(sums[:1]), sums])
        index = np.arange(values.shape[axis])
        upper = np.minimum(index + radius + 1, values.shape[axis])
        values = np.moveaxis(sums[upper] - sums[np.maximum(index - radius, 0)], 0, axis)
    return values


def decoy_of(key: str, painted: BoolArray, others: list[Box], share: float, gap: int = 0) -> BoolArray | None:
    """The painted mask moved, and perhaps mirrored, to where neither it nor any other thing is: a place that is painted
    anew although nothing stood there. Of all free places those at the thing's own height in the picture are drawn most
    often, as the ground there differs least. At least ``gap`` px away from the painted box. Where there is no room, a
    smaller one, then another height is tried. None for ``1 - share`` of the rows, and where there is no room at all."""
    draw = draw_of(key, "decoy")
    box = box_of(painted)
    if box is None or draw.random() >= share:
        return None
    x, y, w, h = box
    whole = painted[y : y + h, x : x + w]
    whole = whole[:, ::-1] if draw.random() < 0.5 else whole
    taken = np.zeros(painted.shape)
    for left, top, wide, high in others:
        taken[top : top + high, left : left + wide] = 1
    own = np.zeros(painted.shape)
    own[max(0, y - gap) : y + h + gap, max(0, x - gap) : x + w + gap] = 1
    for near in (True, False):
        for size in _DECOY_SIZES:
            part = _resized(whole, size)
            high, wide = part.shape
            free = (_sums(own, high, wide) == 0) & (_sums(taken, high, wide) <= _MOST_COVERED * high * wide)
            # Feet at one height: what stands on the same ground.
            away = (np.arange(free.shape[0]) + high - (y + h)) / (_NEAR * painted.shape[0])
            weights = np.where(free, np.exp(-0.5 * np.minimum(np.abs(away), _FAR) ** 2)[:, None], 0)
            if near:
                weights[np.abs(away) > _MOST_AWAY] = 0
            if not weights.any():
                continue
            place = int(draw.choice(weights.size, p=(weights / weights.sum()).ravel()))
            top, left = divmod(place, free.shape[1])
            decoy = np.zeros_like(painted)
            decoy[top : top + high, left : left + wide] = part
            return decoy
    return None


def _resized(mask: BoolArray, size: float) -> BoolArray:
    if size == 1:
        return mask
    shape = (max(1, round(mask.shape[0] * size)), max(1, round(mask.shape[1] * size)))
    return Mask(mask).to_latent(shape)


def _sums(values: NDArray[np.float64], high: int, wide: int) -> NDArray[np.float64]:
    """The sum of each window of that size, (H - high + 1, W - wide + 1)."""
    table = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    return np.asarray(table[high:, wide:] - table[:-high, wide:] - table[high:, :-wide] + table[:-high, :-wide])
