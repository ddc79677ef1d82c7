"""Sphere tracing of bounded toys: where rays meet them, how much light and sky reaches a point.

Rays are only ever tested against the objects whose bounding sphere they meet, and all pairs of one class
and accessory are marched together (Hart 1996, "Sphere tracing"; penumbra as in Quilez, "soft shadows").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from intarsia.tabletop.packing import Packed
from intarsia.tabletop.shapes import distance

HIT = 2e-3
FAR = 1e3
_STEPS = 36
_SHADOW_STEPS = 14
_OCCLUSION = ((0.05, 1.6), (0.15, 0.8), (0.30, 0.5))


@dataclass
class Local:
    """World points in one object's own frame: a fixed affine map per row, kept as 1-D tensors."""

    x0: Tensor
    z0: Tensor
    cos: Tensor
    sin: Tensor
    scale: Tensor
    k: tuple[Tensor, Tensor, Tensor, Tensor]

    @staticmethod
    def of(packed: Packed, rows: Tensor) -> Local:
        pose, k = packed.pose[rows], packed.proportions[rows]
        x0, z0, cos, sin, scale = pose.unbind(1)
        k0, k1, k2, k3 = k.unbind(1)
        return Local(x0, z0, cos, sin, scale, (k0, k1, k2, k3))

    def take(self, keep: Tensor) -> Local:
        k0, k1, k2, k3 = (part[keep] for part in self.k)
        return Local(
            self.x0[keep], self.z0[keep], self.cos[keep], self.sin[keep], self.scale[keep], (k0, k1, k2, k3)
        )

    def coordinates(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        px, pz = x - self.x0, z - self.z0
        s = 1 / self.scale
        return (self.cos * px + self.sin * pz) * s, y * s, (self.cos * pz - self.sin * px) * s


def _slab(packed: Packed, obj: Tensor, origin: Tensor, ray: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Entry and exit distance (N,) of rays through their object's own box, grown by a margin in world units."""
    local = Local.of(packed, obj)
    o = torch.stack(local.coordinates(*origin.unbind(1)), 1)
    dx, dy, dz = ray.unbind(1)
    s = 1 / local.scale
    d = torch.stack([(local.cos * dx + local.sin * dz) * s, dy * s, (local.cos * dz - local.sin * dx) * s], 1)
    d = torch.where(d.abs() < 1e-7, torch.full_like(d, 1e-7), d)
    grow = (margin * s)[:, None]
    a, b = (packed.low[obj] - grow - o) / d, (packed.high[obj] + grow - o) / d
    return torch.minimum(a, b).amax(1), torch.maximum(a, b).amin(1)


def _pairs(packed: Packed, picture: Tensor, origin: Tensor, ray: Tensor, margin: float) -> tuple[Tensor, ...]:
    """(ray, object) pairs whose box is met: ray rows, object rows, entry and exit distance."""
    if not packed.objects.shape[1]:  # nothing stands anywhere
        none, nowhere = picture[:0], origin[:0, 0]
        return none, none, nowhere, nowhere
    rays, objects, entries, exits = [], [], [], []
    for k in range(packed.objects.shape[1]):
        obj = packed.objects[picture, k]
        # The sphere around the box is the cheap first test; rows without an object get object 0 and are dropped.
        to = packed.centre[obj.clamp_min(0)] - origin
        along = (to * ray).sum(1)
        radius = packed.radius[obj.clamp_min(0)] + margin
        under = radius * radius - ((to * to).sum(1) - along * along)
        near = ((under > 0) & (along + radius > 0) & (obj >= 0)).nonzero()[:, 0]
        obj = obj[near]
        entry, exit_ = _slab(packed, obj, origin[near], ray[near], margin)
        meets = ((entry < exit_) & (exit_ > 0)).nonzero()[:, 0]
        rays.append(near[meets])
        objects.append(obj[meets])
        entries.append(entry[meets].clamp_min(0.0))
        exits.append(exit_[meets])
    return torch.cat(rays), torch.cat(objects), torch.cat(entries), torch.cat(exits)


def first_hits(
    packed: Packed, picture: Tensor, origin: Tensor, ray: Tensor, limit: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """All places nearer than ``limit`` (N,) where rays meet objects: ray rows, object rows, distances."""
    rows, objects, entry, exit_ = _pairs(packed, picture, origin, ray, 0.0)
    exit_ = torch.minimum(exit_, limit[rows])
    t = torch.full_like(entry, FAR)
    group = packed.group[objects] if len(objects) else objects
    for g, (name, accessory) in enumerate(packed.groups):
        mine = ((group == g) & (entry < exit_)).nonzero()[:, 0]
        if not len(mine):
            continue
        o, d = origin[rows[mine]], ray[rows[mine]]
        ox, oy, oz = o.unbind(1)
        dx, dy, dz = d.unbind(1)
        local = Local.of(packed, objects[mine])
        here, end = entry[mine], exit_[mine]
        for step in range(_STEPS):
            gap = distance(
                name, accessory, *local.coordinates(ox + dx * here, oy + dy * here, oz + dz * here), local.k
            )
            gap = gap * local.scale
            here = torch.where(gap > HIT, here + gap * 0.92, here)
            if step % 4 == 3 or step == _STEPS - 1:
                done = gap <= HIT
                t[mine[done]] = here[done]
                keep = (~done & (here < end)).nonzero()[:, 0]
                if not len(keep):
                    break
                mine, here, end, local = mine[keep], here[keep], end[keep], local.take(keep)
                ox, oy, oz, dx, dy, dz = (v[keep] for v in (ox, oy, oz, dx, dy, dz))
    hit = (t < FAR).nonzero()[:, 0]
    return rows[hit], objects[hit], t[hit]


def normals(packed: Packed, objects: Tensor, point: Tensor) -> Tensor:
    """Unit surface normals (N, 3) by the tetrahedron differences of the distance."""
    out = torch.zeros_like(point)
    group = packed.group[objects]
    corners = ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0))
    e = 1.5e-3
    for g, (name, accessory) in enumerate(packed.groups):
        mine = (group == g).nonzero()[:, 0]
        if not len(mine):
            continue
        local = Local.of(packed, objects[mine])
        x, y, z = point[mine].unbind(1)
        nx, ny, nz = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
        for cx, cy, cz in corners:
            gap = distance(name, accessory, *local.coordinates(x + e * cx, y + e * cy, z + e * cz), local.k)
            nx, ny, nz = nx + cx * gap, ny + cy * gap, nz + cz * gap
        out[mine] = torch.stack([nx, ny, nz], 1)
    unit: Tensor = out / out.norm(dim=1, keepdim=True).clamp_min(1e-8)
    return unit


def light_reaching(packed: Packed, picture: Tensor, point: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Soft shadow (N,) and ambient occlusion (N,), both 1 where nothing is in the way."""
    light = packed.light[picture]
    origin = point + normal * 0.012
    clear = torch.ones(len(point), device=point.device)
    rows, objects, entry, exit_ = _pairs(packed, picture, origin, light, 0.06)
    facing = (normal * light).sum(1)[rows] > 0
    group = packed.group[objects]
    dark = torch.ones(len(rows), device=point.device)
    for g, (name, accessory) in enumerate(packed.groups):
        mine = ((group == g) & facing).nonzero()[:, 0]
        if not len(mine):
            continue
        local = Local.of(packed, objects[mine])
        ox, oy, oz = origin[rows[mine]].unbind(1)
        dx, dy, dz = light[rows[mine]].unbind(1)
        t, end = entry[mine].clamp_min(0.02), exit_[mine]
        result = torch.ones_like(t)
        for step in range(_SHADOW_STEPS):
            gap = distance(
                name, accessory, *local.coordinates(ox + dx * t, oy + dy * t, oz + dz * t), local.k
            )
            gap = gap * local.scale
            result = torch.minimum(result, 9 * gap / t)
            t = t + gap.clamp(0.035, 0.30)
            if step % 4 == 3:
                dark[mine] = result
                keep = ((result > 0.005) & (t < end)).nonzero()[:, 0]
                if not len(keep):
                    break
                mine, t, end, result, local = mine[keep], t[keep], end[keep], result[keep], local.take(keep)
                ox, oy, oz, dx, dy, dz = (v[keep] for v in (ox, oy, oz, dx, dy, dz))
        else:
            dark[mine] = result
    dark = dark.clamp(0, 1)
    dark = dark * dark * (3 - 2 * dark)
    shadow = clear.scatter_reduce(0, rows, dark, "amin")
    # Ambient occlusion only matters close to an object's box.
    open_sky = torch.ones(len(point), device=point.device)
    for k in range(packed.objects.shape[1]):
        obj = packed.objects[picture, k]
        away = (packed.centre[obj.clamp_min(0)] - point).norm(dim=1) < packed.radius[obj.clamp_min(0)] + 0.1
        there = (away & (obj >= 0)).nonzero()[:, 0]
        o = obj[there]
        local = Local.of(packed, o)
        q = torch.stack(local.coordinates(*point[there].unbind(1)), 1)
        outside = torch.maximum(packed.low[o] - q, q - packed.high[o]).amax(1) * local.scale
        near_box = (outside < 0.2).nonzero()[:, 0]
        there, o = there[near_box], o[near_box]
        group = packed.group[o]
        for g, (name, accessory) in enumerate(packed.groups):
            mine = (group == g).nonzero()[:, 0]
            if not len(mine):
                continue
            local = Local.of(packed, o[mine])
            x, y, z = point[there[mine]].unbind(1)
            nx, ny, nz = normal[there[mine]].unbind(1)
            near = torch.zeros_like(x)
            for h, weight in _OCCLUSION:
                gap = distance(
                    name, accessory, *local.coordinates(x + nx * h, y + ny * h, z + nz * h), local.k
                )
                near = near + (h - gap * local.scale).clamp_min(0) * weight
            open_sky[there[mine]] -= near
    return shadow, open_sky.clamp(0.25, 1)
