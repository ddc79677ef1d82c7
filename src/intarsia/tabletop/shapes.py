"""Signed distances of the toys, each on 1-D coordinate tensors, origin on the table, about one unit high.

Formulas of the primitives are the usual exact or bounded signed distances (Quilez, "distance functions").
``k`` holds four proportions of the subject in [-1, 1] that no caption mentions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Proportions = tuple[Tensor, Tensor, Tensor, Tensor]
Distance = Callable[[Tensor, Tensor, Tensor, Proportions], tuple[Tensor, Tensor | None]]


def _length2(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y)


def _length3(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y + z * z)


def _smooth_union(a: Tensor, b: Tensor, k: float) -> Tensor:
    h = (0.5 + (b - a) * (0.5 / k)).clamp(0, 1)
    return b + (a - b) * h - k * h * (1 - h)


def _ellipsoid(
    x: Tensor, y: Tensor, z: Tensor, rx: Tensor | float, ry: Tensor | float, rz: Tensor | float
) -> Tensor:
    ax, ay, az = x / rx, y / ry, z / rz
    k0 = _length3(ax, ay, az)
    k1 = _length3(ax / rx, ay / ry, az / rz)
    return k0 * (k0 - 1) / k1.clamp_min(1e-6)


def _cylinder(r: Tensor, y: Tensor, radius: Tensor | float, half: Tensor | float, rounding: float) -> Tensor:
    dr = r - radius + rounding
    dy = y.abs() - half + rounding
    return torch.maximum(dr, dy).clamp_max(0) + _length2(dr.clamp_min(0), dy.clamp_min(0)) - rounding


def _box(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    bx: Tensor | float,
    by: Tensor | float,
    bz: Tensor | float,
    rounding: float,
) -> Tensor:
    qx, qy, qz = x.abs() - bx + rounding, y.abs() - by + rounding, z.abs() - bz + rounding
    inside = torch.maximum(torch.maximum(qx, qy), qz).clamp_max(0)
    return inside + _length3(qx.clamp_min(0), qy.clamp_min(0), qz.clamp_min(0)) - rounding


def _capsule(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    a: tuple[float, float, float],
    b: tuple[float, float, float],
    r1: float,
    r2: float,
) -> Tensor:
    bx, by, bz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    px, py, pz = x - a[0], y - a[1], z - a[2]
    h = ((px * bx + py * by + pz * bz) / (bx * bx + by * by + bz * bz)).clamp(0, 1)
    return _length3(px - h * bx, py - h * by, pz - h * bz) - (r1 + (r2 - r1) * h)


def _cone(r: Tensor, y: Tensor, low: Tensor | float, high: float, y0: float, y1: float) -> Tensor:
    t = ((y - y0) / (y1 - y0)).clamp(0, 1)
    side = (r - (low + (high - low) * t)) * 0.75
    return torch.maximum(side, (y - (y0 + y1) / 2).abs() - (y1 - y0) / 2)


def mug(x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> tuple[Tensor, Tensor | None]:
    radius, half = 0.36 * (1 + 0.14 * k[0]), 0.42 * (1 + 0.12 * k[1])
    r = _length2(x, z)
    body = _cylinder(r, y - half, radius, half, 0.05)
    hole = _cylinder(r, y - half - 0.13, radius - 0.07, half, 0.05)
    ring = 0.20 * (1 + 0.2 * k[2])
    handle = _length2(_length2(x - radius - 0.04, y - half) - ring, z) - 0.06
    handle = torch.maximum(handle, -(r - radius + 0.06))
    return torch.maximum(_smooth_union(body, handle, 0.04), -hole), None


def duck(x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> tuple[Tensor, Tensor | None]:
    body = _ellipsoid(x, y - 0.30, z, 0.44 * (1 + 0.1 * k[0]), 0.30, 0.34 * (1 + 0.1 * k[1]))
    tail = _ellipsoid(x + 0.40, y - 0.42, z, 0.16, 0.12, 0.12)
    head = _length3(x - 0.20, y - 0.70, z) - 0.24 * (1 + 0.1 * k[2])
    beak = _ellipsoid(x - 0.46, y - 0.66, z, 0.15, 0.05 * (1 + 0.3 * k[3]), 0.11)
    return _smooth_union(_smooth_union(body, tail, 0.1), head, 0.08), beak


def robot(x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> tuple[Tensor, Tensor | None]:
    width = 0.29 * (1 + 0.15 * k[0])
    body = _box(x, y - 0.42, z, width, 0.26, 0.20, 0.05)
    head = _box(x, y - 0.84, z, 0.21 * (1 + 0.15 * k[1]), 0.15, 0.17, 0.04)
    ax = x.abs()
    leg = _box(ax - 0.14, y - 0.10, z, 0.10, 0.12, 0.11, 0.03)
    arm = _capsule(ax - width + 0.28, y, z, (0.35, 0.58, 0.0), (0.42, 0.28, 0.06), 0.065, 0.065)
    antenna = torch.minimum(
        _length3(x, y - 1.10, z) - 0.05, _cylinder(_length2(x, z), y - 1.03, 0.022, 0.05, 0.01)
    )
    eye = _length3(ax - 0.09 - 0.02 * k[2], y - 0.87, z - 0.16) - 0.05
    limbs = torch.minimum(torch.minimum(leg, arm), antenna)
    return torch.minimum(torch.minimum(body, head), limbs), eye


def mushroom(x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> tuple[Tensor, Tensor | None]:
    wide = 0.46 * (1 + 0.12 * k[0])
    cap = torch.maximum(_ellipsoid(x, y - 0.48, z, wide, 0.38 * (1 + 0.1 * k[1]), wide), 0.44 - y)
    stem = _capsule(x, y, z, (0.0, 0.1, 0.0), (0.0, 0.46, 0.0), 0.17, 0.13) - 0.02 * k[2]
    foot = _ellipsoid(x, y - 0.06, z, 0.23, 0.08, 0.23)
    return cap, _smooth_union(stem, foot, 0.06)


def rocket(x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> tuple[Tensor, Tensor | None]:
    wide = 0.25 * (1 + 0.12 * k[0])
    body = torch.maximum(_ellipsoid(x, y - 0.60, z, wide, 0.52, wide), 0.16 - y)
    span = 0.42 * (1 + 0.1 * k[1])
    fins = torch.minimum(
        _box(x, y - 0.22, z, span, 0.17, 0.04, 0.02), _box(x, y - 0.22, z, 0.04, 0.17, span, 0.02)
    )
    porthole = _length3(x - 0.10, y - 0.74 - 0.05 * k[2], z - 0.19) - 0.08
    return _smooth_union(body, fins, 0.03), porthole


def teapot(x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> tuple[Tensor, Tensor | None]:
    wide = 0.46 * (1 + 0.1 * k[0])
    body = torch.maximum(_ellipsoid(x, y - 0.40, z, wide, 0.38 * (1 + 0.08 * k[1]), wide), 0.03 - y)
    spout = _capsule(x, y, z, (0.36, 0.34, 0.0), (0.74, 0.68, 0.0), 0.11, 0.055)
    handle = _length2(_length2(x + 0.46, y - 0.44) - 0.20 * (1 + 0.15 * k[2]), z) - 0.05
    lid = _smooth_union(_ellipsoid(x, y - 0.74, z, 0.24, 0.07, 0.24), _length3(x, y - 0.86, z) - 0.08, 0.03)
    return _smooth_union(_smooth_union(_smooth_union(body, spout, 0.06), handle, 0.03), lid, 0.02), None


def vase(x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> tuple[Tensor, Tensor | None]:
    t = y.clamp(0, 0.95) / 0.95
    radius = 0.20 + (0.16 + 0.04 * k[0]) * torch.sin(t * 3.3 + 0.2).clamp_min(0) - (0.06 + 0.03 * k[1]) * t**4
    r = _length2(x, z)
    body = torch.maximum(torch.maximum((r - radius) * 0.7, y - 0.95), -y)
    hole = _cylinder(r, y - 1.0, 0.13, 0.25, 0.02)
    return torch.maximum(body, -hole), None


def ball(x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> tuple[Tensor, Tensor | None]:
    radius = 0.40 * (1 + 0.08 * k[0])
    return _length3(x, y - radius, z) - radius, None


def car(x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> tuple[Tensor, Tensor | None]:
    long = 0.56 * (1 + 0.08 * k[0])
    body = _box(x, y - 0.28, z, long, 0.15, 0.26, 0.06)
    cabin = _box(x + 0.06, y - 0.52, z, 0.30 * (1 + 0.15 * k[1]), 0.16, 0.22, 0.07)
    wx, wz = x.abs() - 0.33, z.abs() - 0.24
    wheel = _cylinder(_length2(wx, y - 0.14), wz, 0.14, 0.06, 0.02)
    return _smooth_union(body, cabin, 0.04), wheel


def tree(x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> tuple[Tensor, Tensor | None]:
    r = _length2(x, z)
    low = 0.42 * (1 + 0.12 * k[0])
    crown = torch.minimum(_cone(r, y, low, 0.16, 0.20, 0.52), _cone(r, y, low * 0.8, 0.10, 0.46, 0.76))
    crown = torch.minimum(crown, _cone(r, y, low * 0.58, 0.02, 0.70, 1.02 + 0.0))
    trunk = _cylinder(r, y - 0.13, 0.09 * (1 + 0.2 * k[1]), 0.14, 0.02)
    return crown - 0.015, trunk


def hat(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    r = _length2(x, z)
    return torch.minimum(_cylinder(r, y - 0.02, 0.38, 0.03, 0.02), _cylinder(r, y - 0.20, 0.23, 0.19, 0.03))


def scarf(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    ring = _length2(_length2(x, z) - 0.27, y) - 0.085
    tail = _box(x - 0.10, y + 0.16, z - 0.30, 0.07, 0.16, 0.05, 0.03)
    return torch.minimum(ring, tail)


def bow(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    lobe = _ellipsoid(x.abs() - 0.19, y - 0.10, z, 0.19, 0.13, 0.10)
    return torch.minimum(lobe, _length3(x, y - 0.10, z) - 0.08)


Corner = tuple[float, float, float]

ACCESSORY_DISTANCES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "hat": hat,
    "scarf": scarf,
    "bow": bow,
}
_ACCESSORY_BOXES: dict[str, tuple[Corner, Corner]] = {
    "hat": ((-0.40, -0.03, -0.40), (0.40, 0.42, 0.40)),
    "scarf": ((-0.39, -0.35, -0.39), (0.39, 0.11, 0.39)),
    "bow": ((-0.40, -0.05, -0.12), (0.40, 0.25, 0.12)),
}


@dataclass(frozen=True)
class Shape:
    """A class's distance function and the places where accessories sit, in the toy's own units.

    ``top``: (x, y, scale) of things worn on top; ``neck``: (x, y, scale) of the scarf;
    ``low``/``high``: a box around the toy at any proportions; ``second``: the look of its second part.
    """

    distance: Distance
    top: Corner
    neck: Corner
    low: Corner
    high: Corner
    second: str = "none"


SHAPES: dict[str, Shape] = {
    "mug": Shape(mug, (0.0, 0.86, 0.90), (0.0, 0.42, 1.36), (-0.45, -0.02, -0.45), (0.77, 0.97, 0.45)),
    "duck": Shape(
        duck, (0.20, 0.90, 0.66), (0.16, 0.53, 0.92), (-0.59, -0.02, -0.40), (0.64, 1.00, 0.40), "beak"
    ),
    "robot": Shape(
        robot, (0.0, 0.97, 0.70), (0.0, 0.67, 0.88), (-0.57, -0.04, -0.24), (0.57, 1.17, 0.26), "dark"
    ),
    "mushroom": Shape(
        mushroom, (0.0, 0.82, 0.80), (0.0, 0.30, 0.74), (-0.54, -0.12, -0.54), (0.54, 0.92, 0.54), "cream"
    ),
    "rocket": Shape(
        rocket, (0.0, 1.04, 0.62), (0.0, 0.62, 0.98), (-0.49, 0.02, -0.49), (0.49, 1.14, 0.49), "glass"
    ),
    "teapot": Shape(teapot, (0.0, 0.88, 0.66), (0.0, 0.66, 1.06), (-0.78, -0.02, -0.54), (0.84, 0.97, 0.54)),
    "vase": Shape(vase, (0.0, 0.93, 0.70), (0.0, 0.80, 0.80), (-0.45, -0.02, -0.45), (0.45, 0.97, 0.45)),
    "ball": Shape(ball, (0.0, 0.79, 0.80), (0.0, 0.42, 1.55), (-0.47, -0.02, -0.47), (0.47, 0.89, 0.47)),
    "car": Shape(
        car, (-0.06, 0.66, 0.66), (0.0, 0.45, 1.25), (-0.64, -0.02, -0.33), (0.64, 0.73, 0.33), "dark"
    ),
    "tree": Shape(
        tree, (0.0, 0.98, 0.55), (0.0, 0.50, 1.05), (-0.52, -0.04, -0.52), (0.52, 1.07, 0.52), "bark"
    ),
}


def _seat(shape: Shape, accessory: str) -> Corner:
    return shape.neck if accessory == "scarf" else shape.top


def bounds(name: str, accessory: str) -> tuple[Corner, Corner]:
    """A box around a toy of any proportions with what it wears: its low and its high corner."""
    shape = SHAPES[name]
    if accessory == "none":
        return shape.low, shape.high
    ox, oy, scale = _seat(shape, accessory)
    (lx, ly, lz), (hx, hy, hz) = _ACCESSORY_BOXES[accessory]
    low, high = shape.low, shape.high
    return (
        (min(low[0], ox + lx * scale), min(low[1], oy + ly * scale), min(low[2], lz * scale)),
        (max(high[0], ox + hx * scale), max(high[1], oy + hy * scale), max(high[2], hz * scale)),
    )


def parts(
    name: str, accessory: str, x: Tensor, y: Tensor, z: Tensor, k: Proportions
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Distances (N,) to body, second part and accessory of one class at local points."""
    shape = SHAPES[name]
    body, second = shape.distance(x, y, z, k)
    if accessory == "none":
        return body, second, None
    ox, oy, scale = _seat(shape, accessory)
    worn = ACCESSORY_DISTANCES[accessory]((x - ox) / scale, (y - oy) / scale, z / scale) * scale
    return body, second, worn


def distance(name: str, accessory: str, x: Tensor, y: Tensor, z: Tensor, k: Proportions) -> Tensor:
    """Distance (N,) to the whole toy with what it wears."""
    body, second, worn = parts(name, accessory, x, y, z, k)
    if second is not None:
        body = torch.minimum(body, second)
    return body if worn is None else torch.minimum(body, worn)
