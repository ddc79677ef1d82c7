"""How long each part of an edit takes, and what a device holds at most."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from intarsia.backbones import Backbone

Part = Literal["text", "encode", "denoise", "decode"]
STAGES = ("text", "encode", "denoise_local", "denoise_global", "decode", "other", "whole")


@dataclass(frozen=True)
class Clock:
    """A device's own clock and counters; where it has none, the computer's."""

    device: str

    @property
    def _is_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def wait(self) -> None:
        """Until the device has done everything."""
        if self._is_cuda:
            import torch

            torch.cuda.synchronize(self.device)

    def mark(self) -> Any:
        """A point in the device's queue; nothing waits for it."""
        if not self._is_cuda:
            return time.perf_counter()
        import torch

        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between(self, begin: Any, end: Any) -> float:
        """Seconds between two marks that are past."""
        return float(begin.elapsed_time(end)) / 1000 if self._is_cuda else float(end - begin)

    def forget_peak(self) -> None:
        if self._is_cuda:
            import torch

            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int | None:
        """Bytes of tensors at most since `forget_peak`; None: not known."""
        if not self._is_cuda:
            return None
        import torch

        return int(torch.cuda.max_memory_allocated(self.device))


@dataclass
class _Calls:
    marks: list[tuple[Part, Any, Any]] = field(default_factory=list)


def stage_seconds(backbone: Backbone, clock: Clock, edit: Callable[[], object]) -> dict[str, float]:
    """Seconds of each of `STAGES` in one edit. Denoising lasts from a window's first call of the U-Net to its last,
    with the sampler's own work in between; the first window is the local one. "other" is all that lies outside."""
    clock.wait()
    with _watched(backbone, clock) as calls:
        begin = clock.mark()
        edit()
        end = clock.mark()
        clock.wait()
    seconds = dict.fromkeys(STAGES, 0.0)
    for part, start, stop in calls.marks:
        if part != "denoise":
            seconds[part] += clock.between(start, stop)
    for name, (start, stop) in zip(("denoise_local", "denoise_global"), _windows(calls), strict=False):
        seconds[name] = clock.between(start, stop)
    seconds["whole"] = clock.between(begin, end)
    seconds["other"] = seconds["whole"] - sum(seconds[name] for name in STAGES[:-2])
    return seconds


def _windows(calls: _Calls) -> list[tuple[Any, Any]]:
    """First and last mark of each run of U-Net calls."""
    runs: list[tuple[Any, Any]] = []
    before = [("text", None, None), *calls.marks]
    for (earlier, _, _), (part, start, stop) in pairwise(before):
        if part == "denoise":
            runs = [*runs[:-1], (runs[-1][0], stop)] if earlier == "denoise" else [*runs, (start, stop)]
    return runs


@contextmanager
def _watched(backbone: Backbone, clock: Clock) -> Iterator[_Calls]:
    calls = _Calls()
    parts: list[tuple[Part, Any]] = [
        ("text", backbone.text_encoder),
        ("text", backbone.text_encoder_2),
        ("encode", backbone.vae.encoder),
        ("decode", backbone.vae.decoder),
        ("denoise", backbone.unet),
    ]
    handles, begun = [], []
    for part, module in parts:
        if module is not None:
            handles.append(module.register_forward_pre_hook(lambda *_: begun.append(clock.mark())))
            handles.append(
                module.register_forward_hook(
                    lambda *_, part=part: calls.marks.append((part, begun.pop(), clock.mark()))
                )
            )
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
