"""Chains of edits, each painted into the last one's result: does anything change where nobody painted?"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from intarsia.editing import Studio
from intarsia.evaluation.cases import Bools, photos_of
from intarsia.evaluation.miniature import within
from intarsia.imaging import Picture
from intarsia.result import EditResult
from intarsia.tabletop import Level, Subject, split_seed

LINKS = 10
_WAYS = ("text", "reference", "both", "remove")


def random_mask(height: int, width: int, draw: random.Random) -> Bools:
    """A box, a bulge, or thin strokes of one to three pixels."""
    image = Image.new("L", (width, height))
    pen = ImageDraw.Draw(image)
    shape = draw.choice(("box", "bulge", "strokes"))
    if shape == "strokes":
        for _ in range(draw.randint(1, 3)):
            points = [(draw.randrange(width), draw.randrange(height)) for _ in range(draw.randint(2, 4))]
            pen.line(points, fill=255, width=draw.randint(1, 3))
    else:
        x, y = draw.randrange(width - 1), draw.randrange(height - 1)
        corners = (x, y, x + draw.randint(1, width // 2), y + draw.randint(1, height // 2))
        (pen.rectangle if shape == "box" else pen.ellipse)(corners, fill=255)
    mask = np.asarray(image, np.uint8) > 0
    if not mask.any():  # an ellipse can be thinner than a pixel
        mask = mask.copy()
        mask[draw.randrange(height), draw.randrange(width)] = True
    return mask


def changed_in_chain(studio: Studio, world: Level, seed: int, links: int = LINKS, **options: Any) -> int:
    """How many channel values change that may not, in one chain of random edits.

    Each edit is compared with the picture before it, outside its support; the end with the beginning, outside the
    union of all supports. A support counts only as far as the mask, its growth and the feather may reach, so one that
    is reported too large is no excuse. ``options`` go to every edit with a reference.
    """
    draw = random.Random(f"chain-{seed}")
    numbers = np.random.default_rng(draw.randrange(2**31))
    height, width = draw.randint(40, 160), draw.randint(40, 160)
    kind = draw.choice((np.uint8, np.uint16))
    pixels = numbers.integers(0, np.iinfo(kind).max + 1, (height, width, draw.choice((1, 2, 3, 4))), dtype=kind)
    subject = Subject.sample(split_seed("test", 400_000 + seed), world)
    photo, silhouette = photos_of([subject], world, 1, side=64)[0][0]
    shown = {"reference": Picture.from_array(photo), "reference_mask": silhouette, **options}
    first = Picture.from_array(pixels)
    scene: Picture | EditResult = first
    ways = [_WAYS[link % len(_WAYS)] for link in range(links)]
    draw.shuffle(ways)
    changed, union = 0, np.zeros((height, width), bool)
    for way in ways:
        mask = random_mask(height, width, draw)
        settings: dict[str, Any] = {
            "steps": draw.randint(1, 3),
            "seed": draw.randrange(2**31),
            "preset": draw.choice(("paper", "default")),
            "feather": draw.randint(0, 6),
            "growth": draw.randint(0, 6),
        }
        before = _pixels(scene)
        if way == "remove":
            result = studio.remove(scene, mask=mask, **settings)
        else:
            prompt = "" if way == "reference" else draw.choice(("a red mug", "a blue duck", f"a {subject.name}"))
            settings |= shown if way != "text" else {}
            result = studio.insert(scene, mask=mask, prompt=prompt, **settings)
        reach = _box(mask) if result.recipe.request.mask_shape == "box" else mask
        support = result.support & within(reach, settings["growth"] + settings["feather"])
        changed += int((_pixels(result) != before)[~support].sum())
        union |= support
        scene = result
    return changed + int((_pixels(scene) != _pixels(first))[~union].sum())


def _box(mask: Bools) -> Bools:
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    filled = np.zeros_like(mask)
    filled[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] = True
    return filled


def _pixels(scene: Picture | EditResult) -> Any:
    picture = scene.picture if isinstance(scene, EditResult) else scene
    return np.asarray(picture.pixels)
