"""A pair as the U-Net trains on it: cropped with its aspect kept, mirrored, with its instructions."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from intarsia.training.instruct_recipe import InstructRecipe
from intarsia.training.masks import bounding_box
from intarsia.training.pair_rows import Bools, Pair, Pixels

PlaceOf = Callable[[Bools], str]


@dataclass(frozen=True, eq=False)
class PairView:
    """``source`` and ``target`` (side, side, 3) uint8, ``mask`` (side, side) bool; ``plain``: the instructions there
    are, ``placed``: the same with the place, () where it is not known."""

    source: Pixels
    target: Pixels
    mask: Bools
    plain: tuple[str, ...]
    placed: tuple[str, ...]


def view_of(
    pair: Pair, recipe: InstructRecipe, side: int, draw: random.Random, place_of: PlaceOf | None = None
) -> PairView:
    """A random view. Both pictures are cut and resized alike, in one step from the file's pixels.

    ``place_of`` says where a mask is; then the words speak of the view, else they are the row's, of the whole picture.
    """
    if draw.random() < recipe.flip:
        pair = pair.mirrored()
    box = crop_box(pair.mask, draw.uniform(*recipe.zoom), draw)
    source, target = (_cut(a, box, side, Image.Resampling.LANCZOS) for a in (pair.source, pair.target))
    mask = _cut(pair.mask.astype(np.uint8) * 255, box, side, Image.Resampling.BOX) > 0
    plain = tuple(text for text in pair.instructions if text)
    place = place_of(mask) if place_of is not None and mask.any() else pair.location
    return PairView(source, target, mask, plain, tuple(at(text, place) for text in plain) if place else ())


def at(text: str, place: str) -> str:
    """The instruction with a place: "add a mug." and "the top left" make "add a mug at the top left"."""
    return f"{text.rstrip(' .!')} at {place}"


def crop_box(mask: Bools, zoom: float, draw: random.Random) -> tuple[float, float, float, float]:
    """left, top, right, bottom of a square whose side is the shorter one divided by ``zoom``, or larger where the
    object needs it; it holds the object wherever that is possible, for an instruction must not ask for what is not
    there."""
    height, width = mask.shape
    left, top, right, bottom = bounding_box(mask) if mask.any() else (0, 0, 0, 0)
    side = min(max(min(height, width) / zoom, right - left, bottom - top), min(height, width))
    x = _start(left, right, side, width, draw, free=not mask.any())
    y = _start(top, bottom, side, height, draw, free=not mask.any())
    return x, y, x + side, y + side


def _start(first: int, last: int, side: float, whole: int, draw: random.Random, *, free: bool) -> float:
    low, high = 0.0, whole - side
    if not free:
        # An object longer than the crop is cut within itself.
        a, b = sorted((last - side, float(first)))
        low, high = max(low, a), min(high, b)
    return draw.uniform(low, max(low, high))


def _cut(pixels: Pixels, box: tuple[float, float, float, float], side: int, resampling: Image.Resampling) -> Pixels:
    return np.array(Image.fromarray(pixels).resize((side, side), resampling, box=box))
