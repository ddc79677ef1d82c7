"""Removals by an inpainting model, several at a time: windows of different photos in one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intarsia.errors import NonFiniteError
from intarsia.imaging import Mask, Window, fill_hole
from intarsia.sampling import Guidance, Stage, StageInput, make_generators, make_scheduler, plan_stages, run_stages

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.backbones import Backbone
    from intarsia.conditioning import Conditioning

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Size = tuple[int, int]


@dataclass(frozen=True)
class PaintSettings:
    """How holes are painted; the fields are those of `EditRequest`."""

    steps: int
    guidance_scale: float
    scheduler: str
    lam: float
    local_share: float | None
    local_margin: float
    local_minimum_fraction: float
    context_share: float | None
    start: str


@dataclass(frozen=True, eq=False)
class Hole:
    """A scene (H, W, 3) in [0, 1], what of it is painted anew (H, W), and the seed."""

    scene: FloatArray
    mask: BoolArray
    negative: Conditioning
    seed: int


def paint_holes(
    backbone: Backbone, holes: Sequence[Hole], positive: Conditioning, settings: PaintSettings, batch: int
) -> list[FloatArray]:
    """The scenes with their painted windows in them (H, W, 3), in [0, 1]: the windows, stages and sampling of
    `editing.paint`, in batches. Unlike there, no detail of the first stage is kept under the second one's, the context
    window is not joined with the local one, and between the stages the mask is pasted with a hard edge.

    Holes whose windows are painted at equal sizes share a batch. A batch is filled up to ``batch`` samples with copies
    of its last one, so that a hole's pixels do not depend on how many others are painted with it: a small batch wastes
    little where sizes differ.

    Raises:
        NonFiniteError: NaN or infinity from the model.
    """
    painted: dict[int, FloatArray] = {}
    groups: dict[tuple[Size, Size, int], list[int]] = defaultdict(list)
    plans = [_Plan.of(backbone, hole, settings) for hole in holes]
    for number, plan in enumerate(plans):
        groups[(*plan.sizes, len(plan.stages))].append(number)
    for numbers in groups.values():
        for part in _parts(numbers, batch):
            filled = [*part, *[part[-1]] * (batch - len(part))]
            results = _paint(backbone, [holes[n] for n in filled], [plans[n] for n in filled], positive, settings)
            painted |= dict(zip(part, results, strict=False))
    return [painted[number] for number in range(len(holes))]


@dataclass(frozen=True)
class _Plan:
    """Windows and their sizes at the model, for the stages "local" and "global"."""

    windows: dict[str, Window]
    sizes: tuple[Size, Size]
    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, backbone: Backbone, hole: Hole, settings: PaintSettings) -> _Plan:
        mask = Mask(hole.mask)
        around: dict[str, Any] = {"margin": settings.local_margin}
        local = Window.around(
            mask.box,
            mask.size,
            share=settings.local_share,
            minimum_fraction=settings.local_minimum_fraction,
            **around,
        )
        whole = Window.full(mask.size)
        if settings.context_share is not None:
            whole = Window.around(mask.box, mask.size, share=settings.context_share, **around)
        lam = 1.0 if local == whole and settings.lam > 0 else settings.lam
        sizes = [window.native_size(backbone.native_size, backbone.size_multiple) for window in (local, whole)]
        stages = tuple(plan_stages(settings.steps, lam))
        return cls({"local": local, "global": whole}, (sizes[0], sizes[1]), stages)

    def size(self, name: str) -> Size:
        return self.sizes[0 if name == "local" else 1]


def _paint(
    backbone: Backbone, holes: Sequence[Hole], plans: Sequence[_Plan], positive: Conditioning, settings: PaintSettings
) -> list[FloatArray]:
    from intarsia.conditioning import Conditioning

    def crop(stage: Stage, scenes: list[FloatArray]) -> StageInput:
        images, masks, fills = [], [], []
        for hole, plan, scene in zip(holes, plans, scenes, strict=True):
            window, size = plan.windows[stage.name], plan.size(stage.name)
            image = window.read(scene, size)
            inside = Mask(window.crop(hole.mask)).to_latent(size)
            images.append(image * 2 - 1)
            masks.append(inside[..., None].astype(np.float32))
            fills.append(fill_hole(image, inside) * 2 - 1)
        parts = [_tensor(values).to(backbone.device) for values in (images, masks, fills)]
        return StageInput(image=parts[0], mask=parts[1], fill=parts[2])

    def paste(stage: Stage, scenes: list[FloatArray], pictures: Tensor) -> list[FloatArray]:
        arrays = (pictures.float().cpu().numpy().transpose(0, 2, 3, 1) + 1) / 2
        if not np.isfinite(arrays).all():
            raise NonFiniteError(
                f"the model painted NaN or infinity in the {stage.name} stage; load it in float32 or bfloat16"
            )
        pasted = []
        for hole, plan, scene, picture in zip(holes, plans, scenes, arrays, strict=True):
            window = plan.windows[stage.name]
            whole = window.write(scene, picture)
            pasted.append(whole if stage is stages[-1] else np.where(hole.mask[..., None], whole, scene))
        return pasted

    import torch

    negative = Conditioning(
        torch.cat([hole.negative.tokens for hole in holes]), torch.cat([hole.negative.pooled for hole in holes])
    )
    stages = plans[0].stages
    result = run_stages(
        backbone,
        make_scheduler(backbone, settings.scheduler),
        stages,
        [hole.scene for hole in holes],
        crop,
        paste,
        positive=positive,
        negative=negative,
        generators=make_generators([hole.seed for hole in holes]),
        steps=settings.steps,
        guidance=Guidance(settings.guidance_scale),
        start="fill" if settings.start == "fill" else "noise",
    )
    return result.scene


def _tensor(values: Sequence[FloatArray]) -> Tensor:
    """(H, W, C) each -> (B, C, H, W)"""
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.stack(values).transpose(0, 3, 1, 2), dtype=np.float32))


def _parts(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
