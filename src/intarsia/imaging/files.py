"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from intarsia.errors import DiskFullError, OutputError, OutputExistsError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def check_writable(path: str | Path, *, overwrite: bool) -> Path:
    """The path, if a file may be put there.

    Raises `OutputExistsError` for an existing file unless `overwrite`, and `OutputError` where the folder
    is missing or the path is no ordinary file.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: the folder {target.parent} does not exist; make it first")
    if target.exists() and not target.is_file():
        raise OutputError(
            f"cannot write {target}: it exists and is not an ordinary file; choose another name"
        )
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{target} exists already; choose another name or ask to overwrite it")
    return target


def write_file_atomically(path: str | Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write bytes to a temporary neighbour, then move it into place; on any failure nothing new is left
    behind.

    Raises `OutputExistsError`, `DiskFullError` or `OutputError`.
    """
    target = check_writable(path, overwrite=overwrite)
    temporary = target.with_name(f".intarsia-{secrets.token_hex(6)}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        check_writable(target, overwrite=overwrite)
        os.replace(temporary, target)
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise DiskFullError(
                f"no space left while writing {target} ({len(data)} bytes); free some space and try again"
            ) from error
        reason = error.strerror or type(error).__name__
        raise OutputError(f"cannot write {target}: {reason}; check the folder and its permissions") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
