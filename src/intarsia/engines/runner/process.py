"""Rows through steps, without files, processes or machines: the same function for every runner."""

from __future__ import annotations

import errno
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from intarsia.engines.errors import EngineError, RowError
from intarsia.engines.runner.funnel import Funnel, StepCount
from intarsia.engines.runner.rows import REJECTED, Row, Step, StepFunction, canonical, check_row, scalars
from intarsia.errors import DiskFullError, IntarsiaError
from intarsia.perception import HelperAwayError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_LONGEST_MESSAGE = 500
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")


@dataclass(frozen=True)
class Dead:
    """Why a row is quarantined; ``row`` is JSON text of its scalars as they came into the step."""

    key: str
    step: str
    error: str
    message: str
    row: str


@dataclass
class Lines:
    """Rows on their way, living and dead, in the order of the source, with the counts so far."""

    rows: list[Row | Dead]
    funnel: Funnel
    seconds: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, rows: Iterable[Row], steps: Sequence[Step]) -> Lines:
        entered = list(rows)
        funnel = Funnel.empty([step.name for step in steps])
        funnel.source_rows = len(entered)
        return cls([*entered], funnel)

    def add(self, other: Lines) -> None:
        self.rows += other.rows
        self.funnel.add(other.funnel)
        self.seconds.update(other.seconds)


def build(steps: Sequence[Step]) -> list[StepFunction]:
    """The steps' functions. Raises EngineError naming the step that cannot be built; IntarsiaErrors pass."""
    functions: list[StepFunction] = []
    for step in steps:
        try:
            functions.append(step.make())
        except IntarsiaError:
            raise
        except Exception as error:
            raise EngineError(f"the step {step.name!r} cannot be started: {type(error).__name__}: {error}") from error
    return functions


def advance(
    lines: Lines,
    steps: Sequence[Step],
    functions: Sequence[StepFunction],
    key: str,
    announce: Callable[[str], None] | None = None,
) -> Lines:
    """Take all living rows through ``steps``, one source row after the other. ``announce`` hears of each step before it
    begins. Raises DiskFullError where a step finds the disk full, HelperAwayError where a server that it asks is gone:
    neither is a row's fault."""
    moved: list[Row | Dead] = []
    for line in lines.rows:
        current: list[Row | Dead] = [line]
        for step, function in zip(steps, functions, strict=True):
            if announce is not None:
                announce(step.name)
            count = lines.funnel.step(step.name)
            began = time.perf_counter()
            current = [after for before in current for after in _take(before, step, function, key, count)]
            lines.seconds[step.name] += time.perf_counter() - began  # type: ignore[assignment]
        moved += current
    return Lines(moved, lines.funnel, lines.seconds)


def died(row: Row, step: str, key: str, how: str, steps: Sequence[Step]) -> Lines:
    """What remains of a source row whose worker died twice in ``step``."""
    lines = Lines.of([row], steps)
    for count in lines.funnel.steps:
        count.entered = 1
        if count.name == step:
            count.quarantined["WorkerDied"] = 1
            break
    return Lines([Dead(row[key], step, "WorkerDied", f"worker died ({how})", canonical(scalars(row)))], lines.funnel)


def _take(line: Row | Dead, step: Step, function: StepFunction, key: str, count: StepCount) -> list[Row | Dead]:
    if isinstance(line, Dead):
        return [line]
    fallen = line.get(REJECTED)
    if fallen is not None and not step.sees_rejected:
        return [line]
    count.entered += fallen is None
    try:
        rows = _results(function(dict(line)), line, key)
    except (KeyboardInterrupt, HelperAwayError):
        raise
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            raise DiskFullError(
                f"no space left in the step {step.name!r} ({error.filename or 'unknown file'}); "
                "free some space and start again: finished shards are kept"
            ) from error
        if fallen is not None:  # it is out already, and stays out for its first reason
            return [line]
        message = _ADDRESS.sub("0x", " ".join(str(error).split()))[:_LONGEST_MESSAGE]
        count.quarantined[type(error).__name__] += 1
        return [Dead(line[key], step.name, type(error).__name__, message, canonical(scalars(line)))]
    if fallen is not None:
        return [{**row, REJECTED: fallen} for row in rows[:1]]
    if not rows:
        rows = [{**line, REJECTED: "gave no row"}]
    count.added += len(rows) - 1
    for row in rows:
        reason = row.get(REJECTED)
        if reason is not None:
            row[REJECTED] = reason if reason.startswith(f"{step.name}: ") else f"{step.name}: {reason or 'no reason'}"
            count.rejected[row[REJECTED].removeprefix(f"{step.name}: ")] += 1
    return list(rows)


def _results(rows: object, parent: Row, key: str) -> list[Row]:
    if not isinstance(rows, list):
        raise RowError(f"a step must return a list of rows, got {type(rows).__name__}")
    checked = [check_row(row, key) for row in rows]
    keys = [row[key] for row in checked]
    if len(keys) == 1 and keys[0] == parent[key]:
        return checked
    for name in keys:
        if not name.startswith(f"{parent[key]}/"):
            raise RowError(f"the row {parent[key]!r} became {name!r}; a child's key is its parent's, '/' and a number")
        if "/" in name[len(parent[key]) + 1 :]:
            raise RowError(f"the row {parent[key]!r} became {name!r}; only one level may be added at a time")
    if len(set(keys)) < len(keys):
        raise RowError(f"the row {parent[key]!r} became several rows of the same key; number them")
    return checked
