"""Running a benchmark in several processes, each with its own part of the subjects."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark
from intarsia.evaluation.bench.methods import Method
from intarsia.evaluation.bench.results_folder import LINES, Result, locked, read_results
from intarsia.evaluation.bench.run import Progress, RunOptions, Say, run_part
from intarsia.evaluation.bench.run_record import open_run

_POLL = 2.0


def run_benchmark(
    benchmark: Benchmark,
    folder: Path,
    methods: Sequence[Method],
    options: RunOptions,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    say: Say | None = None,
) -> int:
    """Make all results that are not there yet; returns how many rows and methods have an error instead of a picture.

    Each of the `workers` has its subjects and its own model, and on a CPU one thread, so that any number of them gives
    the same results. Stopped at any moment, the same call goes on.

    Raises:
        BenchError: the folder belongs to something else or is being written to, a method cannot run here, or a worker
            died.
    """
    if workers < 1:
        raise BenchError(f"{workers} workers cannot be used: give 1 or more")
    with locked(folder):
        open_run(benchmark, folder, methods, options)
        count = max(1, min(workers, len({row.subject for row in benchmark.rows})))
        if count == 1:
            with _one_thread(options):
                return run_part(benchmark, folder, methods, options, progress=progress, say=say)
        _run_parts(benchmark, folder, methods, options, count, progress)
    return _failed(benchmark, folder, methods, say)


def _run_parts(
    benchmark: Benchmark,
    folder: Path,
    methods: Sequence[Method],
    options: RunOptions,
    count: int,
    progress: Progress | None,
) -> None:
    context = multiprocessing.get_context("spawn")
    parts = [
        context.Process(
            target=_work, args=(benchmark, folder, list(methods), replace(options, part=(number, count))), daemon=True
        )
        for number in range(1, count + 1)
    ]
    try:
        for part in parts:
            part.start()
        _wait(parts, benchmark, folder, methods, progress)
    finally:
        for part in parts:
            if part.is_alive():
                part.terminate()
            part.join()
    dead = [part.exitcode for part in parts if part.exitcode]
    if dead:
        raise BenchError(f"{len(dead)} of {count} workers stopped (exit code {dead[0]}): the same command goes on")


def _failed(benchmark: Benchmark, folder: Path, methods: Sequence[Method], say: Say | None) -> int:
    wanted = {(row.id, method.name) for row in benchmark.rows for method in methods}
    failed = [result for result in read_results(folder) if result.error and (result.row, result.method) in wanted]
    if say is not None:
        for result in failed:
            say(f"{result.row}, {result.method}: {result.error}")
    return len(failed)


def _work(benchmark: Benchmark, folder: Path, methods: Sequence[Method], options: RunOptions) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with _one_thread(options):
        run_part(benchmark, folder, methods, options)


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on writing beside the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _one_thread(options: RunOptions) -> Iterator[None]:
    """Sums of several threads come in another order, so learned weights would depend on their number."""
    import torch

    before = torch.get_num_threads()
    if options.device_kind == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _wait(
    parts: Sequence[multiprocessing.process.BaseProcess],
    benchmark: Benchmark,
    folder: Path,
    methods: Sequence[Method],
    progress: Progress | None,
) -> None:
    wanted = {(row.id, method.name) for row in benchmark.rows for method in methods}
    seen = -1
    while any(part.is_alive() for part in parts):
        if any(part.exitcode for part in parts):
            return  # the others need not go on for nothing
        size = sum(path.stat().st_size for path in (folder / LINES).glob("*.jsonl"))
        if progress is not None and size != seen:
            seen = size
            done = sum(result.picture is not None for result in read_results(folder) if _key(result) in wanted)
            progress(done, len(wanted), "")
        time.sleep(_POLL)


def _key(result: Result) -> tuple[str, str]:
    return result.row, result.method
