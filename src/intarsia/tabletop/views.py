"""Windows of the full picture: where an object is in it, and zooms onto it."""

from __future__ import annotations

import math
import random

from intarsia.tabletop.content import Scene
from intarsia.tabletop.packing import FULL, Rectangle, project
from intarsia.tabletop.shapes import bounds


def object_frame(scene: Scene, index: int) -> Rectangle:
    """The rectangle around a placement's bounding box in the picture, as fractions (may reach outside)."""
    place = scene.placements[index]
    low, high = bounds(place.subject.name, place.subject.accessory)
    cos, sin = math.cos(place.yaw), math.sin(place.yaw)
    corners = []
    for x in (low[0], high[0]):
        for y in (max(low[1], 0.0), high[1]):
            for z in (low[2], high[2]):
                world = (
                    place.x + (cos * x - sin * z) * place.scale,
                    y * place.scale,
                    place.z + (sin * x + cos * z) * place.scale,
                )
                corners.append(project(scene.camera, world))
    us, vs = [c[0] for c in corners], [c[1] for c in corners]
    return min(us), min(vs), max(us), max(vs)


def zoom_window(scene: Scene, index: int, share: float, draw: random.Random) -> Rectangle:
    """A square window in which the object's longer side fills about ``share``, a little off-centre."""
    left, top, right, bottom = object_frame(scene, index)
    side = max(right - left, bottom - top) / share
    if side >= 1.0:
        return FULL
    slack = side * (1 - share) * 0.5
    x = (left + right - side) / 2 + draw.uniform(-0.7, 0.7) * slack
    y = (top + bottom - side) / 2 + draw.uniform(-0.7, 0.7) * slack
    x, y = min(max(x, 0.0), 1 - side), min(max(y, 0.0), 1 - side)
    return x, y, x + side, y + side
