"""Loading: what is kept, what is turned, what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from intarsia.errors import (
    IntarsiaError,
    IntarsiaWarning,
    MissingFileError,
    NotAnImageError,
    TooLargeError,
    UnreadableImageError,
    UnsupportedPixelsError,
    ZeroSizeError,
)
from intarsia.imaging import Picture
from intarsia.imaging.png import encode_deep_png

RANDOM = np.random.default_rng(7)


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("RGB", "RGB"), ("RGBA", "RGBA"), ("L", "L"), ("LA", "LA")],
)
def test_plain_modes_are_kept_byte_for_byte(tmp_path: Path, mode: str, expected: str) -> None:
    channels = len(mode)
    pixels = RANDOM.integers(0, 256, (5, 7, channels), np.uint8)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    picture = Picture.load(save(image, tmp_path / "a.png"))
    assert picture.mode == expected and picture.size == (5, 7)
    np.testing.assert_array_equal(picture.pixels, pixels)


def test_palette_becomes_colour_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    opaque = Picture.load(save(image, tmp_path / "opaque.png"))
    assert opaque.mode == "RGB" and opaque.pixels[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    clear = Picture.load(save(image, tmp_path / "clear.png", transparency=1))
    assert clear.mode == "RGBA" and clear.pixels[0].tolist() == [[10, 20, 30, 255], [200, 100, 50, 0]]


def test_one_bit_and_transparent_grey(tmp_path: Path) -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert Picture.load(save(image, tmp_path / "bit.png")).pixels[0, :, 0].tolist() == [0, 255]
    assert Picture.load(save(image.convert("L"), tmp_path / "l.png", transparency=255)).pixels[
        0
    ].tolist() == [
        [0, 255],
        [255, 0],
    ]


def test_cmyk_becomes_rgb_and_its_profile_is_dropped(tmp_path: Path) -> None:
    image = Image.new("CMYK", (3, 2), (0, 255, 255, 0))
    profile = ImageCms.ImageCmsProfile(
        ImageCms.createProfile("sRGB")
    ).tobytes()  # does not fit ink: must be survived
    path = save(image, tmp_path / "ink.tif", icc_profile=profile)
    with pytest.warns(IntarsiaWarning, match="CMYK"):
        picture = Picture.load(path)
    assert picture.mode == "RGB" and picture.icc_profile is None
    red, green, blue = picture.pixels[0, 0].tolist()
    assert red > 200 and green < 60 and blue < 60


def test_grey_of_16_bits_stays_deep(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 65536, (4, 6), np.uint16)
    for name in ("g.png", "g.tif"):
        picture = Picture.load(save(Image.fromarray(pixels), tmp_path / name))
        assert picture.mode == "L;16"
        np.testing.assert_array_equal(picture.pixels[..., 0], pixels)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colour_png_of_16_bits_stays_deep(tmp_path: Path, channels: int) -> None:
    pixels = RANDOM.integers(0, 65536, (9, 6, channels), np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(encode_deep_png(pixels, icc_profile=None, dpi=None, exif=None, text={}))
    picture = Picture.load(path)
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, pixels)


def test_floating_point_and_32_bit_pixels_are_refused_with_advice(tmp_path: Path) -> None:
    for array in (np.ones((2, 2), np.float32), np.full((2, 2), 70000, np.int32)):
        path = save(Image.fromarray(array), tmp_path / "f.tif")
        with pytest.raises(UnsupportedPixelsError, match="16-bit PNG"):
            Picture.load(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied_and_removed(tmp_path: Path, orientation: int, suffix: str) -> None:
    pixels = np.repeat(np.repeat(RANDOM.integers(0, 256, (2, 3, 1), np.uint8), 16, 0), 16, 1)
    image = Image.fromarray(np.repeat(pixels, 3, -1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    path = save(image, tmp_path / f"a.{suffix}", exif=exif)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    picture = Picture.load(path)
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.exif is not None
    kept = Image.Exif()
    kept.load(picture.exif)
    assert dict(kept) == {0x010F: "Maker"}


def test_profile_and_resolution_are_kept_and_turned(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(Image.new("RGB", (4, 2)), tmp_path / "a.jpg", icc_profile=profile, dpi=(300, 150), exif=exif)
    picture = Picture.load(path)
    assert picture.icc_profile == profile and picture.dpi == (150, 300) and picture.size == (4, 2)


def test_one_pixel_and_long_thin_pictures_load(tmp_path: Path) -> None:
    assert Picture.load(save(Image.new("RGB", (1, 1)), tmp_path / "a.png")).size == (1, 1)
    assert Picture.load(save(Image.new("L", (20_000, 20)), tmp_path / "b.png")).size == (20, 20_000)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(20_000, 20_000))
    with pytest.raises(TooLargeError, match=r"20000x20000.*max_pixels=400000000"):
        Picture.load(path)
    with pytest.raises(
        UnreadableImageError
    ):  # the raised limit lets it through to the decoder, which finds no pixels
        Picture.load(path, max_pixels=400_000_000)
    monkeypatch.setenv("INTARSIA_MAX_PIXELS", "5")
    small = save(Image.new("RGB", (3, 2)), tmp_path / "small.png")
    with pytest.raises(TooLargeError):
        Picture.load(small)
    assert Picture.load(small, max_pixels=6).size == (2, 3)


def test_bad_files_are_named_and_explained_on_one_line(tmp_path: Path) -> None:
    good = save(
        Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), np.uint8)), tmp_path / "good.png"
    ).read_bytes()
    jpeg = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), np.uint8)).save(jpeg, "JPEG")
    cases: list[tuple[str, bytes, type[IntarsiaError]]] = [
        ("empty.png", b"", ZeroSizeError),
        ("none.png", png_header(0, 5), ZeroSizeError),
        ("text.png", b"hello there", NotAnImageError),
        ("short.png", good[: len(good) // 2], UnreadableImageError),
        ("short.jpg", jpeg.getvalue()[: len(jpeg.getvalue()) // 2], UnreadableImageError),
    ]
    for name, data, kind in cases:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(kind) as caught:
            Picture.load(path)
        assert type(caught.value) is kind and name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UnreadableImageError, match="Pillow"), Image.open(tmp_path / "short.png") as image:
        Picture.from_image(image)
    with pytest.raises(UnreadableImageError, match="too long"):
        Picture.load(tmp_path / ("a" * 300 + ".png"))
    for missing in (tmp_path / "absent.png", tmp_path, tmp_path / "text.png" / "x.png"):
        with pytest.raises(MissingFileError, match=missing.name):
            Picture.load(missing)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_gives_a_picture_or_our_error_and_nothing_else(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    suffix = ("png", "jpg", "tif", "webp", "gif")[seed % 5]
    path = save(Image.new("RGB", (12, 9), (9, 80, 200)), tmp_path / f"a.{suffix}")
    data = bytearray(path.read_bytes())
    for place in random.integers(0, len(data), 12):
        data[place] = random.integers(0, 256)
    path.write_bytes(bytes(data[: random.integers(len(data) // 2, len(data) + 1)]))
    try:
        picture = Picture.load(path, max_pixels=1_000_000)
    except IntarsiaError as error:
        assert "\n" not in str(error)
    else:
        assert picture.size[0] * picture.size[1] <= 1_000_000


def test_arrays_and_pillow_images_make_pictures_too() -> None:
    array = RANDOM.integers(0, 256, (3, 4), np.uint8)
    picture = Picture.from_array(array)
    before = int(array[0, 0])
    array[0, 0] = before ^ 255
    assert picture.pixels.shape == (3, 4, 1) and picture.pixels[0, 0, 0] == before
    with pytest.raises(ValueError):
        picture.pixels[0, 0, 0] = 3
    assert Picture.from_image(Image.new("P", (2, 3))).mode == "RGB"
    for wrong in (np.zeros((2, 2, 5), np.uint8), np.zeros((2, 2), np.float32), np.zeros((2,), np.uint8)):
        with pytest.raises(UnsupportedPixelsError):
            Picture.from_array(wrong)
    with pytest.raises(ZeroSizeError):
        Picture.from_array(np.zeros((0, 2), np.uint8))


def test_digest_is_of_upright_pixels_and_their_layout(tmp_path: Path) -> None:
    row = np.arange(4, dtype=np.uint8)
    assert Picture.from_array(row.reshape(1, 4)).sha256 != Picture.from_array(row.reshape(2, 2)).sha256
    exif = Image.Exif()
    exif[0x0112] = 3
    image = Image.fromarray(row.reshape(1, 4))
    turned = Picture.load(save(image, tmp_path / "a.png", exif=exif))
    assert turned.sha256 == Picture.from_array(row[::-1].reshape(1, 4)).sha256


def test_real_photos_load(photos: Path) -> None:
    paths = sorted(photos.glob("scenes/*.jpg")) + sorted(photos.glob("subjects/*/images/00.jpg"))
    assert paths
    for path in paths:
        assert min(Picture.load(path).size) > 100
