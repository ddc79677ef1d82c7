"""Scenes as flat tensors: one row per picture and one row per object, ready for batched rendering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from intarsia.tabletop.content import Camera, Scene
from intarsia.tabletop.shapes import SHAPES, bounds
from intarsia.tabletop.vocabulary import ACCESSORIES, CLASSES, COLOURS, MATERIALS, PATTERNS, TABLES

Rectangle = tuple[float, float, float, float]
"""left, top, right, bottom of a part of the picture, as fractions of its width and height."""

FULL: Rectangle = (0.0, 0.0, 1.0, 1.0)

CLASS_NAMES = tuple(CLASSES)
ACCESSORY_NAMES = tuple(ACCESSORIES)
PATTERN_NAMES = tuple(PATTERNS)
MATERIAL_NAMES = tuple(MATERIALS)
TABLE_NAMES = tuple(TABLES)
SECOND_COLOURS = {
    "none": (0.0, 0.0, 0.0),
    "beak": (0.95, 0.50, 0.05),
    "dark": (0.06, 0.06, 0.07),
    "cream": (0.88, 0.82, 0.70),
    "glass": (0.55, 0.75, 0.85),
    "bark": (0.30, 0.18, 0.09),
}
MARKS = 2


def camera_axes(camera: Camera) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Position, forward (times focal length), right and up of a camera, each (3,)."""
    position = torch.tensor(camera.position)
    forward = torch.tensor(camera.target) - position
    forward = forward / forward.norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0]))
    right = right / right.norm()
    return position, forward * camera.focal, right, torch.linalg.cross(right, forward)


def project(camera: Camera, point: tuple[float, float, float], aspect: float = 1.0) -> tuple[float, float]:
    """Where a world point falls in the picture, as fractions of its width and height."""
    position, forward, right, up = camera_axes(camera)
    ray = torch.tensor(point) - position
    depth = float(ray @ forward) / camera.focal**2
    return 0.5 + 0.5 * float(ray @ right) / depth / aspect, 0.5 - 0.5 * float(ray @ up) / depth


@dataclass
class Packed:
    """A batch of scenes. B pictures, M objects, at most K a picture."""

    position: Tensor  # (B, 3)
    forward: Tensor
    right: Tensor
    up: Tensor
    light: Tensor  # (B, 3), unit length
    ambient: Tensor  # (B,)
    table: Tensor  # (B,) index into TABLE_NAMES
    table_colour: Tensor  # (B, 3)
    wall_colour: Tensor  # (B, 3)
    objects: Tensor  # (B, K) row of each object, -1 where there is none
    number: Tensor  # (M,) place in its scene, from 1
    group: Tensor  # (M,) class and accessory
    groups: tuple[tuple[str, str], ...]
    pose: Tensor  # (M, 5): x, z, cos yaw, sin yaw, scale
    proportions: Tensor  # (M, 4)
    low: Tensor  # (M, 3) corners of the bounding box in the object's own frame
    high: Tensor
    centre: Tensor  # (M, 3) of the sphere around that box, in the world
    radius: Tensor  # (M,)
    colour: Tensor  # (M, 3)
    second_colour: Tensor  # (M, 3)
    part_colour: Tensor  # (M, 3)
    worn_colour: Tensor  # (M, 3)
    pattern: Tensor  # (M,)
    texture: Tensor  # (M, 2): frequency, phase
    material: Tensor  # (M,)
    marks: Tensor  # (M, MARKS, 3): angle, height, radius
    mark_colour: Tensor  # (M, 3)
    mushroom: Tensor  # (M,) bool


def pack(scenes: Sequence[Scene], device: str | torch.device = "cpu") -> Packed:
    """Tensors of a batch of scenes on one device."""
    placements = [(b, n, p) for b, s in enumerate(scenes) for n, p in enumerate(s.placements)]
    most = max((len(s.placements) for s in scenes), default=0)
    objects = torch.full((len(scenes), most), -1, dtype=torch.long)
    for row, (b, n, _) in enumerate(placements):
        objects[b, n] = row
    keys = sorted({(p.subject.name, p.subject.accessory) for _, _, p in placements})
    axes = [camera_axes(s.camera) for s in scenes]
    light = torch.tensor([s.light for s in scenes])
    subjects = [p.subject for _, _, p in placements]
    shapes = [SHAPES[s.name] for s in subjects]

    def rows(values: list[object], width: int | None = None, kind: torch.dtype = torch.float32) -> Tensor:
        shape = (len(placements),) if width is None else (len(placements), width)
        return torch.tensor(values, dtype=kind).reshape(shape)

    marks = torch.zeros(len(placements), MARKS, 3)
    for row, subject in enumerate(subjects):
        for m, mark in enumerate(subject.marks[:MARKS]):
            marks[row, m] = torch.tensor(mark)
    pose = rows([(p.x, p.z, math.cos(p.yaw), math.sin(p.yaw), p.scale) for _, _, p in placements], 5)
    boxes = [bounds(s.name, s.accessory) for s in subjects]
    low, high = rows([b[0] for b in boxes], 3), rows([b[1] for b in boxes], 3)
    cx, cy, cz = ((low + high) / 2 * pose[:, 4:5]).unbind(1)
    cos, sin = pose[:, 2], pose[:, 3]
    packed = Packed(
        position=torch.stack([a[0] for a in axes]),
        forward=torch.stack([a[1] for a in axes]),
        right=torch.stack([a[2] for a in axes]),
        up=torch.stack([a[3] for a in axes]),
        light=light / light.norm(dim=1, keepdim=True),
        ambient=torch.tensor([s.ambient for s in scenes]),
        table=torch.tensor([TABLE_NAMES.index(s.table) for s in scenes]),
        table_colour=torch.tensor([s.table_colour for s in scenes]),
        wall_colour=torch.tensor([s.wall_colour for s in scenes]),
        objects=objects,
        number=rows([n + 1 for _, n, _ in placements], kind=torch.long),
        group=rows([keys.index((s.name, s.accessory)) for s in subjects], kind=torch.long),
        groups=tuple(keys),
        pose=pose,
        proportions=rows([s.proportions for s in subjects], 4),
        low=low,
        high=high,
        centre=torch.stack([pose[:, 0] + cos * cx - sin * cz, cy, pose[:, 1] + sin * cx + cos * cz], 1),
        radius=(high - low).norm(dim=1) / 2 * pose[:, 4],
        colour=rows([COLOURS[s.colour] for s in subjects], 3),
        second_colour=rows([COLOURS[s.second_colour] for s in subjects], 3),
        part_colour=rows([SECOND_COLOURS[sh.second] for sh in shapes], 3),
        worn_colour=rows([COLOURS[s.accessory_colour] for s in subjects], 3),
        pattern=rows([PATTERN_NAMES.index(s.pattern) for s in subjects], kind=torch.long),
        texture=rows([(s.frequency, s.phase) for s in subjects], 2),
        material=rows([MATERIAL_NAMES.index(s.material) for s in subjects], kind=torch.long),
        marks=marks,
        mark_colour=rows([s.mark_colour for s in subjects], 3),
        mushroom=rows([s.name == "mushroom" for s in subjects], kind=torch.bool),
    )
    for name, value in vars(packed).items():
        if isinstance(value, Tensor):
            setattr(packed, name, value.to(device))
    return packed
