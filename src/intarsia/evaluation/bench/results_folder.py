"""What methods made of a benchmark: `run.json`, one line a result, and the pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest_checks import file_sha256
from intarsia.imaging import write_file_atomically

FORMAT = 1
RUN, LINES, PICTURES, SUBJECTS, LOCK = "run.json", "lines", "pictures", "subjects", "lock"


@dataclass(frozen=True)
class Result:
    """``picture``: relative to the results' folder, None after an ``error`` (one line). ``commit``: of the code, `+`
    where files were changed since."""

    row: str
    method: str
    seed: int
    picture: str | None
    picture_sha256: str | None
    seconds: float
    error: str | None = None
    commit: str | None = None


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
    """The last result of each (row, method), one with a picture before one with an error; lines that are none are
    passed over (`broken_lines` counts them).

    Raises:
        BenchError: no results there.
    """
    folder = Path(folder)
    if not (folder / RUN).is_file():
        raise BenchError(f"{folder} holds no results ({RUN} is missing): make some with `intarsia bench run`")
    found: dict[tuple[str, str], Result] = {}
    for _, result in _lines(folder):
        if result is None:
            continue
        known = found.get((result.row, result.method))
        if known is None or known.picture is None or result.picture is not None:
            found[result.row, result.method] = result
    return list(found.values())


def broken_lines(folder: str | Path) -> dict[str, int]:
    """How many lines of each file are no results; the torn end of a killed run is none of them."""
    counts: dict[str, int] = {}
    for name, result in _lines(Path(folder)):
        if result is None:
            counts[name] = counts.get(name, 0) + 1
    return counts


def is_whole(folder: Path, result: Result) -> bool:
    """Whether a result's picture is there, inside the folder, and the one that was painted."""
    if result.picture is None:
        return False
    path = folder / result.picture
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        return inside and path.is_file() and file_sha256(path) == result.picture_sha256
    except (OSError, ValueError):
        return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """No other run writes to the folder meanwhile; the lock ends with the process.

    Raises:
        BenchError: another run does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            _lock(file)
        except OSError as error:
            raise BenchError(f"another run writes to {folder}: wait for it, or give another folder") from error
        yield


def _lock(file: IO[str]) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


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


def _lines(folder: Path) -> Iterator[tuple[str, Result | None]]:
    """Each whole line of each file; None for one that is no result."""
    for path in sorted((folder / LINES).glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield path.name, _result(line)


def _result(line: bytes) -> Result | None:
    try:
        result = Result(**json.loads(line))
    except (ValueError, TypeError):
        return None
    texts = (result.picture, result.picture_sha256, result.error, result.commit)
    good = isinstance(result.row, str) and isinstance(result.method, str) and isinstance(result.seed, int)
    good = good and all(text is None or isinstance(text, str) for text in texts)
    return result if good and isinstance(result.seconds, int | float) else None
