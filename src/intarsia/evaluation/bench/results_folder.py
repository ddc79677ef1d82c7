"""What methods made of a benchmark: `run.json`, one line a result, and the pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from intarsia.evaluation.bench.errors import BenchError
from intarsia.imaging import write_file_atomically

FORMAT = 1
RUN, LINES, PICTURES, SUBJECTS = "run.json", "lines", "pictures", "subjects"


@dataclass(frozen=True)
class Result:
    """``picture``: relative to the results' folder, None after an ``error`` (one line)."""

    row: str
    method: str
    seed: int
    picture: str | None
    picture_sha256: str | None
    seconds: float
    error: str | None = None


class ResultLines:
    """Results are appended to one file of this worker; a line is there wholly or, after a kill, ignored."""

    def __init__(self, folder: Path, worker: str) -> None:
        self.path = folder / LINES / f"{worker}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            data = self.path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if whole != data:
                write_file_atomically(self.path, whole, overwrite=True)

    def add(self, result: Result) -> None:
        """Append, and have it on the disk."""
        with self.path.open("ab") as file:
            file.write((json.dumps(asdict(result), sort_keys=True) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())


def read_results(folder: str | Path) -> list[Result]:
    """All results, the first of each (row, method); torn and foreign lines are passed over.

    Raises:
        BenchError: no results there.
    """
    folder = Path(folder)
    if not (folder / RUN).is_file():
        raise BenchError(f"{folder} holds no results ({RUN} is missing): make some with `intarsia bench run`")
    found: dict[tuple[str, str], Result] = {}
    for result in _lines(sorted((folder / LINES).glob("*.jsonl"))):
        known = found.get((result.row, result.method))
        if known is None or (known.error is not None and result.error is None):
            found[result.row, result.method] = result
    return list(found.values())


def read_run(folder: str | Path) -> dict[str, Any]:
    """`run.json`. Raises BenchError: missing, damaged, or of another format."""
    path = Path(folder) / RUN
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = run["format"]
    except OSError as error:
        raise BenchError(
            f"{folder} holds no results ({RUN} is missing): make some with `intarsia bench run`"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} is damaged ({error}): run into another folder") from error
    if version != FORMAT:
        raise BenchError(f"{path} was made by another version (format {version!r}): run into another folder")
    return run


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Write `run.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps({"format": FORMAT, **run}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_file_atomically(folder / RUN, data.encode(), overwrite=True)


def _lines(paths: Iterable[Path]) -> Iterator[Result]:
    for path in paths:
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                yield Result(**json.loads(line))
            except (ValueError, TypeError):
                continue
