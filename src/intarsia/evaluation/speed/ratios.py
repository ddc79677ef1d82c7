"""The same edit against diffusers' own pipeline, with and without remembered prompts, and with a LoRA three ways."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from intarsia.backbones import Backbone
from intarsia.evaluation.results import ResultsError
from intarsia.evaluation.speed.edits import (
    Job,
    greatest_difference,
    one_window,
    stock,
    stock_pipeline,
    two_windows,
    with_lora_file,
)
from intarsia.evaluation.speed.pairs import LEAST_PAIRS, Ratio, Side, paired

SAME_PICTURE = 1e-4
"""Greatest difference in pixels of [0, 1] between what is compared, in float32."""

Wait = Callable[[], None]


def ratios(
    backbone: Backbone,
    job: Job,
    *,
    short: Job | None = None,
    pairs: int = LEAST_PAIRS,
    wait: Wait = lambda: None,
    tolerance: float | None = SAME_PICTURE,
) -> Iterator[tuple[str, Ratio]]:
    """(key, ratio), as soon as each is known. The stock pipeline has a U-Net of its own, so that neither side sees the
    other's adapters.

    Args:
        short: what is painted where both sides are ours; `job` if not given. wait: returns when the device is done.
        tolerance: of the pictures that are compared; None where rounding tells nothing.

    Raises:
        ResultsError: the stock pipeline paints another picture.
    """
    pipe = stock_pipeline(replace(backbone, unet=deepcopy(backbone.unet)), job.scheduler)
    short = job if short is None else short

    def ours(painted: Job, *, remember: bool = True) -> Callable[[], None]:
        return _waiting(lambda: one_window(backbone, painted, remember=remember), wait)

    def theirs(painted: Job) -> Callable[[], None]:
        return _waiting(lambda: stock(pipe, painted), wait)

    if tolerance is not None:
        difference = greatest_difference(backbone, pipe, job)
        if difference > tolerance:
            raise ResultsError(
                f"our picture and the stock pipeline's differ by {difference:.2g}, more than {tolerance:g}: their "
                "times cannot be compared; find the cause with tests/sampling/test_pipelines.py"
            )
    plain = Side("ours", ours(job))
    yield "control", paired(Side("ours", ours(short)), Side("ours again", ours(short)), pairs)
    yield "stock", paired(Side("stock", theirs(job)), plain, pairs)
    whole = Side("ours, both windows", _waiting(lambda: two_windows(backbone, job), wait))
    yield "stock_two_windows", paired(Side("stock", theirs(job)), whole, pairs)
    forgetful = Side("prompts not remembered", ours(short, remember=False))
    yield "memory", paired(forgetful, Side("remembered", ours(short)), pairs)

    with tempfile.TemporaryDirectory() as folder:
        lora = _lora_file(backbone, Path(folder) / "pytorch_lora_weights.safetensors")
        fused = Side("ours, fused", ours(short), lambda: _fused(backbone, lora))
        beside = Side("ours, not fused", ours(short), lambda: lora.inject(backbone.unet))
        loaded = Side("stock, load_lora_weights", theirs(short), lambda: with_lora_file(pipe, folder))
        yield "lora", paired(beside, fused, pairs)
        yield "lora_stock", paired(loaded, fused, pairs)


def _waiting(work: Callable[[], object], wait: Wait) -> Callable[[], None]:
    def run() -> None:
        wait()
        work()
        wait()

    return run


def _lora_file(backbone: Backbone, path: Path) -> Any:
    """A rank-4 LoRA that does something, and the same as a file that diffusers loads."""
    import torch

    from intarsia.adapters import SubjectLora, save_lora

    fresh = SubjectLora(rank=4)
    with fresh.inject(backbone.unet):
        state = fresh.state_dict()
    generator = torch.Generator().manual_seed(1)
    for key, value in sorted(state.items()):
        if not value.any():
            state[key] = 0.01 * torch.randn(value.shape, generator=generator)
    save_lora(path, state, fresh.metadata())
    return SubjectLora.from_state(state, fresh.metadata())


def _fused(backbone: Backbone, lora: Any) -> AbstractContextManager[object]:
    from intarsia.adapters import FusedLoras, Lora, from_diffusers

    change = Lora.of_unet(from_diffusers(lora.state_dict()), lora.alpha)
    return FusedLoras.fuse({"unet": backbone.unet}, [(change, 1.0)])
