"""Files and folders that take the place of what was there, all of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path


def put_in_place(places: Mapping[Path, Path], aside: Path) -> None:
    """Move each new file or folder (key) to its place (value); where one cannot be moved, what was there before is put
    back and the error raised. ``aside``: a folder on the same disk for what was there, not there itself before and
    after."""
    aside.mkdir(parents=True)
    kept: list[tuple[Path, Path]] = []
    moved: list[Path] = []
    try:
        for number, (new, place) in enumerate(places.items()):
            if place.exists():
                old = aside / str(number)
                place.rename(old)
                kept.append((old, place))
            new.rename(place)
            moved.append(place)
    except BaseException:
        for place in moved:
            _remove(place)
        for old, place in kept:
            old.rename(place)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
