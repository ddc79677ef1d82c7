"""Rows through steps, without files, processes or machines: the same function for every runner."""

from __future__ import annotations

import errno
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import cast

from intarsia.engines.errors import EngineError, RowError
from intarsia.engines.runner.funnel import Funnel, StepCount
from intarsia.engines.runner.rows import (
    REJECTED,
    BatchFunction,
    Row,
    Step,
    StepFunction,
    canonical,
    check_row,
    scalars,
)
from intarsia.errors import DiskFullError, IntarsiaError
from intarsia.perception import HelperAwayError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED")
_GPU = re.compile(r"CUDA|CUDNN|cuDNN|CUBLAS|cuBLAS|HIP error")
_LONGEST_MESSAGE, _LONGEST_REASON = 500, 200
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
    """Rows on their way, living and dead, in the order of the source, with the counts so far. ``seconds`` spent in
    each step, and how many batches of each were ``repeated`` row by row."""

    rows: list[Row | Dead]
    funnel: Funnel
    seconds: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)

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
        self.repeated.update(other.repeated)


def build(steps: Sequence[Step]) -> list[StepFunction | BatchFunction]:
    """The steps' functions. Raises EngineError naming the step that cannot be built; IntarsiaErrors pass."""
    functions: list[StepFunction | BatchFunction] = []
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
    functions: Sequence[StepFunction | BatchFunction],
    key: str,
    announce: Callable[[str], None] | None = None,
) -> Lines:
    """Take all living rows through ``steps``: one after the other through neighbouring steps of single rows, all
    together through a step of batches. ``announce`` hears of each step before it begins. Raises DiskFullError where a
    step finds the disk full, HelperAwayError where a server that it asks is gone, EngineError where memory or a GPU
    fails at a row alone: none of these is a row's fault."""
    moved = lines.rows
    pairs = zip(steps, functions, strict=True)
    for batched, stretch in groupby(pairs, key=lambda pair: pair[0].batch is not None):
        chain = list(stretch)
        parts = [moved] if batched else [[line] for line in moved]
        moved = []
        for part in parts:
            for step, function in chain:
                if announce is not None:
                    announce(step.name)
                began = time.perf_counter()
                if batched:
                    part = _take_batches(part, step, cast(BatchFunction, function), key, lines)
                else:
                    count, single = lines.funnel.step(step.name), cast(StepFunction, function)
                    part = [after for line in part for after in _take(line, step, single, key, count)]
                lines.seconds[step.name] += time.perf_counter() - began  # type: ignore[assignment]
            moved += part
    return Lines(moved, lines.funnel, lines.seconds, lines.repeated)


def died(row: Row, step: str, key: str, how: str, steps: Sequence[Step]) -> Lines:
    """What remains of a source row whose worker died twice in ``step``."""
    lines = Lines.of([row], steps)
    for count in lines.funnel.steps:
        count.entered = 1
        if count.name == step:
            count.quarantined["WorkerDied"] = 1
            break
    return Lines([Dead(row[key], step, "WorkerDied", f"worker died ({how})", canonical(scalars(row)))], lines.funnel)


def _take_batches(
    lines: Sequence[Row | Dead], step: Step, function: BatchFunction, key: str, all_lines: Lines
) -> list[Row | Dead]:
    """The lines after a step of batches, in their order."""
    count, groups = all_lines.funnel.step(step.name), dict[object, list[int]]()
    for place, line in enumerate(lines):
        if not isinstance(line, Dead) and _is_taken(line, step):
            groups.setdefault(line.get(step.group_by) if step.group_by else None, []).append(place)
    moved: list[list[Row | Dead]] = [[line] for line in lines]
    size = step.batch or 1
    for places in groups.values():
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            rows = [cast(Row, lines[place]) for place in chosen]
            try:
                answers = _answers(function([dict(row) for row in rows]), len(rows))
            except (KeyboardInterrupt, HelperAwayError):
                raise
            except BaseException as error:
                _raise_if_full(error, step)
                if len(rows) == 1:
                    _raise_if_exhausted(error, step, rows[0][key])
                    count.entered += rows[0].get(REJECTED) is None
                    moved[chosen[0]] = _failed(rows[0], step, error, key, count)
                    continue
                all_lines.repeated[step.name] += 1
                for place, row in zip(chosen, rows, strict=True):
                    moved[place] = _take(row, step, lambda one: _answers(function([one]), 1)[0], key, count)
            else:
                for place, row, answer in zip(chosen, rows, answers, strict=True):
                    moved[place] = _take(row, step, _answering(answer), key, count)
    return [after for part in moved for after in part]


def _answers(answers: object, rows: int) -> list[list[Row]]:
    if not isinstance(answers, list) or len(answers) != rows:
        told = f"{len(answers)}" if isinstance(answers, list) else f"a {type(answers).__name__}"
        raise RowError(f"a step of batches must return one list of rows for each row: got {told} for {rows} rows")
    return answers


def _answering(answer: list[Row]) -> StepFunction:
    return lambda row: answer


def _is_taken(line: Row, step: Step) -> bool:
    return line.get(REJECTED) is None or step.sees_rejected


def _raise_if_full(error: BaseException, step: Step) -> None:
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        raise DiskFullError(
            f"no space left in the step {step.name!r} ({error.filename or 'unknown file'}); "
            "free some space and start again: finished shards are kept"
        ) from error


def _raise_if_exhausted(error: BaseException, step: Step, row: str) -> None:
    """Memory, of the machine or of a GPU, and a GPU's own errors, after which nothing works on it in this process.

    Whether a row's size or the machine is to blame cannot be told here, so no row is given up: a step that knows that a
    row is too large should say so with another error, as those that read pictures do by their limit of pixels.
    """
    memory = isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)))
    if memory or (isinstance(error, RuntimeError) and _GPU.search(str(error))):
        what = "no memory left" if memory else "the GPU failed"
        why = " ".join(str(error).split())[:_LONGEST_REASON]
        raise EngineError(
            f"{what} in the step {step.name!r} at the row {row!r} ({type(error).__name__}{': ' if why else ''}{why}); "
            "use fewer workers or smaller batches, or free the machine, and start again: finished shards are kept"
        ) from error


def _take(line: Row | Dead, step: Step, function: StepFunction, key: str, count: StepCount) -> list[Row | Dead]:
    if isinstance(line, Dead) or not _is_taken(line, step):
        return [line]
    fallen = line.get(REJECTED)
    count.entered += fallen is None
    try:
        rows = _results(function(dict(line)), line, key)
    except (KeyboardInterrupt, HelperAwayError):
        raise
    except BaseException as error:
        _raise_if_full(error, step)
        _raise_if_exhausted(error, step, line[key])
        return _failed(line, step, error, key, count)
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


def _failed(line: Row, step: Step, error: BaseException, key: str, count: StepCount) -> list[Row | Dead]:
    if line.get(REJECTED) is not None:  # it is out already, and stays out for its first reason
        return [line]
    message = _ADDRESS.sub("0x", " ".join(str(error).split()))[:_LONGEST_MESSAGE]
    count.quarantined[type(error).__name__] += 1
    return [Dead(line[key], step.name, type(error).__name__, message, canonical(scalars(line)))]


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
