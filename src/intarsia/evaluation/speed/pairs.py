"""Ratios of times that a busy machine does not spoil: both sides in turn in one process, pair by pair."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from intarsia.evaluation.results import ResultsError

LEAST_PAIRS = 11


@dataclass(frozen=True)
class Side:
    """What is timed: `work` to its end (on an accelerator it must wait for it), inside `prepared`, which is not."""

    name: str
    work: Callable[[], object]
    prepared: Callable[[], AbstractContextManager[object]] = field(default=nullcontext)


@dataclass(frozen=True)
class Quartiles:
    """Of the pairs' ratios."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        low, median, high = np.percentile(np.asarray(values, np.float64), [25, 50, 75])
        return cls(float(low), float(median), float(high))


@dataclass(frozen=True)
class Ratio:
    """Time of `first` over time of `second`, above 1 where the second is faster: by the wall's clock and by the
    process's own CPU time. `seconds`: each side's median by the wall, which means nothing on another machine or day."""

    first: str
    second: str
    pairs: int
    wall: Quartiles
    cpu: Quartiles
    seconds: tuple[float, float]

    def line(self) -> str:
        wall, cpu = self.wall, self.cpu
        return (
            f"{self.first} / {self.second}: {wall.median:.3f} ({wall.low:.3f} to {wall.high:.3f}), "
            f"CPU time {cpu.median:.3f} ({cpu.low:.3f} to {cpu.high:.3f}), {self.pairs} pairs"
        )


def paired(first: Side, second: Side, pairs: int = LEAST_PAIRS, *, warm_up: int = 1) -> Ratio:
    """Time both sides in the order A B, B A, A B, …; each pair gives one ratio. The first runs do not count.

    Raises:
        ResultsError: no pair at all.
    """
    if pairs < 1:
        raise ResultsError(f"{pairs} pairs of runs give no ratio: time {LEAST_PAIRS} or more")
    gc.collect()
    for _ in range(warm_up):
        for side in (first, second):
            _timed(side)
    times: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for pair in range(pairs):
        if pair % 2:
            late = _timed(second)
            times.append((_timed(first), late))
        else:
            early = _timed(first)
            times.append((early, _timed(second)))
    wall, cpu = (Quartiles.of([a[clock] / max(b[clock], 1e-9) for a, b in times]) for clock in range(2))
    seconds = (float(np.median([a[0] for a, _ in times])), float(np.median([b[0] for _, b in times])))
    return Ratio(first.name, second.name, pairs, wall, cpu, seconds)


def _timed(side: Side) -> tuple[float, float]:
    """(wall, CPU) seconds of one run; the collector of unused objects does not run in between."""
    with side.prepared():
        gc.collect(1)  # what earlier runs left; a full collection would take as long as a small edit
        was_on = gc.isenabled()
        gc.disable()
        try:
            wall, cpu = time.perf_counter(), time.process_time()
            side.work()
            return time.perf_counter() - wall, time.process_time() - cpu
        finally:
            if was_on:
                gc.enable()
