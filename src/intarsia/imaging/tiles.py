"""In which windows a frame around a picture is painted, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from intarsia.errors import KnobError
from intarsia.imaging.arrays import Size
from intarsia.imaging.window import Window

_SHARED = 0.25
"""Of its length along the frame, what a window shares at least with the one painted before it."""


def plan_tiles(canvas: Size, known: Window, side: int, least_known: float = 0.4) -> tuple[Window, ...]:
    """Windows of at most `side` pixels that cover the canvas (height, width) around the known rectangle.

    They go from the inside out: the rectangle grows by one band at a time, at the side with most left to grow, and
    a band is painted from its middle to its ends. In the order given, each window holds at least the share
    `least_known` of known pixels, those of earlier windows included, and something new.
    """
    if side < 2 or not 0 < least_known < 1:
        raise KnobError(f"side {side}, least known {least_known}: use 2 or more, and a share between 0 and 1")
    tiles: list[Window] = []
    while known.size != canvas:
        left = {
            "top": known.top,
            "left": known.left,
            "bottom": canvas[0] - known.top - known.height,
            "right": canvas[1] - known.left - known.width,
        }
        direction = max(left, key=lambda name: left[name])
        vertical = direction in ("top", "bottom")
        there, along = known.size if vertical else known.size[::-1]
        depth = min(side, math.floor(there / least_known), there + left[direction])
        new = min(left[direction], depth - math.ceil(least_known * depth))
        # A thin band is seen in as much of its surroundings as a thick one.
        band = _grown(known, direction, new, depth)
        tiles += _along(band, min(side, along), vertical)
        known = _grown(known, direction, new, there + new)
    return tuple(tiles)


def _grown(known: Window, direction: str, new: int, depth: int) -> Window:
    """The part of the known rectangle, grown by `new` in a direction, that is `depth` deep from its new edge."""
    if direction == "top":
        return replace(known, top=known.top - new, height=depth)
    if direction == "bottom":
        return replace(known, top=known.top + known.height + new - depth, height=depth)
    if direction == "left":
        return replace(known, left=known.left - new, width=depth)
    return replace(known, left=known.left + known.width + new - depth, width=depth)


def _along(band: Window, length: int, vertical: bool) -> Iterator[Window]:
    """The band in pieces of that length, evenly spread and overlapping, from the middle to the ends."""
    whole = band.width if vertical else band.height
    step = max(1, math.floor(length * (1 - _SHARED)))
    count = 1 + max(0, math.ceil((whole - length) / step))
    starts = [round(index * (whole - length) / max(1, count - 1)) for index in range(count)]
    for start in sorted(starts, key=lambda start: abs(2 * start + length - whole)):
        if vertical:
            yield replace(band, left=band.left + start, width=length)
        else:
            yield replace(band, top=band.top + start, height=length)
