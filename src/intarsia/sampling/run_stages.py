"""Run the stages: paint in a window, paste into the scene, go on in the next window (eq. 3-6)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, get_args

from intarsia.sampling.denoise import Denoised, DenoiseStep, PromptEmbedding, denoise
from intarsia.sampling.errors import SamplingError
from intarsia.sampling.guidance import Guidance
from intarsia.sampling.inputs import latent_mask, masked_image
from intarsia.sampling.known_region import KnownNoise, KnownRegion
from intarsia.sampling.noise import draw_noise, start_latents
from intarsia.sampling.prompt_memory import PromptMemory
from intarsia.sampling.schedulers import set_steps
from intarsia.sampling.stages import Stage

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from intarsia.backbones import Backbone
    from intarsia.sampling.reference import ReferenceBranch

Scene = TypeVar("Scene")
Start = Literal["noise", "fill"]
KnownSource = Literal["original", "pasted"]


@dataclass(frozen=True, eq=False)
class StageInput:
    """What the caller cut out of the scene for one stage, at the size the stage is painted at.

    image: (1 or B, 3, H, W) in [-1, 1]. mask: (1 or B, 1, H, W), 1 = repaint. fill: the image with its hole
    filled from around it. Where the original scene is encoded (`start="fill"`, known region), the fill is
    taken if there is one, so that nothing of what the hole held leaks through the VAE.
    """

    image: Tensor
    mask: Tensor
    fill: Tensor | None = None


@dataclass(frozen=True, eq=False)
class StageOutput:
    """What one stage made: `picture` (B, 3, H, W) is its decoded x0 (of the last step: its final latent)."""

    stage: Stage
    input: StageInput
    result: Denoised
    picture: Tensor


@dataclass(frozen=True, eq=False)
class StagesResult(Generic[Scene]):
    """The scene after the last paste, and every stage's output in order."""

    scene: Scene
    stages: tuple[StageOutput, ...]


class StagePrompt(Protocol):
    """Gives each stage its conditioning; `intarsia.conditioning.ScheduledConditioning` is one."""

    def for_stage(self, stage: str, /) -> PromptEmbedding: ...


def run_stages(
    backbone: Backbone,
    scheduler: Any,
    stages: Sequence[Stage],
    scene: Scene,
    crop: Callable[[Stage, Scene], StageInput],
    paste: Callable[[Stage, Scene, Tensor], Scene],
    *,
    positive: PromptEmbedding | StagePrompt,
    negative: PromptEmbedding | StagePrompt | None,
    generators: Sequence[Generator],
    steps: int,
    guidance: Guidance | None = None,
    start: Start = "noise",
    known_source: KnownSource = "pasted",
    blend_before: bool = True,
    blend_after: bool = True,
    known_noise: KnownNoise = "fresh",
    reference: ReferenceBranch | None = None,
    remember_prompts: bool = True,
    callback: Callable[[Stage, DenoiseStep], None] | None = None,
) -> StagesResult[Scene]:
    """The disentangled local-global framework, with geometry left to the caller.

    The scene is whatever the caller likes (one for all samples, or one each). `crop(stage, scene)` cuts a
    stage's window out of a scene (eq. 3); `paste(stage, scene, picture)` puts a decoded window (B, 3, H, W)
    back (eq. 4) and returns a new scene. Between stages the last x0 is decoded and pasted, and the next
    window is encoded and noised to its first step: x = add_noise(Enc(x^G), noise, t_switch).

    Args:
        start: the first stage starts from pure "noise", or from its "fill" noised to its first step. A plan
            that starts later than step 0 always starts from the fill (or the image, where no fill is given).
        known_source: the known region of later stages is encoded from the "pasted" scene (eq. 6) or the
            "original". The masked-image condition always comes from the original, so it never sees what was
            painted.
        blend_before, blend_after, known_noise: see `KnownRegion`; both off means no known region.
        generators: one per sample, used for everything random, in a fixed order.
        reference: see `denoise`; begins and ends with every stage.
        remember_prompts: see `PromptMemory`; the picture is the same without.

    Raises:
        SamplingError: no stages, stages with gaps or beyond `steps`, unknown options, or inputs of a wrong
            shape.
    """
    _check(stages, steps, start, known_source)
    original, outputs = scene, []
    memory = PromptMemory(backbone.unet, enabled=remember_prompts)
    with memory:
        for index, stage in enumerate(stages):
            source = crop(stage, original)
            current = source if index == 0 else crop(stage, scene)
            for given in (source, current):
                _check_input(backbone, stage, given, len(generators))
            output = _run_stage(
                backbone,
                scheduler,
                stage,
                source,
                current,
                positive=_of_stage(positive, stage),
                negative=None if negative is None else _of_stage(negative, stage),
                generators=generators,
                steps=steps,
                guidance=guidance,
                from_noise=index == 0 and stage.start == 0 and start == "noise",
                known=current if known_source == "pasted" else source,
                blend=(blend_before, blend_after, known_noise),
                reference=reference,
                memory=memory,
                callback=callback,
            )
            outputs.append(output)
            scene = paste(stage, scene, output.picture)
    return StagesResult(scene, tuple(outputs))


def _run_stage(
    backbone: Backbone,
    scheduler: Any,
    stage: Stage,
    source: StageInput,
    current: StageInput,
    *,
    positive: PromptEmbedding,
    negative: PromptEmbedding | None,
    generators: Sequence[Generator],
    steps: int,
    guidance: Guidance | None,
    from_noise: bool,
    known: StageInput,
    blend: tuple[bool, bool, KnownNoise],
    reference: ReferenceBranch | None,
    memory: PromptMemory,
    callback: Callable[[Stage, DenoiseStep], None] | None,
) -> StageOutput:
    import torch

    before, after, known_noise = blend
    with torch.no_grad():
        mask = latent_mask(source.mask, backbone.latent_factor).to(backbone.device)
        masked = None
        if backbone.kind == "inpaint":
            masked = backbone.encode(masked_image(source.image, source.mask)).float()
        cells = (backbone.latent_channels, *mask.shape[-2:])
        ready = set_steps(copy.deepcopy(scheduler), steps, stage.start)
        noise = draw_noise(generators, cells, backbone.device)
        # The fill stands in for the hole of the original; the pasted scene holds the painted picture itself.
        clean = None if from_noise else _encode(backbone, current, prefer_fill=current is source)
        region = None
        if before or after:
            held = clean if known is current else None
            if held is None:
                held = _encode(backbone, known, prefer_fill=known is source)
            region = KnownRegion(held, before, after, known_noise)
        result = denoise(
            backbone,
            scheduler,
            start_latents(ready, noise, clean, step=stage.start),
            mask=mask,
            masked_image_latents=masked,
            positive=positive,
            negative=negative,
            generators=generators,
            steps=steps,
            start=stage.start,
            end=stage.end,
            guidance=guidance,
            known=region,
            reference=reference,
            memory=memory,
            callback=None if callback is None else (lambda step: callback(stage, step)),
        )
        picture = backbone.decode(result.latents if stage.end == steps else result.denoised)
    return StageOutput(stage, current, result, picture)


def _encode(backbone: Backbone, given: StageInput, *, prefer_fill: bool) -> Tensor:
    picture = given.fill if prefer_fill and given.fill is not None else given.image
    return backbone.encode(picture).float()


def _of_stage(prompt: PromptEmbedding | StagePrompt, stage: Stage) -> PromptEmbedding:
    choose = getattr(prompt, "for_stage", None)
    chosen: PromptEmbedding = prompt if choose is None else choose(stage.name)  # type: ignore[assignment]
    return chosen


def _check(stages: Sequence[Stage], steps: int, start: str, known_source: str) -> None:
    if not stages:
        raise SamplingError("no stages were given: make some with plan_stages")
    if any(later.start != earlier.end for earlier, later in pairwise(stages)):
        raise SamplingError("the stages leave gaps or overlap: each must start where the one before ends")
    if stages[-1].end > steps:
        raise SamplingError(f"the last stage ends at step {stages[-1].end} of {steps}: plan fewer steps")
    if start not in get_args(Start):
        raise SamplingError(f"start {start!r} is unknown: use one of {get_args(Start)}")
    if known_source not in get_args(KnownSource):
        raise SamplingError(f"known_source {known_source!r} is unknown: use one of {get_args(KnownSource)}")


def _check_input(backbone: Backbone, stage: Stage, given: StageInput, samples: int) -> None:
    size, multiple = tuple(given.image.shape[-2:]), backbone.size_multiple
    if given.image.ndim != 4 or given.image.shape[1] != 3 or len(given.image) not in (1, samples):
        raise SamplingError(
            f"stage image {tuple(given.image.shape)} cannot be used: give (1 or {samples}, 3, H, W)"
        )
    if given.mask.shape[1:] != (1, *size) or len(given.mask) not in (1, samples):
        raise SamplingError(
            f"stage mask {tuple(given.mask.shape)} does not fit the image: give (1, 1, {size[0]}, {size[1]})"
        )
    if given.fill is not None and given.fill.shape != given.image.shape:
        raise SamplingError(
            f"stage fill {tuple(given.fill.shape)} must have the image's shape {tuple(given.image.shape)}"
        )
    if size[0] % multiple or size[1] % multiple:
        raise SamplingError(f"stage of {size[0]}x{size[1]} px: both sides must be multiples of {multiple}")
    cells = (size[0] // backbone.latent_factor, size[1] // backbone.latent_factor)
    if stage.size is not None and cells != stage.size:
        raise SamplingError(
            f"stage {stage.name!r} is planned for {stage.size} latent cells, its input has {cells}"
        )
