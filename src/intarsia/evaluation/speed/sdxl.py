"""An edit at SDXL's size with random weights on one GPU, end to end, against the stock pipeline in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from intarsia.backbones import Backbone
from intarsia.evaluation.speed.edits import Job, greatest_difference, one_window, stock_pipeline, two_windows
from intarsia.evaluation.speed.pairs import LEAST_PAIRS, Ratio, Side, paired
from intarsia.evaluation.speed.ratios import ratios
from intarsia.evaluation.speed.sdxl_shape import SDXL, Shape, random_backbone
from intarsia.evaluation.speed.stages import Clock, stage_seconds

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SdxlRun:
    """What is run. The whole takes about five minutes on a data-centre GPU: `steps` where an edit stands against the
    stock pipeline's, `short_steps` where both sides are ours."""

    shape: Shape = SDXL
    device: str = "cuda"
    dtype: str = "bfloat16"
    steps: int = 30
    short_steps: int = 8
    pairs: int = LEAST_PAIRS
    learning_steps: int = 12
    repeats: int = 3


@dataclass(frozen=True)
class Measured:
    """One number for the results: the median of `n` runs, in `unit`; `what` it is."""

    key: str
    value: float
    n: int
    unit: str
    what: str


NEEDED = 32 << 30
"""Bytes of device memory, with room: two U-Nets, the stock pipeline's VAE in float32, and a step of learning."""


def why_not(device: str = "cuda") -> str | None:
    """Why this machine cannot run it; None if it can."""
    import torch

    if not torch.cuda.is_available():
        built = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds none"
        return f"no CUDA device ({built})"
    free = torch.cuda.mem_get_info(device)[0]
    if free < NEEDED:
        name = torch.cuda.get_device_name(device)
        return f"{free / (1 << 30):.1f} GiB of {name} are free, and {NEEDED >> 30} GiB are needed"
    return None


def run_sdxl(run: SdxlRun) -> Iterator[Measured | tuple[str, Ratio]]:
    """Numbers and ratios as soon as each is known: seconds per stage, peak memory, ratios, a step of learning, model
    offload."""
    import torch

    dtype: torch.dtype = getattr(torch, run.dtype)
    clock = Clock(run.device)
    began = time.perf_counter()
    backbone = random_backbone(run.shape, run.device, dtype)
    clock.wait()
    yield Measured("build_seconds", time.perf_counter() - began, 1, "s", "random weights made on the device")
    job = Job(run.shape.side, run.steps)
    short = replace(job, steps=run.short_steps)

    difference = greatest_difference(backbone, stock_pipeline(backbone), short)
    yield Measured("difference", difference, 1, "of 1", f"ours and stock, greatest in a pixel, {run.dtype}")
    yield from _stages(backbone, job, clock, run.repeats)
    yield from ratios(backbone, job, short=short, pairs=run.pairs, wait=clock.wait, tolerance=None)
    yield from _learning(backbone, run, clock)
    yield "offload", _offload(backbone, short, run, clock)


def _stages(backbone: Backbone, job: Job, clock: Clock, repeats: int) -> Iterator[Measured]:
    edits: dict[str, tuple[str, Callable[[], object]]] = {
        "one_window": ("ours, the same work as stock", lambda: one_window(backbone, job)),
        "two_windows": ("ours, both windows", lambda: two_windows(backbone, job)),
    }
    for key, (what, edit) in edits.items():
        edit()  # kernels are chosen in the first run
        clock.forget_peak()
        runs = [stage_seconds(backbone, clock, edit) for _ in range(repeats)]
        for stage in runs[0]:
            seconds = statistics.median(run[stage] for run in runs)
            yield Measured(f"{key}_{stage}_seconds", seconds, repeats, "s", f"{what}, {job.steps} steps: {stage}")
        yield from _peak(f"{key}_peak_gib", clock, f"{what}: device memory at most")


def _learning(backbone: Backbone, run: SdxlRun, clock: Clock) -> Iterator[Measured]:
    """A step of the trainer as a user's learning runs it, one sample: median without the first three."""
    from intarsia.learning import LearnConfig, train

    bank = _bank(backbone, run.shape)
    for checkpointing in (False, True):
        name, what = ("checkpointed", "gradient checkpointing") if checkpointing else ("plain", "no checkpointing")
        config = LearnConfig(steps=run.learning_steps, batch=1, gradient_checkpointing=checkpointing, resume=False)
        ends: list[float] = []

        def report(_: Any, ends: list[float] = ends) -> None:
            clock.wait()
            ends.append(time.perf_counter())

        clock.forget_peak()
        train(backbone, lambda epoch: bank, config, fingerprint="bench", folder=None, report=report)
        steps = [after - before for before, after in pairwise(ends)][2:]
        yield Measured(
            f"lora_step_{name}_seconds", statistics.median(steps), len(steps), "s", f"a step of learning, {what}"
        )
        yield from _peak(f"lora_step_{name}_peak_gib", clock, f"a step of learning, {what}: device memory at most")


def _bank(backbone: Backbone, shape: Shape) -> Any:
    import torch

    from intarsia.conditioning import encode_prompt
    from intarsia.learning import Bank, Sample
    from intarsia.sampling import latent_mask

    image, mask = Job(shape.side, 1).tensors()
    with torch.no_grad():
        moments = backbone.encode_moments(image)[0]
        conditioning = encode_prompt(backbone, "a photo of a sks mug")
    hole = latent_mask(mask, backbone.latent_factor)[0].to(backbone.device)
    sample = Sample(moments, moments, hole, prompts=(0,), size=(shape.side, shape.side), regular=False)
    return Bank((sample,), (), conditioning)


def _offload(backbone: Backbone, job: Job, run: SdxlRun, clock: Clock) -> Ratio:
    """The whole edit with one part at a time on the device, over the same with all of them there."""
    from intarsia.backbones import MemoryPlan, apply_memory_plan

    parts: dict[str, Any] = {name: deepcopy(module) for name, module in backbone.modules().items()}
    plan = MemoryPlan(mode="model", device=run.device, dtype=run.dtype)
    moving = apply_memory_plan(replace(backbone, **parts), plan)

    def edit(model: Backbone) -> Callable[[], None]:
        def work() -> None:
            two_windows(model, job)
            clock.wait()

        return work

    pairs = max(1, run.pairs // 2)  # a large ratio, and gigabytes that move in each run
    return paired(Side("model offload", edit(moving)), Side("all parts in place", edit(backbone)), pairs)


def _peak(key: str, clock: Clock, what: str) -> Iterator[Measured]:
    peak = clock.peak()
    if peak is not None:
        yield Measured(key, peak / (1 << 30), 1, "GiB", what)
