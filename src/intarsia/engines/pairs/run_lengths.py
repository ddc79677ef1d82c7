"""Masks as short texts: COCO's compressed run lengths, and polygons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from intarsia.engines.pairs.errors import InstanceError
from intarsia.perception import PerceptionError, from_rle, to_rle

BoolArray = NDArray[np.bool_]
_BITS, _SIGN, _MORE, _FIRST = 5, 0x10, 0x20, 48


def mask_text(mask: BoolArray) -> str:
    """ "HxW:" and COCO's compressed run lengths: column by column, each third and later run as the difference to the
    one two before it, in groups of five bits, lowest first, as characters from "0" on."""
    counts = to_rle(mask)["counts"]
    return f"{mask.shape[0]}x{mask.shape[1]}:{compress(counts)}"


def mask_of_text(text: str) -> BoolArray:
    """The mask of `mask_text`. Raises InstanceError."""
    try:
        size, _, runs = text.partition(":")
        height, width = (int(side) for side in size.split("x"))
    except ValueError as error:
        raise InstanceError("a mask's run lengths are malformed: list the instances again") from error
    return mask_of_runs({"size": [height, width], "counts": runs})


def mask_of_runs(rle: Mapping[str, Any]) -> BoolArray:
    """The mask of COCO's {size: [h, w], counts}, counts compressed (text) or not. Raises InstanceError."""
    counts = rle.get("counts")
    try:
        return from_rle({**rle, "counts": expand(counts) if isinstance(counts, str) else counts})
    except PerceptionError as error:
        raise InstanceError(str(error)) from error


def mask_of_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> BoolArray:
    """The union of polygons [x0, y0, x1, y1, …] in pixel-edge coordinates, on a picture of ``size`` (height, width).

    Raises InstanceError for a polygon that is none.
    """
    image = Image.new("1", (size[1], size[0]))
    pen = ImageDraw.Draw(image)
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2 or not all(isinstance(value, int | float) for value in polygon):
            raise InstanceError(f"a polygon of {len(polygon)} numbers is none: give x, y of three corners or more")
        # Pillow counts from the middles of pixels.
        points = [(x - 0.5, y - 0.5) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
        pen.polygon(points, fill=1)
    return np.array(image)


def compress(counts: Sequence[int]) -> str:
    """Run lengths as COCO's text."""
    letters: list[str] = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            group = value & 0x1F
            value >>= _BITS
            more = value != (-1 if group & _SIGN else 0)
            letters.append(chr((group | _MORE if more else group) + _FIRST))
    return "".join(letters)


def expand(text: str) -> list[int]:
    """The run lengths of COCO's text. Raises InstanceError."""
    counts: list[int] = []
    value, shift = 0, 0
    for letter in text:
        group = ord(letter) - _FIRST
        if not 0 <= group < 64:
            raise InstanceError(f"a mask's run lengths hold {letter!r}: give COCO's compressed text")
        value |= (group & 0x1F) << shift
        shift += _BITS
        if group & _MORE:
            continue
        value -= (1 << shift) if group & _SIGN else 0
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise InstanceError("a mask's run lengths end in the middle of a number: give COCO's whole text")
    return counts
