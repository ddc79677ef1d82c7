"""Batched rendering: rays → colours and object numbers, with extra samples only where edges are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from intarsia.errors import IntarsiaError
from intarsia.tabletop.content import Scene
from intarsia.tabletop.packing import FULL, MATERIAL_NAMES, Packed, Rectangle, pack
from intarsia.tabletop.shading import shade_ground, shade_object, tone
from intarsia.tabletop.tracing import FAR, first_hits, light_reaching, normals

_WALL_Z = -2.2
_EDGE = 0.10
_SUBPIXELS = ((-0.25, -0.25), (0.25, -0.25), (0.0, 0.25))
_CHUNK_CPU = 1 << 21


@dataclass(frozen=True)
class Rendering:
    """``images`` (B, 3, H, W) in [0, 1]; ``numbers`` (B, H, W): which placement is seen, from 1, 0 = none."""

    images: Tensor
    numbers: Tensor

    def visible(self, index: int) -> Tensor:
        """Exact visible mask (B, H, W) of the placement at ``index`` in each scene."""
        return self.numbers == index + 1


def _nearest(count: int, rows: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Of several hits a ray, the nearest: rows of the hits kept and of their rays."""
    best = torch.full((count,), FAR, device=t.device).scatter_reduce(0, rows, t, "amin")
    kept = (t <= best[rows]).nonzero()[:, 0]
    order = torch.full((count,), -1, dtype=torch.long, device=t.device)
    order[rows[kept]] = kept
    hit = (order >= 0).nonzero()[:, 0]
    return order[hit], hit


def trace(packed: Packed, picture: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (N, 3) and object numbers (N,) along rays of picture rows ``picture`` at screen places u, v."""
    origin = packed.position[picture]
    ray = packed.forward[picture] + packed.right[picture] * u[:, None] + packed.up[picture] * v[:, None]
    ray = ray / ray.norm(dim=1, keepdim=True)
    down = ray[:, 1] < -1e-4
    t_table = torch.where(down, -origin[:, 1] / torch.where(down, ray[:, 1], -1.0), FAR)
    away = ray[:, 2] < -1e-4
    t_wall = torch.where(away, (_WALL_Z - origin[:, 2]) / torch.where(away, ray[:, 2], -1.0), FAR)
    t_ground = torch.minimum(t_table, t_wall).clamp_max(60.0)
    rows, objects, t = first_hits(packed, picture, origin, ray, t_ground)

    clear = packed.material[objects] == MATERIAL_NAMES.index("glass") if len(objects) else objects.bool()
    solid_hit, solid_ray = _nearest(len(ray), rows[~clear], t[~clear])
    solid_object = objects[~clear][solid_hit]
    t_solid = t_ground.clone()
    t_solid[solid_ray] = t[~clear][solid_hit]
    glass_hit, glass_ray = _nearest(len(ray), rows[clear], t[clear])
    glass_object, t_glass = objects[clear][glass_hit], t[clear][glass_hit]
    front = t_glass < t_solid[glass_ray]
    glass_ray, glass_object, t_glass = glass_ray[front], glass_object[front], t_glass[front]

    point = origin + ray * t_solid[:, None]
    is_table = t_table <= t_wall
    normal = torch.zeros_like(point)
    normal[:, 1] = is_table.float()
    normal[:, 2] = (~is_table).float()
    normal[solid_ray] = normals(packed, solid_object, point[solid_ray])
    glass_point = origin[glass_ray] + ray[glass_ray] * t_glass[:, None]
    glass_normal = normals(packed, glass_object, glass_point)
    shadow, open_sky = light_reaching(
        packed,
        torch.cat([picture, picture[glass_ray]]),
        torch.cat([point, glass_point]),
        torch.cat([normal, glass_normal]),
    )
    n = len(ray)
    colour = torch.zeros_like(point)
    bare = torch.ones(n, dtype=torch.bool, device=ray.device)
    bare[solid_ray] = False
    ground = bare.nonzero()[:, 0]
    colour[ground] = shade_ground(
        packed, picture[ground], point[ground], normal[ground], is_table[ground], shadow[ground], open_sky[ground]
    )
    if len(solid_ray):
        colour[solid_ray] = shade_object(
            packed, picture[solid_ray], solid_object, point[solid_ray], normal[solid_ray], ray[solid_ray],
            colour[solid_ray], shadow[solid_ray], open_sky[solid_ray],
        )  # fmt: skip
    number = torch.zeros(n, dtype=torch.long, device=ray.device)
    number[solid_ray] = packed.number[solid_object]
    if len(glass_ray):
        colour[glass_ray] = shade_object(
            packed, picture[glass_ray], glass_object, glass_point, glass_normal, ray[glass_ray],
            colour[glass_ray], shadow[n:], open_sky[n:],
        )  # fmt: skip
        number[glass_ray] = packed.number[glass_object]
    return tone(colour), number


def render(
    scenes: Sequence[Scene],
    size: tuple[int, int],
    rectangles: Sequence[Rectangle] | None = None,
    *,
    antialias: bool = True,
    device: str | torch.device = "cpu",
) -> Rendering:
    """Render scenes, each through a rectangle of its full picture.

    ``size``: (height, width) of the result; the full picture has the same aspect. ``rectangles``: parts of the
    picture to fill the frame with (a real zoom: the camera stays where it is). Sizes below 1 are an IntarsiaError,
    and so are no scenes at all.
    """
    height, width = size
    if height < 1 or width < 1:
        raise IntarsiaError(
            f"cannot render a picture of {height}x{width} pixels; both sides must be at least 1"
        )
    rectangles = [FULL] * len(scenes) if rectangles is None else list(rectangles)
    if not scenes or len(rectangles) != len(scenes):
        raise IntarsiaError(
            f"cannot render {len(scenes)} scenes through {len(rectangles)} rectangles; give one or more, and one each"
        )
    packed = pack(scenes, device)
    aspect = width / height
    frame = torch.tensor(rectangles, device=device, dtype=torch.float32)

    def place(picture: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        left, top, right, bottom = frame[picture].unbind(1)
        u = left + (right - left) * (column + 0.5) / width
        v = top + (bottom - top) * (row + 0.5) / height
        return (2 * u - 1) * aspect, 1 - 2 * v

    def run(picture: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        colours, numbers = [], []
        chunk = _CHUNK_CPU if torch.device(device).type == "cpu" else 1 << 22
        for start in range(0, len(picture), chunk):
            part = picture[start : start + chunk]
            u, v = place(part, row[start : start + chunk], column[start : start + chunk])
            colour, number = trace(packed, part, u, v)
            colours.append(colour)
            numbers.append(number)
        return torch.cat(colours), torch.cat(numbers)

    with torch.inference_mode():
        index = torch.arange(len(scenes) * height * width, device=device)
        picture = index // (height * width)
        row = (index // width % height).float()
        column = (index % width).float()
        colour, number = run(picture, row, column)
        images = colour.reshape(len(scenes), height, width, 3)
        numbers = number.reshape(len(scenes), height, width)
        if antialias:
            edge = torch.zeros(images.shape[:3], dtype=torch.bool, device=device)
            for axis in (1, 2):
                length = images.shape[axis] - 1
                a, b = images.narrow(axis, 0, length), images.narrow(axis, 1, length)
                step = (a - b).abs().amax(3) > _EDGE
                edge.narrow(axis, 0, length).logical_or_(step)
                edge.narrow(axis, 1, length).logical_or_(step)
            at = edge.reshape(-1).nonzero()[:, 0]
            if len(at):
                total = torch.zeros(len(at), 3, device=device)
                for dx, dy in _SUBPIXELS:
                    total += run(picture[at], row[at] + dy, column[at] + dx)[0]
                images.reshape(-1, 3)[at] = total / len(_SUBPIXELS)
    return Rendering(images.permute(0, 3, 1, 2).contiguous().clone(), numbers.clone())
