"""Files that could run code when they are opened: by their names, and by how they start."""

from __future__ import annotations

from pathlib import Path

PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")


def is_pickle(path: Path) -> bool:
    """Whether a file starts as torch.save's do, as a zip archive now and as a bare pickle in the past. A safetensors
    file may start so by chance, with the length of its header, which is JSON from byte 8 on."""
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
    except OSError:
        return False
    return start.startswith((b"PK", b"\x80")) and start[8:] != b"{"
