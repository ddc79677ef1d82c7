"""The local runner: shards through worker processes, one row at a time where a worker died.

A pool of the standard library counts as broken when one worker dies and does not tell on which task; so each worker
here is a process with a pipe of its own, looked after by a thread. Workers never touch the output folder.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from queue import SimpleQueue
from typing import Any

from intarsia.engines.errors import EngineError
from intarsia.engines.runner.packing import PackedShard, pack
from intarsia.engines.runner.process import Lines, advance, build, died
from intarsia.engines.runner.rows import Row, Step
from intarsia.errors import IntarsiaError

_TRIES = 2


def run_here(steps: Sequence[Step], shards: Mapping[int, Sequence[Row]], key: str) -> Iterator[PackedShard]:
    """All shards in this process, one after the other."""
    functions = build(steps)
    for index, rows in shards.items():
        yield pack(index, advance(Lines.of(rows, steps), steps, functions, key), key)


def run_workers(
    steps: Sequence[Step], shards: Mapping[int, Sequence[Row]], workers: int, key: str
) -> Iterator[PackedShard]:
    """Shards in ``workers`` processes, in the order in which they are done; all processes end with the iterator."""
    check_picklable(steps)
    slots = [Worker(steps, key) for _ in range(min(workers, len(shards)))]
    free: SimpleQueue[Worker] = SimpleQueue()
    for slot in slots:
        free.put(slot)

    def one(index: int) -> PackedShard:
        slot = free.get()
        try:
            return slot.shard(index, shards[index])
        finally:
            free.put(slot)

    waiting, running = iter(shards), set[Future[PackedShard]]()
    executor = ThreadPoolExecutor(len(slots))
    try:
        while True:
            # A few shards ahead of the writer, so that workers need not wait and memory stays bounded.
            while len(running) < 2 * len(slots) and (index := next(waiting, None)) is not None:
                running.add(executor.submit(one, index))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for slot in slots:
            slot.close()
        executor.shutdown(cancel_futures=True)
        for slot in slots:
            slot.join()


def check_picklable(steps: Sequence[Step]) -> None:
    for step in steps:
        try:
            pickle.dumps(step)
        except Exception as error:
            raise EngineError(
                f"the step {step.name!r} cannot be sent to another process ({error}); make it from a module's "
                "function, or run with one worker"
            ) from error


class _Died(Exception):
    """The worker's process ended in the middle of a task."""


class Worker:
    """One process that has built the steps, started when it first gets work and anew after it died."""

    def __init__(self, steps: Sequence[Step], key: str) -> None:
        self._steps, self._key = steps, key
        self._process: Any = None
        self._pipe: Connection | None = None
        self._closed = False
        self._lock = threading.Lock()

    def shard(self, index: int, rows: Sequence[Row]) -> PackedShard:
        """The packed shard. If the process dies, the rows are taken one by one. Raises what the worker could not go on
        from."""
        try:
            packed: PackedShard = self._ask(("shard", index, list(rows)))
            return packed
        except _Died:
            return self.row_by_row(index, rows)

    def row_by_row(self, index: int, rows: Sequence[Row]) -> PackedShard:
        """The packed shard, each row a task of its own; a row whose process dies twice is quarantined."""
        lines = Lines.of([], self._steps)
        for row in rows:
            lines.add(self._alone(row))
        return pack(index, lines, self._key)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def join(self) -> None:
        if self._process is not None:
            self._process.join()

    def _alone(self, row: Row) -> Lines:
        how = ""
        for _ in range(_TRIES):
            self._step = ""
            try:
                lines: Lines = self._ask(("row", row))
                return lines
            except _Died as error:
                how = str(error)
        return died(row, self._step or self._steps[0].name, self._key, how, self._steps)

    def _ask(self, task: tuple[Any, ...]) -> Any:
        self._start()
        assert self._pipe is not None
        try:
            self._pipe.send(task)
            while True:
                kind, value = self._pipe.recv()
                if kind == "step":
                    self._step = value
                elif kind == "failed":
                    raise value
                else:
                    return value
        except (EOFError, OSError) as error:
            raise _Died(self._ended()) from error

    def _start(self) -> None:
        """A running process that has built its steps. Raises EngineError if it dies while doing so."""
        how = ""
        for _ in range(_TRIES):
            if self._process is not None:
                return
            context = multiprocessing.get_context("spawn")
            with self._lock:
                if self._closed:
                    raise EngineError("the engine was stopped")
                self._pipe, theirs = context.Pipe()
                self._process = context.Process(target=_serve, args=(theirs, self._steps, self._key), daemon=True)
                self._process.start()
                theirs.close()
            try:
                kind, value = self._pipe.recv()
            except (EOFError, OSError):
                how = self._ended()
                continue
            if kind == "failed":
                raise value
        if self._process is None:
            raise EngineError(
                f"a worker died while its steps were being built ({how}); try fewer workers, and in a script of your "
                "own call the engine below: if __name__ == '__main__'"
            )

    def _ended(self) -> str:
        """How the process ended; the next task starts a new one."""
        assert self._pipe is not None
        self._process.join()
        while (code := self._process.exitcode) is None:  # another thread may just be collecting it
            time.sleep(0.01)
        with self._lock:
            self._process = None
            self._pipe.close()
            if self._closed:
                raise EngineError("the engine was stopped")
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _serve(pipe: Connection, steps: Sequence[Step], key: str) -> None:
    """A worker's life: build the steps, then answer tasks until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        functions = build(steps)
        pipe.send(("ready", None))
        while True:
            task = pipe.recv()
            if task[0] == "shard":
                done = advance(Lines.of(task[2], steps), steps, functions, key)
                pipe.send(("done", pack(task[1], done, key)))
            else:
                announce = lambda name: pipe.send(("step", name))  # noqa: E731
                pipe.send(("done", advance(Lines.of([task[1]], steps), steps, functions, key, announce)))
    except IntarsiaError as error:
        pipe.send(("failed", sendable(error)))
    except (EOFError, OSError):
        pass


def sendable(error: IntarsiaError) -> IntarsiaError:
    """The error, or one with the same message where it cannot travel between processes."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return EngineError(str(error))
    return error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
