"""The one training loop of all stages: time counted in images, one generator a step, EMA, exact resume."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from intarsia.errors import IntarsiaError


class DivergedError(IntarsiaError):
    """The loss stopped being a number."""


@dataclass(frozen=True)
class LoopConfig:
    """``images`` in all, ``batch`` a step, cosine decay after ``warmup`` images; ``minutes`` ends this call early."""

    name: str
    images: int
    batch: int
    learning_rate: float
    seed: int
    warmup: int = 1_000
    floor: float = 0.02
    weight_decay: float = 0.01
    ema_half_life: int = 2_000
    clip: float = 1.0
    bf16: bool = False
    minutes: float | None = None
    checkpoint_seconds: float = 120.0

    @property
    def steps(self) -> int:
        return max(1, self.images // self.batch)

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then half a cosine down to ``floor`` of the peak."""
        done = step * self.batch
        warm = min(1.0, (done + self.batch) / max(1, self.warmup))
        fall = min(1.0, done / self.images)
        return self.learning_rate * warm * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * fall)))


def _save_atomically(state: object, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def step_generator(seed: int, step: int) -> Generator:
    """The generator of one step: every random draw of the step comes from it, so resuming repeats it exactly."""
    return Generator().manual_seed((seed * 1_000_003 + step) % (2**63 - 1))


def train(
    model: nn.Module,
    loss: Callable[[int, Generator], Tensor],
    config: LoopConfig,
    folder: Path,
    report: Callable[[dict[str, float]], None] | None = None,
    every: int = 100,
) -> bool:
    """Train ``model`` in place on ``loss(step, generator)`` until the images are used up or the minutes are over.

    Writes ``{name}.pt`` (weights, EMA, optimizer, step) and ``{name}.jsonl`` to ``folder`` and continues from them.
    Returns True when finished; the model then holds the EMA weights. Raises DivergedError when the loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / f"{config.name}.pt", folder / f"{config.name}.jsonl"
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, foreach=True
    )
    average = [p.detach().clone() for p in parameters]
    step, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average = [a.to(device) for a in state["average"]]
        step, seconds = int(state["step"]), float(state["seconds"])
    began = saved = time.monotonic()
    running: list[Tensor] = []

    def save() -> None:
        _save_atomically(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step,
                "seconds": seconds + time.monotonic() - began,
            },
            checkpoint,
        )

    model.train()
    while step < config.steps:
        if config.minutes is not None and time.monotonic() - began > config.minutes * 60:
            save()
            return False
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            value = loss(step, step_generator(config.seed, step))
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, config.clip, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        step += 1
        # Early on the average follows closely, so that short runs are not dominated by the initial weights.
        decay = min(0.5 ** (config.batch / config.ema_half_life), (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        running.append(value.detach())
        if step % every == 0 or step == config.steps:
            mean = float(torch.stack(running).mean())
            running.clear()
            if not math.isfinite(mean):
                raise DivergedError(f"{config.name}: the loss is {mean} at step {step}; lower the learning rate")
            elapsed = seconds + time.monotonic() - began
            row = {"step": step, "images": step * config.batch, "loss": mean, "seconds": round(elapsed, 1)}
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            if report is not None:
                report(row)
        if time.monotonic() - saved > config.checkpoint_seconds:
            save()
            saved = time.monotonic()
    save()
    with torch.no_grad():
        for p, a in zip(parameters, average, strict=True):
            p.copy_(a)
    model.eval()
    return True
