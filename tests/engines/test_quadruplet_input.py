"""A folder with everything that is not a plain photo."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.engines.quadruplet_scenes import PixelScorer, draw_scene

from intarsia.engines import EngineError, read_dead_rows, read_rows, verify_output
from intarsia.engines.quadruplets import list_photos, run_quadruplets
from intarsia.engines.quadruplets.reading import read
from intarsia.engines.quadruplets.samples import rgb_of
from intarsia.errors import PictureError
from intarsia.perception import Helpers, Noise, truth_path

PIXELS = np.random.default_rng(1).integers(0, 255, (70, 90, 3), np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)  # type: ignore[arg-type]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    image = Image.fromarray(PIXELS)
    save(folder / "plain.png", image)
    save(folder / "plain.jpg", image, quality=95)
    save(folder / "twin" / "again.webp", image, lossless=True)
    (folder / "broken.png").write_bytes((folder / "plain.png").read_bytes()[:200])
    (folder / "text.png").write_text("this is no picture")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("left alone")
    save(folder / "tiny.png", image.resize((20, 90)))
    frames = [Image.fromarray(np.roll(PIXELS, n, axis=1)) for n in range(3)]
    for name in ("moving.gif", "moving.webp", "moving.png"):
        save(folder / name, frames[0], save_all=True, append_images=frames[1:])
    save(folder / "cmyk.jpg", image.convert("CMYK"), quality=95)
    save(folder / "grey.png", image.convert("L"))
    save(folder / "palette.png", image.convert("P"))
    sixteen = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    save(folder / "sixteen.png", sixteen)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folder / "turned.jpg", Image.fromarray(np.roll(PIXELS, 9, axis=0)), exif=exif, quality=95)
    alpha = np.dstack([PIXELS, np.full((70, 90), 255, np.uint8)])
    save(folder / "opaque.png", Image.fromarray(np.roll(alpha, 5, axis=0)))
    alpha[:9, :, 3] = 0
    save(folder / "holes.png", Image.fromarray(alpha))
    return folder


def outcome(folder: Path) -> dict[str, str]:
    found = {}
    for row in list_photos(folder):
        try:
            (done,) = read(row, folder=folder, least_side=64)
            found[row["source"]] = done.get("rejected") or next(name for name in done if name.startswith("image."))
        except PictureError as error:
            assert str(folder) not in str(error) and "\n" not in str(error)
            found[row["source"]] = type(error).__name__
    return found


def test_each_file_is_handled_or_turned_away_with_its_reason(photos: Path) -> None:
    assert outcome(photos) == {
        "broken.png": "UnreadableImageError",
        "cmyk.jpg": "image.png",
        "empty.jpg": "ZeroSizeError",
        "grey.png": "image.png",
        "holes.png": "transparent pixels",
        "moving.gif": "animated",
        "moving.png": "animated",
        "moving.webp": "animated",
        "opaque.png": "image.png",
        "palette.png": "image.png",
        "plain.jpg": "image.jpg",
        "plain.png": "image.png",
        "sixteen.png": "image.png",
        "text.png": "NotAnImageError",
        "tiny.png": "a side is below 64 px",
        "turned.jpg": "image.png",
        "twin/again.webp": "the same pixels as another file",
    }


def test_pixels_are_upright_rgb_and_plain_files_keep_their_bytes(photos: Path) -> None:
    rows = {row["source"]: row for row in list_photos(photos)}
    done = {name: read(rows[name], folder=photos, least_side=64)[0] for name in rows if name.split(".")[0] in
            ("plain", "turned", "grey", "sixteen", "opaque", "cmyk")}  # fmt: skip
    assert done["plain.png"]["image.png"] == (photos / "plain.png").read_bytes()
    assert done["plain.jpg"]["image.jpg"] == (photos / "plain.jpg").read_bytes()
    turned = rgb_of(done["turned.jpg"]["image.png"])
    assert turned.shape == (90, 70, 3) and (done["turned.jpg"]["width"], done["turned.jpg"]["height"]) == (70, 90)
    stored = np.asarray(Image.open(photos / "turned.jpg"))
    assert np.array_equal(turned, np.rot90(stored, 3))
    assert np.array_equal(rgb_of(done["opaque.png"]["image.png"]), np.roll(PIXELS, 5, axis=0))
    assert np.abs(rgb_of(done["sixteen.png"]["image.png"])[..., 1].astype(int) - PIXELS[..., 0]).max() <= 1
    assert Image.open(io.BytesIO(done["cmyk.jpg"]["image.png"])).mode == "RGB"


def test_no_file_can_keep_the_folder_from_being_listed(photos: Path) -> None:
    """Hostile files: too many pixels for any memory, frames that end in the middle, names that are no text."""
    for path in photos.rglob("*.*"):
        path.unlink()
    (photos / "huge.png").write_bytes(declared_png(60_000, 60_000))
    (photos / "wide.png").write_bytes(declared_png(12_000, 12_000))
    draw = random.Random(0)
    frames = [Image.fromarray(np.roll(PIXELS, n, axis=1)) for n in range(3)]
    for suffix in ("gif", "png", "tiff", "webp"):
        buffer = io.BytesIO()
        frames[0].save(buffer, suffix, save_all=True, append_images=frames[1:])
        for number in range(12):
            cut = buffer.getvalue()[: draw.randrange(len(buffer.getvalue()))]
            (photos / f"{suffix}{number}.{suffix}").write_bytes(cut)
    (photos / "folder.png").mkdir()
    with contextlib.suppress(OSError):  # not on every system
        os.mkfifo(photos / "pipe.png")
    (photos / "link.png").symlink_to(photos / "nowhere.png")
    (photos / " a;b\n.png").write_bytes(declared_png(3, 3))
    with contextlib.suppress(OSError):
        Image.fromarray(PIXELS).save(os.fsdecode(os.fsencode(photos) + b"/\xff.png"))
    found = outcome(photos)
    assert found["huge.png"] == found["wide.png"] == "TooLargeError"
    assert found.get("\\xff.png", "PictureError") == "PictureError"
    assert not {"folder.png", "pipe.png", "link.png"} & set(found)
    assert set(found.values()) <= {
        *("TooLargeError", "PictureError", "UnreadableImageError", "NotAnImageError", "ZeroSizeError", "animated"),
        "image.png",
    }


def declared_png(width: int, height: int) -> bytes:
    """The header of a picture that large, and next to nothing of it."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(9)))]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_folder_without_any_candidate_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Helpers, "load_scorer", lambda self: PixelScorer())
    save(tmp_path / "photos" / "tiny.png", Image.fromarray(PIXELS[:9, :9]))
    (tmp_path / "photos" / "text.png").write_text("this is no picture")
    helpers = Helpers(folder=tmp_path / "photos")
    report = run_quadruplets(tmp_path / "photos", tmp_path / "out", helpers, thresholds="tabletop")
    assert (report.kept, report.rejected, report.quarantined) == (0, 1, 1)
    assert verify_output(tmp_path / "out") == ()


def test_a_file_that_changes_meanwhile_is_noticed(photos: Path) -> None:
    row = next(row for row in list_photos(photos) if row["source"] == "plain.png")
    save(photos / "plain.png", Image.fromarray(255 - PIXELS))
    with pytest.raises(EngineError, match="changed while"):
        read(row, folder=photos, least_side=64)


def test_no_folder_and_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not a folder"):
        list_photos(tmp_path / "missing")
    with pytest.raises(EngineError, match="holds no pictures"):
        list_photos(tmp_path)


def test_the_engine_goes_through_such_a_folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Helpers, "load_scorer", lambda self: PixelScorer())
    truth = draw_scene(photos, "good.png", 3)
    for path in [*photos.glob("*.*"), *photos.glob("*/*.*")]:
        # Only one picture truly shows something; of the others nothing is known but that they are empty.
        if path.suffix not in (".json", ".txt") and path.name != "good.png":
            truth_path(path).write_text(
                '{"version": 1, "size": [70, 90], "objects": [], "background": [], "words": {}}'
            )
    output = photos.parent / "out"
    helpers = Helpers(folder=photos, noise=Noise(0.0))
    report = run_quadruplets(photos, output, helpers, thresholds={"side": (10.0, None)}, shard_size=5)
    assert report.kept == len(truth.objects) and report.quarantined == 3
    dead = {row["key"].split("_")[0]: row for row in read_dead_rows(output).to_pylist()}
    assert {name: row["error"] for name, row in dead.items()} == {
        "broken": "UnreadableImageError",
        "empty": "ZeroSizeError",
        "text": "NotAnImageError",
    }
    assert not any(str(photos) in row["message"] for row in dead.values())
    reasons = {row["source"]: row["rejected"] for row in read_rows(output).to_pylist()}
    assert reasons["tiny.png"] == "read: a side is below 64 px" and reasons["moving.gif"] == "read: animated"
    assert reasons["twin/again.webp"] == "read: the same pixels as another file"
    assert reasons["grey.png"] == "tag: no tags"
