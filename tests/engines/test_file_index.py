"""The index of files: read once, read again when changed, and never a reason for another result."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from intarsia.engines.quadruplets import reading
from intarsia.engines.quadruplets.reading import list_photos
from intarsia.engines.runner.index import FileIndex
from intarsia.engines.runner.output import INDEX
from intarsia.errors import OutputExistsError
from intarsia.imaging import Picture


def photo(path: Path, value: int) -> None:
    Picture.from_array(np.full((20, 20, 3), value, np.uint8)).save(path, overwrite=True)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read; and the clock is far ahead, so that no file is too fresh for the index."""
    read, seen = reading._read_hashes, list[str]()

    def noting(folder: Path, path: str) -> tuple[str | None, str | None]:
        seen.append(path)
        return read(folder, path)

    monkeypatch.setattr(reading, "_read_hashes", noting)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10_000_000_000)
    return seen


def test_only_changed_files_are_read_again(tmp_path: Path, decoded: list[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        photo(photos / name, number)
    (photos / "broken.png").write_bytes(b"nothing")
    first = list_photos(photos, 2, out)
    assert sorted(decoded) == ["a.png", "b.png", "broken.png", "c.png"] and (out / INDEX).is_file()
    decoded.clear()
    assert list_photos(photos, 2, out) == first == list_photos(photos)
    assert decoded[0] == "broken.png" and len(decoded) == 5  # what could not be decoded is tried again
    stat = (photos / "b.png").stat()
    photo(photos / "b.png", 0)
    os.utime(photos / "b.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same modification time
    decoded.clear()
    changed = list_photos(photos, 1, out)
    assert decoded == ["b.png", "broken.png"]
    assert changed == list_photos(photos) != first
    assert [row["duplicate_of"] for row in changed] == [None, "a_png-" + changed[0]["key"].split("-")[-1], None, None]


def test_files_just_written_are_not_trusted(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", 1)
    list_photos(tmp_path, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_or_foreign_index_is_forgotten(tmp_path: Path, decoded: list[str]) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    photo(photos / "a.png", 1)
    first = list_photos(photos, 1, out)
    for spoil in (lambda: (out / INDEX).write_bytes(b"PAR1"), lambda: os.rename(photos, tmp_path / "moved")):
        spoil()
        decoded.clear()
        folder = photos if photos.is_dir() else tmp_path / "moved"
        assert list_photos(folder, 1, out) == first and decoded == ["a.png"]
    assert FileIndex.beside(out, folder, ("file_sha256", "pixels_sha256"), "another reader").known == {}


def test_no_index_is_put_among_other_things(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", 1)
    with pytest.raises(OutputExistsError, match="not the output of an engine"):
        list_photos(tmp_path, 1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
