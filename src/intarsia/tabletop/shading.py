"""What a point looks like: tables, walls, patterns, marks and the four materials."""

from __future__ import annotations

import torch
from torch import Tensor

from intarsia.tabletop.packing import MARKS, MATERIAL_NAMES, PATTERN_NAMES, TABLE_NAMES, Packed
from intarsia.tabletop.shapes import parts
from intarsia.tabletop.tracing import Local


def _soft(edge: Tensor, sharpness: float) -> Tensor:
    return torch.sigmoid(edge * sharpness)


def _wood(colour: Tensor, x: Tensor, z: Tensor) -> Tensor:
    grain = torch.sin(x * 2.0 + torch.sin(z * 32) * 1.0) * 0.5 + torch.sin(z * 43 + torch.sin(x * 1.6) * 2) * 0.5
    plank = torch.remainder((z * 1.6).floor() * 0.37, 1.0) - 0.5
    return colour * (1 + 0.07 * grain + 0.16 * plank)[:, None]


def _cloth(colour: Tensor, x: Tensor, z: Tensor) -> Tensor:
    check = (_soft(torch.sin(x * 7), 24) * 0.5 + _soft(torch.sin(z * 7), 24) * 0.5)[:, None]
    return colour * (1 - check) + 0.92 * check


def _marble(colour: Tensor, x: Tensor, z: Tensor) -> Tensor:
    wave = torch.sin(x * 3 + 2 * torch.sin(z * 2.3) + torch.sin(x * 5.1 + z * 3.7))
    vein = wave.abs().clamp_max(0.25)[:, None]
    return 0.80 * (0.6 + 1.6 * vein) * (0.6 + 0.4 * colour / colour.mean(1, keepdim=True))


_TABLES = {"wood": _wood, "cloth": _cloth, "marble": _marble}


def table_albedo(packed: Packed, picture: Tensor, point: Tensor) -> Tensor:
    """Albedo (N, 3) of table points."""
    out = packed.table_colour[picture]
    kind = packed.table[picture]
    for name, paint in _TABLES.items():
        mine = (kind == TABLE_NAMES.index(name)).nonzero()[:, 0]
        if len(mine):
            out[mine] = paint(out[mine], point[mine, 0], point[mine, 2])
    return out


def sky(direction: Tensor, light: Tensor) -> Tensor:
    """Radiance (N, 3) that reflections see above the horizon."""
    height = direction[:, 1:2].clamp(-1, 1)
    base = torch.tensor([0.75, 0.82, 0.90], device=direction.device) * (0.50 + 0.50 * height)
    window = _soft((direction * light).sum(1, keepdim=True) - 0.80, 18)
    return base + 0.55 * window


def pattern_mask(packed: Packed, objects: Tensor, q: Tensor) -> Tensor:
    """How much (N,) of the second colour shows at local points ``q`` (N, 3)."""
    kind = packed.pattern[objects]
    frequency, phase = packed.texture[objects].unbind(1)
    angle = torch.atan2(q[:, 2], q[:, 0])
    y = q[:, 1]
    striped = _soft(torch.sin(y * 19 * frequency + phase), 9)
    rows = y * 4.6 * frequency + phase
    u = angle * (6 / 6.2831853) + 0.5 * torch.remainder(rows.round(), 2)
    dotted = _soft(0.31 - torch.sqrt((u - u.round()) ** 2 + (rows - rows.round()) ** 2), 22)
    checked = _soft(torch.sin(angle * 4 + phase) * torch.sin(y * 11 * frequency + phase), 14)
    tooth = (torch.remainder(angle * (7 / 6.2831853) + phase, 1.0) - 0.5).abs() * 2
    zigzag = _soft(torch.sin(y * 17 * frequency + phase + tooth * 2.6), 9)
    out = torch.zeros_like(y)
    for name, value in (("striped", striped), ("dotted", dotted), ("checked", checked), ("zigzag", zigzag)):
        out = torch.where(kind == PATTERN_NAMES.index(name), value, out)
    return out


def surface(packed: Packed, objects: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """Albedo (N, 3) and material index (N,) of object points: body with pattern and marks, part, accessory."""
    albedo = torch.zeros_like(point)
    material = packed.material[objects].clone()
    group = packed.group[objects]
    q = torch.zeros_like(point)
    part = torch.zeros(len(objects), dtype=torch.long, device=point.device)
    for g, (name, accessory) in enumerate(packed.groups):
        mine = (group == g).nonzero()[:, 0]
        if not len(mine):
            continue
        local = Local.of(packed, objects[mine])
        x, y, z = local.coordinates(*point[mine].unbind(1))
        body, second, worn = parts(name, accessory, x, y, z, local.k)
        far = torch.full_like(body, 1e3)
        stacked = torch.stack([body, far if second is None else second, far if worn is None else worn], 1)
        part[mine] = stacked.argmin(1)
        q[mine] = torch.stack([x, y, z], 1)
    mask = pattern_mask(packed, objects, q)[:, None]
    albedo = packed.colour[objects] * (1 - mask) + packed.second_colour[objects] * mask
    angle = torch.atan2(q[:, 2], q[:, 0])
    for m in range(MARKS):
        at, height, radius = packed.marks[objects, m].unbind(1)
        turn = torch.remainder(angle - at + torch.pi, 2 * torch.pi) - torch.pi
        away = torch.sqrt((turn * 0.36) ** 2 + (q[:, 1] - height) ** 2)
        shown = (_soft(radius - away, 70) * (radius > 0))[:, None]
        albedo = albedo * (1 - shown) + packed.mark_colour[objects] * shown
    albedo = torch.where((part == 1)[:, None], packed.part_colour[objects], albedo)
    albedo = torch.where((part == 2)[:, None], packed.worn_colour[objects], albedo)
    clay = MATERIAL_NAMES.index("clay")
    return albedo, torch.where(part > 0, torch.full_like(material, clay), material)


def shade_ground(
    packed: Packed,
    picture: Tensor,
    point: Tensor,
    normal: Tensor,
    is_table: Tensor,
    shadow: Tensor,
    open_sky: Tensor,
) -> Tensor:
    """Linear radiance (N, 3) of table and wall points."""
    albedo = packed.wall_colour[picture] * (1 - 0.08 * (point[:, 1:2] - 0.8).abs())
    table = is_table.nonzero()[:, 0]
    albedo[table] = table_albedo(packed, picture[table], point[table])
    direct = (normal * packed.light[picture]).sum(1).clamp_min(0) * shadow * 0.75
    ambient = (0.35 + 0.25 * normal[:, 1]) * open_sky * packed.ambient[picture]
    return albedo * (ambient + direct)[:, None]


def shade_object(
    packed: Packed,
    picture: Tensor,
    objects: Tensor,
    point: Tensor,
    normal: Tensor,
    ray: Tensor,
    behind: Tensor,
    shadow: Tensor,
    open_sky: Tensor,
) -> Tensor:
    """Linear radiance (N, 3) of object points; ``behind`` (N, 3) is what glass lets through."""
    albedo, material = surface(packed, objects, point)
    light = packed.light[picture]
    facing = (ray * normal).sum(1, keepdim=True)
    reflected = ray - 2 * facing * normal
    fresnel = (1 + facing).clamp(0, 1) ** 4
    lit = (normal * light).sum(1, keepdim=True).clamp_min(0) * shadow[:, None]
    ambient = (0.34 + 0.2 * normal[:, 1:2]) * (open_sky * packed.ambient[picture])[:, None]
    half = light - ray
    half = half / half.norm(dim=1, keepdim=True).clamp_min(1e-6)
    gloss = (normal * half).sum(1, keepdim=True).clamp_min(0)
    down = _soft(-reflected[:, 1:2], 30)
    mirror = sky(reflected, light) * (1 - down) + packed.table_colour[picture] * 0.55 * down
    shine = shadow[:, None]
    clay = albedo * (ambient + 0.80 * lit)
    glossy = albedo * (ambient + 0.75 * lit) + 0.55 * gloss**70 * shine + mirror * (0.05 + 0.5 * fresnel)
    contrast = mirror * mirror * 1.25
    metal = (albedo * 0.88 + 0.12) * contrast + albedo * 0.12 * (ambient + lit) + 0.9 * gloss**50 * shine
    glass = behind * (0.30 + 0.70 * albedo) * 0.82 + albedo * 0.16 * (ambient + 0.6 * lit)
    glass = glass + 0.9 * gloss**90 + mirror * (0.05 + 0.85 * fresnel)
    out = clay
    for name, value in (("glossy", glossy), ("metal", metal), ("glass", glass)):
        out = torch.where((material == MATERIAL_NAMES.index(name))[:, None], value, out)
    return out


def tone(radiance: Tensor) -> Tensor:
    """Linear radiance → display values in [0, 1]."""
    radiance = radiance.clamp_min(0)
    return (radiance / (1 + 0.18 * radiance)).clamp(0, 1).sqrt()
