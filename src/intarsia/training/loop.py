"""The one training loop of all stages: time counted in images, one generator a step, EMA, exact resume."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def step_generator(seed: int, step: int, process: int = 0) -> Generator:
    """The generator of one step: every random draw of the step comes from it, so resuming repeats it exactly."""
    return Generator().manual_seed((seed * 1_000_003 + step + process * 7_777_777_777) % (2**63 - 1))


def share(batch: int) -> int:
    """This process's part of a batch that all processes of an ``accelerate launch`` draw together.

    Raises:
        IntarsiaError: a batch that the processes cannot divide.
    """
    from accelerate import PartialState

    processes = PartialState().num_processes
    if batch % processes:
        raise IntarsiaError(f"a batch of {batch} cannot be shared by {processes} processes; use a divisor of it")
    return batch // int(processes)


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Mean over all processes, in one message; parameters without a gradient anywhere have none afterwards as well."""
    from accelerate.utils import reduce

    there = [p for p in parameters if p.grad is not None]
    flat: Any = reduce(torch.cat([p.grad.flatten() for p in there if p.grad is not None]), "mean")
    for p, part in zip(there, flat.split([p.numel() for p in there]), strict=True):
        p.grad = part.view_as(p)


def trained_groups(model: nn.Module, rate_of: Callable[[str], float] | None = None) -> dict[float, list[nn.Parameter]]:
    """The parameters that need gradients, by factor of the learning rate; the averages are kept in this order."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(1.0 if rate_of is None else rate_of(name), []).append(parameter)
    return groups


@torch.no_grad()
def load_average(model: nn.Module, checkpoint: Path, rate_of: Callable[[str], float] | None = None) -> None:
    """Fill a model from the running average of a checkpoint of an unfinished run."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    parameters = [p for members in trained_groups(model, rate_of).values() for p in members]
    for p, a in zip(parameters, state["average"], strict=True):
        p.copy_(a)


def _agreed(over: bool, step: int, device: torch.device) -> bool:
    """Whether any process is out of time; asked every 20 steps only, since all of them must stop at the same step."""
    from accelerate.utils import reduce

    return step % 20 == 0 and float(reduce(torch.tensor(float(over), device=device), "sum")) > 0


def train(
    model: nn.Module,
    loss: Callable[[int, Generator], Tensor],
    config: LoopConfig,
    folder: Path,
    report: Callable[[dict[str, float]], None] | None = None,
    every: int = 100,
    rate_of: Callable[[str], float] | None = None,
) -> bool:
    """Train ``model`` in place on ``loss(step, generator)`` until the images are used up or the minutes are over.

    Started by ``accelerate launch``, every process computes the loss of its :func:`share` of the batch and gradients
    are averaged; a single process computes what it always did.

    Writes ``{name}.pt`` (weights, EMA, optimizer, step) and ``{name}.jsonl`` to ``folder`` and continues from them.
    ``rate_of``: factor of the learning rate by parameter name.
    Returns True when finished; the model then holds the EMA weights. Raises DivergedError when the loss is not finite.
    """
    from accelerate import PartialState

    processes = PartialState()
    many = processes.num_processes > 1
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / f"{config.name}.pt", folder / f"{config.name}.jsonl"
    groups = trained_groups(model, rate_of)
    parameters = [p for members in groups.values() for p in members]
    device = parameters[0].device
    optimizer = torch.optim.AdamW(
        [{"params": members, "factor": factor} for factor, members in groups.items()],
        lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, foreach=True,
    )  # fmt: skip
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
        if not processes.is_main_process:
            return
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
        over = config.minutes is not None and time.monotonic() - began > config.minutes * 60
        if _agreed(over, step, device) if many else over:
            save()
            processes.wait_for_everyone()
            return False
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step) * group.get("factor", 1.0)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            value = loss(step, step_generator(config.seed, step, processes.process_index))
        value.backward()  # type: ignore[no-untyped-call]
        if many:
            average_gradients(parameters)
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
            if processes.is_main_process:
                with log.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                if report is not None:
                    report(row)
        if time.monotonic() - saved > config.checkpoint_seconds:
            save()
            saved = time.monotonic()
    save()
    processes.wait_for_everyone()
    with torch.no_grad():
        for p, a in zip(parameters, average, strict=True):
            p.copy_(a)
    model.eval()
    return True
