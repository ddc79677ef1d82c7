"""What was read of files, kept beside an engine's output, so that starting again need not read them all."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from intarsia.engines.runner.output import ENGINE, INDEX, refuse_foreign
from intarsia.engines.runner.packing import pack_table, read_table
from intarsia.errors import OutputError
from intarsia.imaging import write_file_atomically

Found = tuple[str | None, ...]
_STAMP = ("path", "size", "mtime_ns", "ctime_ns")
_FRESH = 2_000_000_000
_SAVE_EVERY = 60.0


@dataclass
class FileIndex:
    """What ``names`` say of the files below ``folder``, as far as they have not changed since.

    A file is read again when its size or one of its times is another, or when the time of its last change is too near
    to the reading to tell a later change from it. ``reader`` names the code that reads: what another one has found is
    forgotten, and what was not found is not kept. No result depends on the index; it may be deleted at any time.
    """

    path: Path
    folder: Path
    names: tuple[str, ...]
    reader: str
    known: dict[str, tuple[tuple[int, int, int], Found]] = field(default_factory=dict)
    _saved: float = field(default_factory=time.monotonic)
    _unsaved: bool = False

    @classmethod
    def beside(cls, output: str | Path, folder: Path, names: Sequence[str], reader: str) -> FileIndex:
        """The index in an engine's output folder, which need not be there yet.

        Raises OutputExistsError for a folder of other things, OutputError.
        """
        root = Path(output)
        index = cls(root / INDEX, folder, tuple(names), f"{reader} {_digest(os.fsencode(folder.resolve()))}")
        try:
            if root.exists() and not (root / ENGINE).exists():
                refuse_foreign(root)
            index._load()
        except OSError as error:
            raise OutputError(f"cannot use {root} as output folder: {error}; choose another one") from error
        return index

    def read(self, path: str, read: Callable[[], Found]) -> Found:
        """What is known of a file, or what ``read`` finds now. The path is below ``folder``; safe in threads."""
        before = _stamp(self.folder / path) if _is_text(path) else None
        kept = self.known.get(path)
        if before is not None and kept is not None and kept[0] == before:
            return kept[1]
        began = time.time_ns()
        found = read()
        told_apart = before is not None and began - max(before[1:]) >= _FRESH
        if told_apart and before == _stamp(self.folder / path) and None not in found:
            assert before is not None
            self.known[path] = before, found
            self._unsaved = True
        return found

    def save(self, *, now: bool = True) -> None:
        """Write what is new; without ``now`` only if the last time is a minute ago. Raises OutputError."""
        if not self._unsaved or (not now and time.monotonic() - self._saved < _SAVE_EVERY):
            return
        self._unsaved = False
        rows = sorted(list(self.known.items()))  # other threads may add to it
        columns: dict[str, list[object]] = {
            "path": [path for path, _ in rows],
            **{name: [stamp[n] for _, (stamp, _) in rows] for n, name in enumerate(_STAMP[1:])},
            **{name: [found[n] for _, (_, found) in rows] for n, name in enumerate(self.names)},
            "reader": [self.reader] * len(rows),
        }
        data = pack_table(columns, text=("path", "reader", *self.names))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make {self.path.parent}: {error.strerror}; choose another folder") from error
        write_file_atomically(self.path, data, overwrite=True)
        self._saved = time.monotonic()

    def _load(self) -> None:
        try:
            rows = read_table(self.path.read_bytes()).to_pylist()
        except FileNotFoundError:
            return
        except Exception:  # damaged: whatever the Parquet reader makes of it, the files can be read again
            return
        if not rows or set(rows[0]) != {*_STAMP, *self.names, "reader"} or rows[0]["reader"] != self.reader:
            return
        self.known = {
            row["path"]: ((row["size"], row["mtime_ns"], row["ctime_ns"]), tuple(row[name] for name in self.names))
            for row in rows
        }


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]
