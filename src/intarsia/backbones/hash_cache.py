"""Hashes of large files, kept in the user's cache folder: reading seven gigabytes at every start takes longer than
painting."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from intarsia.errors import OutputError
from intarsia.imaging import write_file_atomically

LEAST_BYTES = 200_000_000
"""In all; the hash of less is computed each time, and nothing is written."""
_MOST_ENTRIES = 256


def cached_hash(paths: Sequence[Path], compute: Callable[[], str]) -> str:
    """What `compute` gives for some files, or gave when they had the same names, sizes and times."""
    states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    if sum(size for _, size, _ in states) < LEAST_BYTES:
        return compute()
    key = hashlib.sha256(json.dumps(states).encode()).hexdigest()
    known = _read()
    if key not in known:
        known = dict(list({**_read(), key: compute()}.items())[-_MOST_ENTRIES:])
        # A cache that cannot be written costs time at the next start, no more.
        with suppress(OSError, OutputError, RuntimeError):
            _file().parent.mkdir(parents=True, exist_ok=True)
            write_file_atomically(_file(), json.dumps(known, indent=1).encode(), overwrite=True)
    return known[key]


def _file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intarsia" / "hashes.json"


def _read() -> dict[str, str]:
    with suppress(OSError, ValueError, RuntimeError):  # the last: a user without a home
        found = json.loads(_file().read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            return found
    return {}
