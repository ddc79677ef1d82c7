"""Places in words, of a grid of three by three cells."""

from __future__ import annotations

import re

import numpy as np

from intarsia.perception.errors import PerceptionError
from intarsia.perception.helpers import BoolArray, Box

PLACES = (
    "the top left",
    "the top",
    "the top right",
    "the left",
    "the center",
    "the right",
    "the bottom left",
    "the bottom",
    "the bottom right",
)
"""What the cells of the grid are called, row by row; said after "at"."""

_BEYOND = 0.125
_ROWS = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}
_COLUMNS = {"left": 0, "right": 2}
_CELL = r"top|upper|bottom|lower|left|right|cent(?:er|re)|middle"
PLACE = re.compile(
    r"[\s,]*\b(?:at(?:\s+the)?|(?:on|in|to|into|towards?|near)\s+the)\s+(?:very\s+|far\s+|extreme\s+)?"
    rf"(?P<one>{_CELL})(?:[\s-]+(?P<two>{_CELL}))?(?:[\s-]+hand)?"
    r"(?:\s+(?:side|corner|edge|part|half|third|area|end))?"
    r"(?:\s+of\s+(?:the|this)\s+(?:picture|image|photo|scene|frame|canvas|table|desk|room|floor))?"
    r"(?=\s*$|\s*[,.;!?]|\s+(?:and|with|wearing|on|in|next|near|behind|a|an|one|two|some|add|put|place|insert|draw|"
    r"include)\b)",
    re.I,
)
"""A place in an instruction: "at the left", "in the top right corner of the picture". Groups for `cell_number`."""


class PlaceError(PerceptionError):
    """Words that name none of `PLACES`."""


def place_of(mask: BoolArray) -> str:
    """Which of `PLACES` the middle (centroid) of a mask (H, W) is in.

    Raises:
        PerceptionError: an empty mask.
    """
    ys, xs = np.nonzero(mask)
    if not len(ys):
        raise PerceptionError("an empty mask is nowhere; give one that marks something")
    row = int((ys.mean() + 0.5) * 3 / mask.shape[0])
    return PLACES[3 * row + int((xs.mean() + 0.5) * 3 / mask.shape[1])]


def place_box(phrase: str, size: tuple[int, int]) -> Box:
    """The cell (x, y, w, h) of a place in words in a picture of ``size`` (height, width), both at least 3.

    Raises:
        PlaceError: no such place, or a picture without so many pixels.
    """
    row, column = divmod(cell_of(phrase), 3)
    if min(size) < 3:
        raise PlaceError(f"a picture of {size[1]}x{size[0]} px has no nine places; use a larger one")
    (top, bottom), (left, right) = (
        (index * side // 3, (index + 1) * side // 3) for index, side in ((row, size[0]), (column, size[1]))
    )
    return left, top, right - left, bottom - top


def place_region(phrase: str, size: tuple[int, int]) -> BoolArray:
    """Where a thing at a place in words may reach, (height, width): the column, the row or the corner that is named, or
    the middle; wider by an eighth of the picture, for its middle is meant."""
    inside = np.ones(size, bool)
    cells = divmod(cell_of(phrase), 3)
    for axis, cell in enumerate(cells):
        if cell == 1 and cells[1 - axis] != 1:
            continue
        at = (np.arange(size[axis]) + 0.5) / size[axis]
        near = (at > cell / 3 - _BEYOND) & (at < (cell + 1) / 3 + _BEYOND)
        inside &= near[:, None] if axis == 0 else near[None]
    return inside


def cell_of(phrase: str) -> int:
    """The number in `PLACES` of a place in words, like "the left", "at the upper right corner", "top-left"."""
    found = PLACE.match("at " + re.sub(r"^\s*(?:(?:at|on|in|to)\s+)?(?:the\s+)?", "", phrase.lower()).strip())
    if found is None:
        raise PlaceError(f"{phrase!r} is no place; use one of {', '.join(PLACES)}")
    return cell_number(found)


def cell_number(found: re.Match[str]) -> int:
    """The number in `PLACES` of a match of `PLACE`."""
    words = [word.lower() for word in (found["one"], found["two"]) if word]
    row = next((_ROWS[word] for word in words if word in _ROWS), 1)
    return 3 * row + next((_COLUMNS[word] for word in words if word in _COLUMNS), 1)
