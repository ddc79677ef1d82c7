"""The denoise loop. There is only this one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from intarsia.sampling.errors import NonFinitePredictionError, SamplingError
from intarsia.sampling.guidance import Block, Guidance, combine
from intarsia.sampling.input_channels import InputChannels, input_channels, rows
from intarsia.sampling.known_region import KnownRegion, blend_denoised, blend_noisy
from intarsia.sampling.noise import draw_noise
from intarsia.sampling.parametrisation import denoised_from, noise_levels, prediction_from
from intarsia.sampling.prompt_memory import PromptMemory
from intarsia.sampling.schedulers import set_steps

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

    from intarsia.backbones import Backbone
    from intarsia.sampling.reference import ReferenceBranch


class PromptEmbedding(Protocol):
    """What a prompt is to the U-Net; `intarsia.conditioning.Conditioning` is one."""

    @property
    def tokens(self) -> Tensor:
        """(1 or B, L, D)"""
        ...

    @property
    def pooled(self) -> Tensor:
        """(1 or B, P); not looked at where the model has no size conditioning"""
        ...


class DenoiseStep(TypedDict):
    """What a callback gets after each step; the tensors must not be changed."""

    step: int
    timestep: float
    latents: Tensor
    denoised: Tensor


@dataclass(frozen=True, eq=False)
class Denoised:
    """`latents` after the last step, in the scheduler's units; `denoised`: the last x0 prediction. (B, C, h,
    w)"""

    latents: Tensor
    denoised: Tensor


def denoise(
    backbone: Backbone,
    scheduler: Any,
    latents: Tensor,
    *,
    mask: Tensor | None = None,
    masked_image_latents: Tensor | None = None,
    image_latents: Tensor | None = None,
    positive: PromptEmbedding,
    negative: PromptEmbedding | None,
    generators: Sequence[Generator],
    steps: int,
    start: int = 0,
    end: int | None = None,
    guidance: Guidance | None = None,
    known: KnownRegion | None = None,
    time_ids: Tensor | None = None,
    negative_time_ids: Tensor | None = None,
    model_inputs: Mapping[str, Any] | None = None,
    reference: ReferenceBranch | None = None,
    memory: PromptMemory | None = None,
    callback: Callable[[DenoiseStep], None] | None = None,
) -> Denoised:
    """Steps [start, end) of a schedule of `steps`. Gradients are off; the scheduler object is not changed.

    No step waits for a number from an accelerator: the schedule stays on the CPU, and whether all predictions were
    finite is asked after the last one (on a CPU, which never lags behind, at once).

    Args:
        latents: (B, C, h, w) at the noise level of step `start`, in the scheduler's units (see
            `start_latents`).
        mask: latent mask (1 or B, 1, h, w), 1 = repaint. masked_image_latents: (1 or B, C, h, w), scaled. Both for
            an inpainting model; of a text-to-image model the mask says what `known` leaves free.
        image_latents: (1 or B, C, h, w), an instruction model's source as `Backbone.encode_source` makes it: mode,
            not scaled. It is then the reference of `guidance`; blocks that do not see it get zeros.
        negative: may be None where no step is guided.
        generators: one per sample; every random number of sample k is drawn from generator k.
        time_ids, negative_time_ids: SDXL size conditioning (1, 6); the picture's own size by default.
        model_inputs: further keyword arguments of the U-Net (its batch is [negative, positive] in guided
            steps, with a reference guided apart [negative, negative, positive]).
        reference: told before each model call which blocks of the batch see the reference (in guided steps
            not the first one); begins before the first step and ends after the last, or after an error.
        memory: an entered one that several calls share, so that a prompt's keys and values are computed once for all
            of them; by default this call has its own.

    Raises:
        SamplingError: shapes or counts do not fit together, or guidance without a negative.
        SchedulerError: see `set_steps`.
        NonFinitePredictionError: the model predicted NaN or infinity; names the step.
    """
    import torch

    end = steps if end is None else end
    guidance = Guidance() if guidance is None else guidance
    if reference is None and image_latents is None:
        guidance = replace(guidance, reference_scale=None)
    _check(latents, negative, generators, steps, start, end, guidance)
    if image_latents is not None and reference is not None:
        raise SamplingError("an instruction model has no reference beside its image: leave it out")
    if known is not None and known.mask is None and mask is None:
        raise SamplingError("a model without a mask keeps no known region by it: give the region its own mask")
    device = backbone.device
    scheduler = set_steps(copy.deepcopy(scheduler), steps, start)
    levels = noise_levels(scheduler, start, end)
    prediction_type = str(scheduler.config.get("prediction_type", "epsilon"))
    shape = latents.shape[1:]
    x = latents.to(device, torch.float32)
    channels = input_channels(backbone, x, mask, masked_image_latents, image_latents)
    held_by = mask if known is None or known.mask is None else known.mask
    hole = x.new_ones(1) if held_by is None else held_by.to(x)
    fixed = None
    if known is not None and known.before:
        given = None if isinstance(known.noise, str) else known.noise.to(x)
        fixed = draw_noise(generators, shape, device) if given is None and known.noise == "fixed" else given
    accepts_generator = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": list(generators)} if accepts_generator else {}
    denoised, finite = x, _Finite(device)
    with torch.no_grad(), _entered(memory, backbone) as remembered, _shown(reference, generators):
        call = _Model(
            backbone, channels, positive, negative, time_ids, negative_time_ids, dict(model_inputs or {}), remembered
        )
        for step in range(start, end):
            timestep, level = scheduler.timesteps[step], levels[step - start]
            held = known if known is not None and known.holds(step, steps) else None
            if held is not None and held.before:
                noise = draw_noise(generators, shape, device) if fixed is None else fixed
                x = blend_noisy(x, held.latents, noise, hole, scheduler, timestep)
            blocks = guidance.blocks(step, steps)
            if reference is not None:
                reference.prepare(
                    step=step,
                    steps=steps,
                    timestep=timestep,
                    scheduler=scheduler,
                    size=(int(shape[1]), int(shape[2])),
                    present=[block.reference for block in blocks],
                )
            prediction = combine(call(scheduler.scale_model_input(x, timestep), timestep, blocks), guidance)
            finite.see(prediction, step, float(timestep))
            denoised = denoised_from(prediction, x, level, prediction_type)
            if held is not None and held.after:
                denoised = blend_denoised(denoised, held.latents, hole)
                prediction = prediction_from(denoised, x, level, prediction_type)
            x = scheduler.step(prediction, timestep, x, **extra, return_dict=False)[0]
            if held is not None and held.finish and step == steps - 1:
                x = blend_denoised(x, held.latents, hole)
            if callback is not None:
                callback(DenoiseStep(step=step, timestep=float(timestep), latents=x, denoised=denoised))
        finite.require()
    return Denoised(x, denoised)


class _Finite:
    """Whether all predictions were finite, asked where that does not hold an accelerator up."""

    def __init__(self, device: torch.device) -> None:
        self._at_once = device.type == "cpu"
        self._seen: list[tuple[Tensor, int, float]] = []

    def see(self, prediction: Tensor, step: int, timestep: float) -> None:
        import torch

        self._seen.append((torch.isfinite(prediction).all(), step, timestep))
        if self._at_once:
            self.require()

    def require(self) -> None:
        """Raises NonFinitePredictionError for the first step whose prediction was not finite."""
        import torch

        if self._seen:
            finite = torch.stack([seen for seen, _, _ in self._seen])
            if not bool(finite.all()):
                _, step, timestep = self._seen[finite.tolist().index(False)]
                raise NonFinitePredictionError(step, timestep)
        self._seen.clear()


@contextmanager
def _entered(memory: PromptMemory | None, backbone: Backbone) -> Iterator[PromptMemory]:
    """A memory that is entered already, or a new one for the duration."""
    if memory is not None:
        yield memory
        return
    with PromptMemory(backbone.unet) as own:
        yield own


@contextmanager
def _shown(reference: ReferenceBranch | None, generators: Sequence[Generator]) -> Iterator[None]:
    """Begins the reference, and ends it whatever happens."""
    if reference is None:
        yield
        return
    try:
        reference.begin(generators, len(generators))
        yield
    finally:
        reference.end()


class _Model:
    """The U-Net with everything fixed but the latent, the timestep and the blocks of the batch."""

    def __init__(
        self,
        backbone: Backbone,
        channels: InputChannels,
        positive: PromptEmbedding,
        negative: PromptEmbedding | None,
        time_ids: Tensor | None,
        negative_time_ids: Tensor | None,
        model_inputs: dict[str, Any],
        memory: PromptMemory,
    ) -> None:
        factor = backbone.latent_factor
        self.like = channels.values.to(backbone.dtype)
        size = (self.like.shape[-2] * factor, self.like.shape[-1] * factor)
        time_ids = backbone.time_ids(size) if time_ids is None else time_ids
        self.backbone, self.channels, self.model_inputs, self.memory = backbone, channels, model_inputs, memory
        self.prompts = {True: (positive, time_ids)}
        if negative is not None:
            self.prompts[False] = negative, time_ids if negative_time_ids is None else negative_time_ids
        self._fixed: dict[tuple[Block, ...], tuple[Tensor, Tensor, dict[str, Any]]] = {}

    def __call__(self, latents: Tensor, timestep: Tensor, blocks: Sequence[Block]) -> dict[Block, Tensor]:
        """Each block's prediction (B, C, h, w), float32, all from one call."""
        import torch

        blocks = tuple(blocks)
        if blocks not in self._fixed:
            self._fixed[blocks] = self._inputs(blocks)
        channels, tokens, extra = self._fixed[blocks]
        sample = torch.cat([torch.cat([latents] * len(blocks)), channels], dim=1)
        predicted: Tensor = self.backbone.unet(
            sample.to(self.backbone.dtype), timestep, encoder_hidden_states=tokens, return_dict=False, **extra
        )[0].float()
        return dict(zip(blocks, predicted.chunk(len(blocks)), strict=True))

    def _inputs(self, blocks: tuple[Block, ...]) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """All of a call that does not change from step to step: channels, tokens, and keyword arguments."""
        import torch

        chosen = [self.prompts[block.text] for block in blocks]
        sources = tuple(prompt.tokens for prompt, _ in chosen)
        form = (len(self.like), self.like.dtype, self.like.device)
        tokens = self.memory.tokens(sources, form, lambda: torch.cat([rows(each, self.like) for each in sources]))
        pooled = torch.cat([rows(prompt.pooled, self.like) for prompt, _ in chosen])
        time_ids = torch.cat([rows(ids, self.like) for _, ids in chosen])
        extra = dict(self.model_inputs)
        added = self.backbone.size_conditioning(pooled, time_ids) | extra.pop("added_cond_kwargs", {})
        return self.channels.of(blocks), tokens, {**extra, "added_cond_kwargs": added}


def _check(
    latents: Tensor,
    negative: PromptEmbedding | None,
    generators: Sequence[Generator],
    steps: int,
    start: int,
    end: int,
    guidance: Guidance,
) -> None:
    if len(generators) != len(latents):
        raise SamplingError(f"{len(generators)} generators for {len(latents)} samples: give one per sample")
    if not 0 <= start < end <= steps:
        raise SamplingError(
            f"steps [{start}, {end}) are no part of {steps} steps: use 0 ≤ start < end ≤ steps"
        )
    if negative is None and any(guidance.active(step, steps) for step in range(start, end)):
        raise SamplingError(
            f"guidance scale {guidance.scale} needs a negative prompt: give one, or use scale 1"
        )
