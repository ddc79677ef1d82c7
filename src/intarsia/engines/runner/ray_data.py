"""The same shards on Ray Data: each stage is a pool of actors that keep their models; one batch is one shard, so all
are of equal size, and what travels between stages is bytes. Only the driver writes."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from intarsia.engines.errors import EngineError, MissingExtraError
from intarsia.engines.runner.local import Worker, sendable
from intarsia.engines.runner.packing import INSTALL, PackedShard, pack, pyarrow
from intarsia.engines.runner.process import Lines, advance, build
from intarsia.engines.runner.rows import Row, Step
from intarsia.errors import IntarsiaError


def ray_packages() -> Any:
    """Ray with Ray Data. Raises MissingExtraError."""
    try:
        # Nothing about the use of this program is sent anywhere.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(f"the runner 'ray' needs Ray Data, which is not installed; {INSTALL}") from error
    return ray


def stages_of(steps: Sequence[Step]) -> list[tuple[Step, ...]]:
    """Neighbouring steps that ask for the same share of GPUs work in one actor."""
    return [tuple(group) for _, group in groupby(steps, key=lambda step: step.gpus)]


def run_ray(
    steps: Sequence[Step], shards: Mapping[int, Sequence[Row]], workers: int, key: str
) -> Iterator[PackedShard]:
    """Shards in the order in which Ray finishes them. Uses the running Ray, or the cluster of RAY_ADDRESS, or starts
    one on this machine for the time of the run.

    A shard whose actor dies twice is done again here, in a process of its own, row by row.
    """
    ray = ray_packages()
    stages = stages_of(steps)
    with _connected(ray, workers * len(stages)), _settings(ray):
        items = [{"index": index, "payload": pickle.dumps(list(rows))} for index, rows in shards.items()]
        data = ray.data.from_items(items, override_num_blocks=len(items))
        for number, stage in enumerate(stages):
            data = data.map_batches(
                _Stage,
                fn_constructor_args=(stage, tuple(steps), key, number == 0, number == len(stages) - 1),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
                num_cpus=1,
                num_gpus=stage[0].gpus,
                ray_remote_args_fn=_limits,
            )
        missing = dict(shards)
        for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for index, payload in zip(table["index"].to_pylist(), table["payload"].to_pylist(), strict=True):
                value = pickle.loads(payload)
                if isinstance(value, IntarsiaError):
                    raise value
                del missing[index]
                yield value
    if missing:
        worker = Worker(steps, key)
        try:
            for index, rows in sorted(missing.items()):
                yield worker.row_by_row(index, rows)
        finally:
            worker.close()
            worker.join()


def _limits() -> dict[str, int]:
    """A shard gets two tries; without the limit Ray would repeat one that kills its actor for ever."""
    return {"max_restarts": -1, "max_task_retries": 1}


class _Stage:
    """An actor of one stage. Errors that end the run travel on as payload, so that the driver can raise them."""

    def __init__(self, stage: Sequence[Step], steps: Sequence[Step], key: str, first: bool, last: bool) -> None:
        self._stage, self._steps, self._key, self._first, self._last = stage, steps, key, first, last
        self._functions: list[Any] | None = None

    def __call__(self, batch: Any) -> Any:
        arrow = pyarrow()
        index, value = batch["index"][0].as_py(), pickle.loads(batch["payload"][0].as_py())
        if not isinstance(value, IntarsiaError):
            try:
                value = self._advanced(index, Lines.of(value, self._steps) if self._first else value)
            except IntarsiaError as error:
                value = sendable(error)
        return arrow.table({"index": [index], "payload": arrow.array([pickle.dumps(value)], arrow.large_binary())})

    def _advanced(self, index: int, lines: Lines) -> Lines | PackedShard:
        if self._functions is None:
            self._functions = build(self._stage)
        lines = advance(lines, self._stage, self._functions, self._key)
        return pack(index, lines, self._key) if self._last else lines


@contextlib.contextmanager
def _connected(ray: Any, cpus: int) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    here = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": cpus, "include_dashboard": False}
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **here)
    except Exception as error:
        raise EngineError(f"Ray cannot be started ({error}); check RAY_ADDRESS, or use the local runner") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _settings(ray: Any) -> Iterator[None]:
    """Shards whose actor died are left out rather than ending the run, and no bars are drawn."""
    context = ray.data.DataContext.get_current()
    before = context.max_errored_blocks, context.enable_progress_bars
    context.max_errored_blocks, context.enable_progress_bars = -1, False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.max_errored_blocks, context.enable_progress_bars = before
        logger.setLevel(level)
