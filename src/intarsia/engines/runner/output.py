"""The output folder: its identity, its lock, its shards, and what makes a shard committed.

A shard counts once its commit file ``NNNNN.json`` stands, which is written after the files it describes; all else in
``shards/`` is left over from a run that was stopped, and is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from intarsia.engines.errors import EngineBusyError, EngineChangedError, EngineError
from intarsia.engines.runner.funnel import Funnel
from intarsia.engines.runner.packing import SUFFIXES, PackedShard, json_bytes, shard_name
from intarsia.errors import DiskFullError, OutputError, OutputExistsError
from intarsia.imaging import write_file_atomically

ENGINE, MANIFEST, FUNNEL, FUNNEL_TEXT = "engine.json", "manifest.json", "funnel.json", "funnel.md"
SELECTION, THRESHOLDS, LOCK, SHARDS = "selection.parquet", "thresholds.json", ".lock", "shards"
INDEX = ".index.parquet"
"""What `FileIndex` keeps: a cache, no part of the output."""
ENDINGS = (MANIFEST, SELECTION, THRESHOLDS, FUNNEL, FUNNEL_TEXT)
_OURS = re.compile(r"\.intarsia-[0-9a-f]+\.part|\d{5,}\.(tar|parquet|dead\.parquet|json)")
_PART = re.compile(r"\.intarsia-[0-9a-f]+\.part")


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Make the folder and hold it alone while the block runs; the system lets go when the process ends, however it
    ends. Raises EngineBusyError, OutputExistsError for a folder of other things, or OutputError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not (root / ENGINE).exists():
            refuse_foreign(root)  # before the lock is made, so that a folder of other things stays as it is
        file = open(root / LOCK, "ab")  # noqa: SIM115
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(f"cannot use {root} as output folder: {reason}; choose another one") from error
    with file:
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineBusyError(
                f"another process is working in {root}; wait for it to end, or choose another output folder"
            ) from error
        yield


class Output:
    """One engine's output folder of ``shards`` shards."""

    def __init__(self, root: Path, shards: int) -> None:
        self.root, self.shards = root, shards

    def path(self, index: int, suffix: str) -> Path:
        return self.root / SHARDS / (shard_name(index) + suffix)

    def commit_of(self, index: int, *, verify: bool = False) -> Funnel | None:
        """The counts of a committed shard whose files have the right sizes (with ``verify`` the right hashes, too);
        None for all others."""
        try:
            commit = _read_commit(self.path(index, ".json"))
            funnel = Funnel.from_json(commit["funnel"])
            problems = _problems(self.root / SHARDS, shard_name(index), commit["files"], hashes=verify)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return None if problems else funnel

    def open(self, identity: Mapping[str, Any], *, overwrite: bool, verify: bool) -> dict[int, Funnel]:
        """Claim the folder for a run and remove leftovers; the counts of the shards that are committed already.

        Raises EngineChangedError for the folder of another run, OutputExistsError for a folder of other things.
        """
        known = self._identity()
        if known is not None and known != dict(identity) and (overwrite or not self._has_commits()):
            self._clear()
            known = None
        if known is None:
            refuse_foreign(self.root)
            _remove_parts(self.root)
            write_file_atomically(self.root / ENGINE, json_bytes(identity))
            _sync(self.root)
        elif known != dict(identity):
            raise _changed(self.root, known, identity)
        elif overwrite:
            self._clear(keep_identity=True)
        _remove_parts(self.root)
        (self.root / SHARDS).mkdir(exist_ok=True)
        committed = {}
        for index in range(self.shards):
            funnel = self.commit_of(index, verify=verify)
            if funnel is not None:
                committed[index] = funnel
        if len(committed) < self.shards:
            for name in ENDINGS:
                (self.root / name).unlink(missing_ok=True)
        good = {shard_name(index) for index in committed}
        # Commit files go first, so that a stop in between leaves no commit without its files.
        leftovers = [p for p in (self.root / SHARDS).iterdir() if _OURS.fullmatch(p.name)]
        for path in sorted(leftovers, key=lambda p: p.suffix != ".json"):
            if path.name.split(".")[0] not in good:
                path.unlink()
        return committed

    def _has_commits(self) -> bool:
        """Whether anything would be lost: a run that has ended before its first shard leaves its settings only."""
        return any((self.root / SHARDS).glob("*.json"))

    def look(self, identity: Mapping[str, Any], *, overwrite: bool) -> list[int]:
        """The shards of this run that are committed, with nothing claimed or removed. Raises as `open` does."""
        known = self._identity()
        if known is None and self.root.exists():
            refuse_foreign(self.root)
        if known is None or overwrite:
            return []
        if known != dict(identity):
            if not self._has_commits():
                return []
            raise _changed(self.root, known, identity)
        return [index for index in range(self.shards) if self.commit_of(index) is not None]

    def commit(self, shard: PackedShard) -> None:
        """Write a shard's files, then its commit file; after a failure nothing of the shard remains.

        Raises DiskFullError or OutputError.
        """
        try:
            for suffix in SUFFIXES:
                write_file_atomically(self.path(shard.index, suffix), shard.files[suffix], overwrite=True)
            _sync(self.root / SHARDS)
            write_file_atomically(self.path(shard.index, ".json"), shard.commit(), overwrite=True)
            _sync(self.root / SHARDS)
        except (DiskFullError, OutputError) as error:
            for suffix in (".json", *SUFFIXES):
                with contextlib.suppress(OSError):
                    self.path(shard.index, suffix).unlink(missing_ok=True)
            if isinstance(error, DiskFullError):
                raise DiskFullError(
                    f"no space left while writing shard {shard_name(shard.index)} in {self.root}; what is committed is "
                    "intact: free some space and start the same command again"
                ) from error
            raise

    def manifest(self) -> dict[str, Any]:
        """All files of all shards with sizes and hashes."""
        files: dict[str, Any] = {}
        for index in range(self.shards):
            files |= _read_commit(self.path(index, ".json"))["files"]
        return {"shards": self.shards, "files": files}

    def funnel(self, steps: Sequence[str]) -> Funnel:
        """The counts of all committed shards together."""
        total = Funnel.empty(steps)
        for index in range(self.shards):
            found = self.commit_of(index)
            if found is not None:
                total.add(found)
        return total

    def write(self, name: str, data: bytes) -> None:
        """Write one of the folder's closing files, unless it stands already with the same bytes."""
        path = self.root / name
        if not path.is_file() or path.read_bytes() != data:
            write_file_atomically(path, data, overwrite=True)

    def _identity(self) -> dict[str, Any] | None:
        path = self.root / ENGINE
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict) or "engine" not in found:
            raise OutputExistsError(f"{path} is not an engine's; choose another output folder")
        return found

    def _clear(self, keep_identity: bool = False) -> None:
        for name in ENDINGS:
            (self.root / name).unlink(missing_ok=True)
        shutil.rmtree(self.root / SHARDS, ignore_errors=True)
        if not keep_identity:
            (self.root / ENGINE).unlink(missing_ok=True)


def open_output(folder: str | Path) -> tuple[Output, dict[str, Any]]:
    """An existing output folder and its identity. Raises EngineError."""
    root = Path(folder)
    if not (root / ENGINE).is_file():
        raise EngineError(f"{root} is not the output of an engine: it has no {ENGINE}")
    identity = Output(root, 0)._identity() or {}
    rows, size = identity.get("source", {}).get("rows"), identity.get("shard_size")
    if not isinstance(rows, int) or not isinstance(size, int) or size < 1:
        raise EngineError(f"{root / ENGINE} is not whole; the folder cannot be read")
    return Output(root, -(-rows // size)), identity


def verify_output(folder: str | Path) -> tuple[str, ...]:
    """What is wrong with an output folder, one line each: shards that are missing, files of another size or hash.
    Empty when the run is finished and whole. Reads every byte. Raises EngineError where there is no engine's output."""
    output, _ = open_output(folder)
    found: list[str] = []
    for index in range(output.shards):
        name = shard_name(index)
        try:
            commit = _read_commit(output.path(index, ".json"))
            found += _problems(output.root / SHARDS, name, commit["files"], hashes=True)
        except FileNotFoundError:
            found.append(f"shard {name} is not committed")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            found.append(f"shard {name}: its commit file cannot be read")
    path = output.root / MANIFEST
    if not found and (not path.is_file() or path.read_bytes() != json_bytes(output.manifest())):
        found.append(f"{MANIFEST} is missing or does not fit the shards")
    return tuple(found)


def _read_commit(path: Path) -> Any:
    """The content of a commit file. Raises ValueError unless it has the very bytes that were written."""
    data = path.read_bytes()
    content = json.loads(data)
    if json_bytes(content) != data:
        raise ValueError(f"{path} was changed")
    return content


def _problems(folder: Path, shard: str, files: Mapping[str, Any], *, hashes: bool) -> list[str]:
    if set(files) != {shard + suffix for suffix in SUFFIXES}:
        return [f"shard {shard}: its commit file names other files"]
    found = []
    for name, expected in sorted(files.items()):
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != expected["bytes"]:
            found.append(f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}")
        elif hashes:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                    found.append(f"{name} has other bytes than when it was committed")
    return found


def _changed(root: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> EngineChangedError:
    return EngineChangedError(
        f"{root} holds the output of another run: {_difference(old, new)}; "
        "choose another folder, or ask to overwrite it"
    )


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    changes = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if name == "settings" and isinstance(before, Mapping) and isinstance(after, Mapping):
            changes += [
                f"the setting {inner!r} was {before.get(inner)!r} and is now {after.get(inner)!r}"
                for inner in sorted({*before, *after})
                if before.get(inner) != after.get(inner) or (inner in before) != (inner in after)
            ]
        elif name == "source" and before != after:
            counts = [value.get("rows") if isinstance(value, Mapping) else None for value in (before, after)]
            changes.append(f"the source is another one ({counts[0]} rows before, {counts[1]} now)")
        elif before != after:
            changes.append(f"{name} was {before!r} and is now {after!r}")
    return ", ".join(changes)


def refuse_foreign(root: Path) -> None:
    foreign = sorted(p.name for p in root.iterdir() if p.name not in (LOCK, INDEX) and not _PART.fullmatch(p.name))
    if foreign:
        raise OutputExistsError(
            f"{root} is not the output of an engine and is not empty (it holds {foreign[0]!r}); choose another folder"
        )


def _remove_parts(folder: Path) -> None:
    for path in folder.iterdir():
        if _PART.fullmatch(path.name):
            path.unlink()


def _sync(folder: Path) -> None:
    """Make renames in the folder last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
