"""Saving: byte-exact where the format allows it, whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from intarsia.errors import (
    DiskFullError,
    IntarsiaWarning,
    MissingFileError,
    NotAnImageError,
    OutputError,
    OutputExistsError,
    OutputFormatError,
    UnreadableImageError,
)
from intarsia.imaging import Picture, read_png_text, write_file_atomically
from intarsia.imaging.png import encode_deep_png

RANDOM = np.random.default_rng(11)
DTYPES = (np.uint8, np.uint16)


def picture(channels: int, dtype: type = np.uint8, **metadata: object) -> Picture:
    high = int(np.iinfo(dtype).max) + 1
    return Picture(RANDOM.integers(0, high, (6, 5, channels), dtype), **metadata)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_png_keeps_every_byte_and_the_metadata(tmp_path: Path, channels: int, dtype: type) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    source = picture(channels, dtype, icc_profile=profile, dpi=(300.0, 150.0), exif=exif.tobytes())
    text = {"recipe": '{"prompt": "a teapot, naïve ☕"}', "Software": "intarsia"}
    source.save(tmp_path / "a.png", text=text)
    back = Picture.load(tmp_path / "a.png")
    assert back.sha256 == source.sha256 and back.mode == source.mode
    assert back.icc_profile == profile and back.dpi == pytest.approx((300, 150), abs=0.02)
    assert back.exif is not None
    kept = Image.Exif()
    kept.load(back.exif)
    assert kept[0x010F] == "Maker"
    assert read_png_text(tmp_path / "a.png") == text
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == text  # type: ignore[attr-defined]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_our_16_bit_png_reads_the_same_with_pillow(tmp_path: Path, channels: int) -> None:
    pixels = RANDOM.integers(0, 65536, (7, 3, channels), np.uint16)
    (tmp_path / "a.png").write_bytes(encode_deep_png(pixels, icc_profile=None, dpi=None, exif=None, text={}))
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        seen = np.asarray(image)
    if channels == 1:
        np.testing.assert_array_equal(seen, pixels[..., 0])
    else:  # Pillow keeps the high bytes, and shows grey + alpha as RGBA
        shown = pixels if channels > 2 else pixels[..., [0, 0, 0, 1]]
        np.testing.assert_array_equal(seen, shown >> 8)


@pytest.mark.parametrize("suffix", ["webp", "tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_webp_and_tiff_are_lossless_at_8_bits(tmp_path: Path, suffix: str, channels: int) -> None:
    source = picture(channels)
    source.save(tmp_path / f"a.{suffix}")
    back = Picture.load(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(back.rgb(), source.rgb())
    np.testing.assert_array_equal(back.alpha(), source.alpha())


def test_what_a_format_loses_is_said(tmp_path: Path) -> None:
    with pytest.warns(IntarsiaWarning, match="JPEG changes pixels"):
        picture(3).save(tmp_path / "a.jpg")
    with pytest.warns(IntarsiaWarning, match="laid on white"):
        Picture.from_array(np.zeros((8, 8, 4), np.uint8)).save(tmp_path / "b.jpg")
    assert Picture.load(tmp_path / "b.jpg").pixels.min() >= 254
    with pytest.warns(IntarsiaWarning, match="reduced to 8 bits"):
        Picture.from_array(np.full((2, 2, 3), 257 * 100, np.uint16)).save(tmp_path / "c.webp")
    assert Picture.load(tmp_path / "c.webp").pixels.tolist() == [[[100] * 3] * 2] * 2
    with pytest.warns(IntarsiaWarning, match="recipe is kept in PNG"):
        picture(3).save(tmp_path / "d.tif", text={"recipe": "{}"})
    deep = picture(1, np.uint16)
    deep.save(tmp_path / "e.tif")
    assert Picture.load(tmp_path / "e.tif").sha256 == deep.sha256


def test_refusals_leave_the_folder_as_it_was(tmp_path: Path) -> None:
    source = picture(3)
    source.save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(OutputExistsError, match=r"a\.png"):
        picture(3).save(tmp_path / "a.png")
    with pytest.raises(OutputFormatError, match=r"\.png"):
        source.save(tmp_path / "b.bmp")
    with pytest.raises(OutputFormatError, match="16383"):
        Picture.from_array(np.zeros((1, 16384), np.uint8)).save(tmp_path / "b.webp")
    with pytest.raises(OutputError, match="does not exist"):
        source.save(tmp_path / "none" / "b.png")
    with pytest.raises(OutputError, match="ordinary file"):
        source.save(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="key"):
        source.save(tmp_path / "b.png", text={"k" * 80: "v"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"] and (
        tmp_path / "a.png"
    ).read_bytes() == before
    picture(3).save(tmp_path / "a.png", overwrite=True)
    assert (tmp_path / "a.png").read_bytes() != before


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EIO, OutputError)],
)
def test_a_failing_disk_keeps_the_old_file_and_no_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[OutputError]
) -> None:
    picture(3).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError) as caught:
        picture(3).save(tmp_path / "a.png", overwrite=True)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"] and (
        tmp_path / "a.png"
    ).read_bytes() == before


def test_atomic_write_leaves_no_piece_on_interruption_and_obeys_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = os.umask(0o027)
    try:
        write_file_atomically(tmp_path / "a.bin", b"one")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o640

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file_atomically(tmp_path / "a.bin", b"two", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"] and (
        tmp_path / "a.bin"
    ).read_bytes() == b"one"


def test_text_of_every_chunk_kind_is_read(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("plain", "Grüße")
    info.add_text("packed", "z" * 500, zip=True)
    info.add_itxt("wide", "日本", zip=True)
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=info)
    assert read_png_text(tmp_path / "a.png") == {"plain": "Grüße", "packed": "z" * 500, "wide": "日本"}


def test_text_reading_explains_bad_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_png_text(tmp_path / "none.png")
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(NotAnImageError, match="not a PNG"):
        read_png_text(tmp_path / "a.jpg")
    picture(3).save(tmp_path / "a.png", text={"recipe": "{}"})
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "short.png").write_bytes(data[:-20])
    place = data.index(b"recipe") + 2
    (tmp_path / "bad.png").write_bytes(data[:place] + b"x" + data[place + 1 :])
    (tmp_path / "bomb.png").write_bytes(data[:33] + struct.pack(">I4s", 2**31, b"iTXt") + data[33:])
    for name in ("short.png", "bad.png", "bomb.png"):
        with pytest.raises(UnreadableImageError, match=name):
            read_png_text(tmp_path / name)
