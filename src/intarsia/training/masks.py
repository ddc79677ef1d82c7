"""Training masks around an object, from the coarsest to the finest shape a user may draw."""

from __future__ import annotations

import math
import random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Bools = npt.NDArray[np.bool_]
SHAPES = ("box", "bulge", "silhouette", "scribble")


def bounding_box(mask: Bools) -> tuple[int, int, int, int]:
    """left, top, right, bottom (exclusive) of a mask that is not empty."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def _grown_box(mask: Bools, draw: random.Random, most: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = bounding_box(mask)
    w, h = right - left, bottom - top
    return (
        left - draw.uniform(0, most) * w,
        top - draw.uniform(0, most) * h,
        right + draw.uniform(0, most) * w,
        bottom + draw.uniform(0, most) * h,
    )


def _canvas(size: tuple[int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (size[1], size[0]), 0)
    return image, ImageDraw.Draw(image)


def box_mask(mask: Bools, draw: random.Random) -> Bools:
    """A box around the object with up to 25 % to spare on each side."""
    image, pen = _canvas(mask.shape)
    left, top, right, bottom = _grown_box(mask, draw, 0.25)
    pen.rectangle((round(left), round(top), round(right) - 1, round(bottom) - 1), fill=255)
    return np.asarray(image) > 127


def bulge_mask(mask: Bools, draw: random.Random) -> Bools:
    """A box whose sides bulge outwards by quadratic Bézier curves with jitter (DreamMix's mask augmentation)."""
    image, pen = _canvas(mask.shape)
    left, top, right, bottom = _grown_box(mask, draw, 0.06)
    push, jitter = draw.uniform(0.05, 0.5), draw.uniform(0, 0.03) * max(right - left, bottom - top)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    outward = [(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]
    points = []
    for (ax, ay), (bx, by), (nx, ny) in zip(corners, corners[1:] + corners[:1], outward, strict=True):
        cx = (ax + bx) / 2 + nx * push * (right - left)
        cy = (ay + by) / 2 + ny * push * (bottom - top)
        for n in range(12):
            t = n / 12
            x = (1 - t) ** 2 * ax + 2 * t * (1 - t) * cx + t * t * bx
            y = (1 - t) ** 2 * ay + 2 * t * (1 - t) * cy + t * t * by
            points.append((x + draw.uniform(-jitter, jitter), y + draw.uniform(-jitter, jitter)))
    pen.polygon(points, fill=255)
    return (np.asarray(image) > 127) | mask


def silhouette_mask(mask: Bools, draw: random.Random) -> Bools:
    """The object's own outline, grown by a few pixels."""
    grow = 2 * draw.randint(1, max(2, mask.shape[0] // 20)) + 1
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(grow))) > 127


def scribble_mask(mask: Bools, draw: random.Random) -> Bools:
    """Thick strokes to and fro over the object, as a hand would brush it; nearly all of it is covered."""
    image, pen = _canvas(mask.shape)
    left, top, right, bottom = bounding_box(mask)
    width = max(4.0, max(right - left, bottom - top) * draw.uniform(0.22, 0.4))
    turn = draw.uniform(-0.5, 0.5) + (math.pi / 2 if draw.random() < 0.5 else 0.0)
    cos, sin = math.cos(turn), math.sin(turn)
    cx, cy, reach = (left + right) / 2, (top + bottom) / 2, math.hypot(right - left, bottom - top) / 2
    ys, xs = np.nonzero(mask)
    along, across = (xs - cx) * cos + (ys - cy) * sin, (ys - cy) * cos - (xs - cx) * sin
    points, side, at = [], 1, -reach
    while at < reach:
        near = np.abs(across - at) < width / 2
        if near.any():
            low, high = along[near].min(), along[near].max()
            for u in (low, high) if side > 0 else (high, low):
                v = at + draw.uniform(-0.15, 0.15) * width
                points.append((cx + u * cos - v * sin, cy + u * sin + v * cos))
            side = -side
        at += width * 0.7
    pen.line(points, fill=255, width=round(width), joint="curve")
    for x, y in points:
        pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return np.asarray(image) > 127


def draw_mask(shape: str, silhouette: Bools, draw: random.Random) -> Bools:
    """A mask (H, W) of one of :data:`SHAPES` for an object's visible silhouette."""
    makers = {"box": box_mask, "bulge": bulge_mask, "silhouette": silhouette_mask, "scribble": scribble_mask}
    return makers[shape](silhouette, draw)
