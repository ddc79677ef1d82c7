"""Running a benchmark in several processes, each with its own part of the subjects."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark
from intarsia.evaluation.bench.methods import Method
from intarsia.evaluation.bench.results_folder import read_results
from intarsia.evaluation.bench.run import Progress, RunOptions, Say, open_run, run_part

_POLL = 1.0


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

    With several `workers` each has its subjects, its own model and its share of the CPU's cores. The results are the
    same for any number. Stopped at any moment, the same call goes on.

    Raises:
        BenchError: the folder belongs to something else, a method cannot run here, or a worker died.
    """
    if workers < 1:
        raise BenchError(f"{workers} workers cannot be used: give 1 or more")
    open_run(benchmark, folder, methods, options)
    count = min(workers, len({row.subject for row in benchmark.rows}))
    if count == 1:
        return run_part(benchmark, folder, methods, options, progress=progress, say=say)
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // count)
    parts = [
        context.Process(
            target=_work,
            args=(benchmark, folder, list(methods), replace(options, part=(number, count)), threads),
            daemon=True,
        )
        for number in range(1, count + 1)
    ]
    kept = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        for part in parts:
            part.start()
        _wait(parts, benchmark, folder, methods, progress)
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for part in parts:
            if part.is_alive():
                part.terminate()
            part.join()
    dead = [part.exitcode for part in parts if part.exitcode]
    if dead:
        raise BenchError(f"{len(dead)} of {count} workers stopped (exit code {dead[0]}): the same command goes on")
    wanted = {(row.id, method.name) for row in benchmark.rows for method in methods}
    failed = [result for result in read_results(folder) if result.error and (result.row, result.method) in wanted]
    if say is not None:
        for result in failed:
            say(f"{result.row}, {result.method}: {result.error}")
    return len(failed)


_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def _work(
    benchmark: Benchmark, folder: Path, methods: Sequence[Method], options: RunOptions, threads: int
) -> None:
    import torch

    torch.set_num_threads(threads)
    run_part(benchmark, folder, methods, options)


def _wait(
    parts: Sequence[multiprocessing.process.BaseProcess],
    benchmark: Benchmark,
    folder: Path,
    methods: Sequence[Method],
    progress: Progress | None,
) -> None:
    wanted = {(row.id, method.name) for row in benchmark.rows for method in methods}
    while any(part.is_alive() for part in parts):
        if any(part.exitcode for part in parts):
            return  # the others need not go on for nothing
        if progress is not None:
            done = sum((result.row, result.method) in wanted for result in read_results(folder))
            progress(done, len(wanted), "")
        time.sleep(_POLL)
