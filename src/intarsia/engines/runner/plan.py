"""`plan_run`: what a run would do, how long it would take and what it would cost, without doing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from intarsia.engines.errors import EngineError
from intarsia.engines.runner.packing import pack
from intarsia.engines.runner.process import Lines, advance, build
from intarsia.engines.runner.ray_data import stages_of
from intarsia.engines.runner.rows import JSON, Row, Step
from intarsia.engines.runner.run import Progress, checked_run
from intarsia.engines.runner.thresholds import Thresholds
from intarsia.errors import OutputError

MILLION = 1_000_000


@dataclass(frozen=True)
class PlannedStep:
    """A step, and what the sample told: ``rows`` that came into it and the ``seconds`` inside it. ``stage``: steps of
    one number share a worker (Ray gives each stage workers of its own; the local runner has one stage)."""

    name: str
    stage: int
    gpus: float
    batch: int | None
    rows: int
    seconds: float


@dataclass(frozen=True)
class EnginePlan:
    """What `run_engine` would do with the same arguments.

    ``sampled`` source rows were taken through the steps in this process, after one that only warmed it up;
    ``build_seconds`` is what building the steps and warming up took, ``kept`` and ``bytes`` what the sample became
    (samples, and bytes of a shard of them). All estimates take the sample for the whole.
    """

    engine: str
    output: Path
    runner: str
    workers: int
    source_rows: int
    shards: int
    shard_size: int
    shards_left: int
    rows_left: int
    steps: tuple[PlannedStep, ...]
    sampled: int
    build_seconds: float
    kept: int
    bytes: int
    price_per_hour: float | None = None

    def rarely_tried(self, names: Collection[str], least: int = 8) -> list[PlannedStep]:
        """Which of the named steps fewer than ``least`` rows of the sample came into: their pace is hardly known."""
        return [step for step in self.steps if step.name in names and step.rows < least]

    @property
    def seconds_per_row(self) -> float | None:
        """What a source row takes one worker, in the slowest stage; None without a sample."""
        if not self.sampled:
            return None
        stages = {step.stage for step in self.steps}
        return max(sum(step.seconds for step in self.steps if step.stage == stage) for stage in stages) / self.sampled

    @property
    def eta_seconds(self) -> float | None:
        """What is left to do, with this run's workers."""
        pace = self.seconds_per_row
        if pace is None or not self.rows_left:
            return 0.0 if not self.rows_left else None
        return self.build_seconds + pace * self.rows_left / max(1, min(self.workers, self.shards_left))

    def worker_hours(self, rows: int = MILLION) -> float | None:
        """Hours of one worker for so many source rows."""
        return None if self.seconds_per_row is None else self.seconds_per_row * rows / 3600

    def cost(self, rows: int = MILLION) -> float | None:
        """What so many source rows cost at ``price_per_hour`` of one worker."""
        hours = self.worker_hours(rows)
        return None if hours is None or self.price_per_hour is None else hours * self.price_per_hour

    def to_json(self) -> dict[str, Any]:
        """All fields and estimates."""
        return {
            **asdict(self),
            "output": str(self.output),
            "seconds_per_row": self.seconds_per_row,
            "eta_seconds": self.eta_seconds,
            "worker_hours_per_million": self.worker_hours(),
            "cost_per_million": self.cost(),
        }

    def __str__(self) -> str:
        done = self.source_rows - self.rows_left
        lines = [
            f"{self.engine}: {self.source_rows} rows in {self.shards} shards of {self.shard_size} to {self.output}",
            f"{done} rows are done, {self.rows_left} in {self.shards_left} shards are left; runner {self.runner}, "
            f"workers {self.workers}",
            "",
            f"{'step':<16} {'stage':>5} {'GPUs':>5} {'batch':>5} {'rows in':>8} {'s per source row':>17} {'rows/s':>8}",
        ]
        for step in self.steps:
            batch = "-" if step.batch is None else str(step.batch)
            told = f"{'-':>17} {'-':>8}"
            if self.sampled:
                rate = f"{step.rows / step.seconds:.3g}" if step.rows and step.seconds > 0 else "-"
                told = f"{step.seconds / self.sampled:>17.4g} {rate:>8}"
            lines.append(f"{step.name:<16} {step.stage:>5} {step.gpus:>5g} {batch:>5} {step.rows:>8} {told}")
        if not self.sampled or self.eta_seconds is None:
            return "\n".join([*lines, "", "no row was tried, so there is no estimate"])
        hours, gigabytes = self.worker_hours(), self.bytes / self.sampled * MILLION / 1e9
        lines += [
            "",
            f"{self.sampled} rows tried, {self.kept} samples of them kept by the steps, start "
            f"{_time(self.build_seconds)};",
            f"what is left takes about {_time(self.eta_seconds)}; a million rows take {hours:,.1f} hours of a worker "
            f"and {gigabytes:,.1f} GB"
            + (f", and cost {self.cost():,.0f} at {self.price_per_hour:g} an hour" if self.price_per_hour else ""),
        ]
        return "\n".join(lines)


def plan_run(
    *,
    name: str,
    version: str,
    source: Sequence[Row],
    steps: Sequence[Step],
    output: str | Path,
    settings: Mapping[str, JSON],
    runner: Literal["local", "ray"] = "local",
    workers: int = 1,
    shard_size: int = 64,
    progress: Callable[[Progress], None] | None = None,
    key: str = "key",
    thresholds: Thresholds | None = None,
    overwrite: bool = False,
    verify: bool = False,
    sample: int = 4,
    price_per_hour: float | None = None,
) -> EnginePlan:
    """What `run_engine` would do with these arguments; nothing is written, claimed or removed, and Ray is not started.

    ``sample`` of the rows that are left, evenly spread, go through the steps here to learn how long they take; 0 tries
    none and builds no step. ``price_per_hour``: of what one worker occupies, such as a GPU and its cores, in any
    currency. ``progress`` and ``verify`` are taken so that one set of arguments fits both functions, and ignored.

    Raises all that `run_engine` raises for its arguments and for the output folder, and what the steps raise that is
    no row's fault.
    """
    if sample < 0 or (price_per_hour is not None and price_per_hour < 0):
        raise EngineError(f"sample and price_per_hour must be at least 0, got {sample} and {price_per_hour}")
    run = checked_run(name, version, source, steps, output, settings, runner, workers, shard_size, key, thresholds)
    try:
        committed = run.folder.look(run.identity, overwrite=overwrite)
    except OSError as error:
        raise OutputError(f"cannot use {output} as output folder: {error}; check it, or choose another") from error
    pending = run.pending(committed)
    left = [row for rows in pending.values() for row in rows]
    count = min(sample, len(left))
    tried = [left[number * len(left) // count] for number in range(count)]
    lines, began, size, built = Lines.of(tried, run.steps), time.perf_counter(), 0, 0.0
    if tried:
        functions = build(run.steps)
        advance(Lines.of(tried[:1], run.steps), run.steps, functions, key)
        built = time.perf_counter() - began
        lines = advance(lines, run.steps, functions, key)
        size = sum(len(data) for data in pack(0, lines, key).files.values())
    stages = stages_of(run.steps) if runner == "ray" else [run.steps]
    planned = tuple(
        PlannedStep(
            step.name, number, step.gpus, step.batch, lines.funnel.step(step.name).entered, lines.seconds[step.name]
        )
        for number, stage in enumerate(stages)
        for step in stage
    )
    return EnginePlan(
        f"{name} {version}",
        run.folder.root,
        runner,
        workers,
        len(run.rows),
        run.folder.shards,
        shard_size,
        len(pending),
        len(left),
        planned,
        count,
        built,
        lines.funnel.kept,
        size,
        price_per_hour,
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
