"""The painter: colours and a mask in, repainted colours out. One scene, one seed, one model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from intarsia.editing.detail import add_lost_detail
from intarsia.editing.pictures import FloatArray
from intarsia.errors import NonFiniteError
from intarsia.imaging import Mask, Window, fill_hole
from intarsia.request import PRESETS, EditRequest
from intarsia.result import StageRecord
from intarsia.sampling import (
    DenoiseStep,
    Guidance,
    ReferenceBranch,
    Stage,
    StageInput,
    late_start,
    make_generators,
    make_scheduler,
    plan_stages,
    run_stages,
)

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.backbones import Backbone
    from intarsia.conditioning import Conditioning, ScheduledConditioning

PaintProgress = Callable[[int, int], None]
"""Called with (steps done, all steps)."""


@dataclass(frozen=True)
class PaintOptions:
    """What `EditRequest` says about sampling; the fields' meanings are there."""

    steps: int
    guidance_scale: float
    guidance_mode: Literal["joint", "apart"]
    reference_guidance_scale: float
    guidance_rescale: float
    guidance_interval: tuple[float, float]
    scheduler: str
    lam: float
    local_share: float | None
    local_margin: float
    local_minimum_fraction: float
    context_share: float | None
    start: Literal["fill", "noise"]
    keep_detail: bool
    feather: int

    @classmethod
    def of(cls, request: EditRequest) -> PaintOptions:
        """The options in a request."""
        return cls(**{name: getattr(request, name) for name in cls.__dataclass_fields__})

    @classmethod
    def preset(cls, name: str = "default", **changes: Any) -> PaintOptions:
        """The options of a preset, some of them changed."""
        values = {**PRESETS[name], **changes}
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    @property
    def guidance(self) -> Guidance:
        """How words, and where there is one the reference, are guided."""
        apart = self.reference_guidance_scale if self.guidance_mode == "apart" else None
        return Guidance(self.guidance_scale, self.guidance_rescale, self.guidance_interval, apart)


@dataclass(frozen=True, eq=False)
class Painted:
    """`rgb`: float32 (H, W, 3), the whole scene with the last window's decoded picture in it, not composited
    yet.
    """

    rgb: FloatArray
    stages: tuple[StageRecord, ...]


@dataclass(frozen=True)
class Plan:
    """The windows of both stages, the sizes they are painted at, and the steps of each."""

    windows: dict[str, Window]
    sizes: dict[str, tuple[int, int]]
    stages: tuple[Stage, ...]


def plan(backbone: Backbone, mask: Mask, options: PaintOptions, strength: float = 1.0) -> Plan:
    """Which windows are painted at which sizes in which steps; `strength`: see `late_start`.

    The local window is adaptive (`local_share`) or the paper's; the global one is the scene, or
    (`context_share`) a larger window around the mask. Where both are the same, all steps go to the local
    one.
    """
    local = Window.around(
        mask.box,
        mask.size,
        margin=options.local_margin,
        share=options.local_share,
        minimum_fraction=options.local_minimum_fraction,
    )
    whole = Window.full(mask.size)
    if options.context_share is not None:
        share = min(options.context_share, options.local_share or 1.0)
        whole = _union(local, Window.around(mask.box, mask.size, margin=options.local_margin, share=share))
    windows = {"local": local, "global": whole}
    sizes = {
        name: window.native_size(backbone.native_size, backbone.size_multiple)
        for name, window in windows.items()
    }
    lam = 1.0 if local == whole and options.lam > 0 else options.lam
    return Plan(windows, sizes, tuple(late_start(plan_stages(options.steps, lam), strength)))


def paint(
    backbone: Backbone,
    rgb: FloatArray,
    mask: NDArray[np.bool_],
    *,
    positive: Conditioning | ScheduledConditioning,
    negative: Conditioning | None,
    options: PaintOptions,
    seed: int,
    reference: ReferenceBranch | None = None,
    draft: FloatArray | None = None,
    strength: float = 1.0,
    progress: PaintProgress | None = None,
) -> Painted:
    """Repaint the mask (H, W) of a scene (H, W, 3) in [0, 1] by the disentangled local-global framework (eq.
    3-6). `reference`: what the model sees of reference photos, in both windows. `draft` (H, W, 3): what stands in the
    mask already; painting starts from it, at the noise of the steps that `strength` leaves.

    Everything random comes from one generator made from `seed`. Neither the scene nor the model is changed.

    Raises:
        NonFiniteError: NaN or infinity from the model. EmptyMaskError: nothing to paint. SamplingError: bad
        settings.
    """
    area = Mask(mask)
    chosen = plan(backbone, area, options, strength)
    started = None if draft is None else np.where(mask[..., None], draft, np.asarray(rgb, np.float32))
    weights = area.feather(options.feather)[..., None]
    device = backbone.device
    pictures: dict[str, FloatArray] = {}

    def crop(stage: Stage, scene: FloatArray) -> StageInput:
        window, size = chosen.windows[stage.name], chosen.sizes[stage.name]
        image = window.read(scene, size)
        hole = Mask(window.crop(mask)).to_latent(size)
        return StageInput(
            image=to_tensor(image).to(device),
            mask=to_tensor(hole[..., None].astype(np.float32), signed=False).to(device),
            fill=to_tensor(fill_hole(image, hole) if started is None else window.read(started, size)).to(device),
        )

    def paste(stage: Stage, scene: FloatArray, picture: Tensor) -> FloatArray:
        window, result = chosen.windows[stage.name], scene.copy()
        part, weight = window.crop(result), window.crop(weights)
        pictures[stage.name] = to_array(picture)
        new = np.clip(Window.resize(pictures[stage.name], window.size), 0.0, 1.0)
        part[...] = weight * new + (1 - weight) * part
        return result

    done = 0

    def count(_stage: Stage, _step: DenoiseStep) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, options.steps - chosen.stages[0].start)

    run_stages(
        backbone,
        make_scheduler(backbone, options.scheduler),
        chosen.stages,
        np.asarray(rgb, np.float32),
        crop,
        paste,
        positive=positive,
        negative=negative,
        generators=make_generators([seed]),
        steps=options.steps,
        guidance=options.guidance,
        start=options.start,
        reference=reference,
        callback=count,
    )
    for name, picture in pictures.items():
        if not np.isfinite(picture).all():
            raise NonFiniteError(
                f"the model painted NaN or infinity in the {name} stage; load it in float32, or try another seed"
            )
    last = chosen.stages[-1].name
    painted = chosen.windows[last].write(rgb, pictures[last])
    if options.keep_detail and last == "global" and "local" in pictures:
        painted = add_lost_detail(
            painted,
            pictures["local"],
            chosen.windows["local"],
            chosen.windows["global"],
            chosen.sizes["global"],
        )
    return Painted(painted, tuple(_record(stage, chosen) for stage in chosen.stages))


def seam_ring(stages: tuple[StageRecord, ...], feather: int, latent_factor: int) -> int:
    """Width in scene pixels of the ring for `match_seam`: past the feather, and two latent cells (of
    `latent_factor` painted pixels) wide.
    """
    last = stages[-1]
    scale = max(last.window[2] / last.size[0], last.window[3] / last.size[1])
    return max(feather + 1, math.ceil(2 * latent_factor * scale))


def to_tensor(values: FloatArray, *, signed: bool = True) -> Tensor:
    """(H, W, C) in [0, 1] -> (1, C, H, W), in [-1, 1] if `signed`."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]
    return tensor * 2 - 1 if signed else tensor


def to_array(picture: Tensor) -> FloatArray:
    """(1, 3, H, W) in [-1, 1] -> float32 (H, W, 3) in [0, 1], not clipped."""
    array: FloatArray = picture[0].float().cpu().numpy().transpose(1, 2, 0)
    return np.asarray((array + 1) / 2, np.float32)


def _union(first: Window, second: Window) -> Window:
    top, left = min(first.top, second.top), min(first.left, second.left)
    bottom = max(first.top + first.height, second.top + second.height)
    right = max(first.left + first.width, second.left + second.width)
    return Window(top, left, bottom - top, right - left)


def _record(stage: Stage, chosen: Plan) -> StageRecord:
    window = chosen.windows[stage.name]
    return StageRecord(
        name=stage.name,
        start=stage.start,
        end=stage.end,
        window=(window.top, window.left, window.height, window.width),
        size=chosen.sizes[stage.name],
    )
