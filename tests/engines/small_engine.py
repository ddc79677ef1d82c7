"""A small engine of plain Python steps, as a module (for worker processes) and as a program (to be killed)."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from intarsia.engines import BatchFunction, EngineReport, Row, Step, StepFunction, children, run_engine
from intarsia.perception import HelperAwayError


def number(text: str) -> float:
    """A float in [0, 1) that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def make_detect(pause: float = 0.0) -> StepFunction:
    def detect(row: Row) -> list[Row]:
        time.sleep(pause)
        if row["number"] % 7 == 3:
            raise ValueError(f"picture {row['number']} is broken\nat {object()!r}")
        found = row["number"] % 3
        if not found:
            row["rejected"] = "nothing found"
            return [row]
        return children(row, [{"place": n, "area": number(f"{row['key']}.{n}")} for n in range(found)])

    return detect


def make_paint() -> StepFunction:
    def paint(row: Row) -> list[Row]:
        if row["area"] < 0.1:
            return [{**row, "rejected": "tiny"}]
        row["image.png"] = hashlib.sha256(row["key"].encode()).digest() * 5 + b"\0"
        row["score"] = number(row["key"])
        return [row]

    return paint


def make_trap(fatal: int, mode: str) -> StepFunction:
    """A step that does something terrible at one row."""

    def trap(row: Row) -> list[Row]:
        if row["number"] == fatal:
            if mode == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif mode == "memory":
                raise MemoryError
            elif mode == "gpu memory":
                import torch

                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore of it")
            elif mode == "gpu":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            elif mode == "exit":
                sys.exit("enough")
            elif mode == "away":
                raise HelperAwayError("the server is down: try again later")
            elif mode == "full":
                raise OSError(28, "No space left on device", "picture.png")
        return [row]

    return trap


def make_batched(fatal: int = -1, mode: str = "raise", most: int = 3) -> BatchFunction:
    """Splits and rejects like `make_detect`, several rows at once; something terrible happens at one row."""
    single = make_detect()

    def detect(rows: list[Row]) -> list[list[Row]]:
        if len(rows) > most or len({row["side"] for row in rows}) > 1:
            raise AssertionError("a batch is too large, or mixed")
        numbers = [row["number"] for row in rows]
        if fatal in numbers and mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fatal in numbers and mode == "raise":
            raise ValueError("poison")
        if fatal in numbers and mode == "short":
            return []
        return [single(row) if row["number"] % 7 != 3 else [row] for row in rows]

    return detect


def make_size() -> StepFunction:
    return lambda row: [{**row, "side": 64 if row["number"] % 4 else 96}]


def batched_steps(fatal: int = -1, mode: str = "raise", batch: int = 3) -> list[Step]:
    """A step of batches between steps of rows."""
    detect = partial(make_batched, fatal, mode, batch)
    return [Step("size", make_size), Step("detect", detect, batch=batch, group_by="side"), Step("score", make_score)]


def make_score() -> StepFunction:
    return lambda row: [{**row, "score": number(row["key"])}]


def make_broken() -> StepFunction:
    raise RuntimeError("no weights")


def make_dying() -> StepFunction:
    os._exit(3)


def small_source(rows: int = 20) -> list[Row]:
    return [{"key": f"photo-{n:03d}", "number": n, "seed.bin": bytes([n, 0])} for n in range(rows)]


def small_steps(pause: float = 0.0) -> list[Step]:
    return [Step("detect", partial(make_detect, pause)), Step("paint", make_paint)]


def run_small(output: Path, **options: Any) -> EngineReport:
    given: dict[str, Any] = {
        "name": "small",
        "version": "1",
        "source": small_source(),
        "steps": small_steps(),
        "settings": {"seed": 1},
        "shard_size": 4,
        **options,
    }
    return run_engine(output=output, **given)


if __name__ == "__main__":
    run_small(Path(sys.argv[1]), steps=small_steps(float(sys.argv[2])), workers=int(sys.argv[3]))
