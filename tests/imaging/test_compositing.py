"""Untouched means untouched, in every mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from intarsia.errors import MaskSizeError, NonFiniteError, SizeMismatchError
from intarsia.imaging import Mask, Picture, composite

FEW = settings(max_examples=60, deadline=None)


@FEW
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    growth=st.integers(0, 5),
    feather=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_outside_the_support_every_byte_is_the_sources(
    size: tuple[int, int], channels: int, dtype: type, growth: int, feather: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    source = Picture(random.integers(0, int(np.iinfo(dtype).max) + 1, (*size, channels)).astype(dtype))
    mask = Mask(random.random(size) < random.choice([0.02, 0.5]))
    generated = random.random((*size, 3), np.float32) * 1.2 - 0.1
    before = source.pixels.copy()
    result = composite(source, generated, mask, growth=growth, feather=feather)
    np.testing.assert_array_equal(source.pixels, before)
    assert result.picture.mode == source.mode and result.picture.size == size
    np.testing.assert_array_equal(result.picture.pixels[~result.support], before[~result.support])
    np.testing.assert_array_equal(result.support, mask.grow(growth).grow(feather).array)
    if channels >= 3:  # the mask's core is the generated picture and nothing else
        expected = np.rint(np.clip(generated, 0, 1) * np.float32(np.iinfo(dtype).max))
        np.testing.assert_allclose(result.picture.pixels[mask.array][:, :3], expected[mask.array], atol=1)
    if source.has_alpha:
        assert (result.picture.pixels[result.support][:, -1] == np.iinfo(dtype).max).all()


@pytest.mark.parametrize("kind", ["palette", "one-bit", "grey", "grey16", "cmyk"])
def test_from_file_to_file_the_rest_is_equal(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(5)
    grey = random.integers(0, 256, (24, 30), np.uint8)
    image = {
        "palette": lambda: Image.fromarray(random.integers(0, 256, (24, 30, 3), np.uint8)).quantize(17),
        "one-bit": lambda: Image.fromarray(grey).convert("1"),
        "grey": lambda: Image.fromarray(grey),
        "grey16": lambda: Image.fromarray(grey.astype(np.uint16) * 251 + 3),
        "cmyk": lambda: Image.fromarray(random.integers(0, 256, (24, 30, 4), np.uint8), "CMYK"),
    }[kind]()
    path = tmp_path / ("a.tif" if kind == "cmyk" else "a.png")
    image.save(path)
    source = Picture.load(path)
    mask = Mask.from_box("5,6,9,8", source.size)
    result = composite(source, np.full((24, 30, 3), 0.4, np.float32), mask, growth=1, feather=3)
    result.picture.save(tmp_path / "out.png")
    back = Picture.load(tmp_path / "out.png")
    assert back.mode == source.mode
    np.testing.assert_array_equal(back.pixels[~result.support], source.pixels[~result.support])
    if image.mode in {"P", "1"}:
        expected = np.asarray(image.convert("RGB"))[~result.support]
        np.testing.assert_array_equal(back.pixels[~result.support], expected[:, : back.pixels.shape[2]])
    assert (back.pixels[mask.array] == round(0.4 * (65535 if kind == "grey16" else 255))).all()


def test_feather_blends_between_source_and_generated() -> None:
    source = Picture.from_array(np.zeros((1, 12, 3), np.uint8))
    result = composite(
        source, np.ones((1, 12, 3), np.float32), Mask.from_box("0,0,4,1", (1, 12)), growth=1, feather=3
    )
    row = result.picture.pixels[0, :, 0].astype(int)
    assert row[:5].tolist() == [255] * 5 and row[8:].tolist() == [0] * 4
    assert 255 > row[5] > row[6] > row[7] > 0


def test_hidden_colours_of_transparent_pixels_do_not_bleed_in() -> None:
    pixels = np.zeros((1, 9, 4), np.uint8)
    pixels[..., 1] = 255  # hidden green
    generated = np.zeros((1, 9, 3), np.float32)
    generated[..., 0] = 1
    mask = Mask.from_box("0,0,3,1", (1, 9))
    result = composite(Picture(pixels), generated, mask, growth=0, feather=4)
    assert result.picture.pixels[0, :7].tolist() == [[255, 0, 0, 255]] * 7
    assert result.picture.pixels[0, 7:].tolist() == [[0, 255, 0, 0]] * 2


def test_bad_input_is_refused() -> None:
    source = Picture.from_array(np.zeros((4, 5, 3), np.uint8))
    mask = Mask.from_box("1,1,2,2", (4, 5))
    with pytest.raises(SizeMismatchError):
        composite(source, np.zeros((4, 4, 3), np.float32), mask, growth=0, feather=0)
    with pytest.raises(MaskSizeError):
        composite(
            source, np.zeros((4, 5, 3), np.float32), Mask.from_box("0,0,1,1", (4, 4)), growth=0, feather=0
        )
    broken = np.zeros((4, 5, 3), np.float32)
    broken[0, 4] = np.nan
    composite(source, broken, mask, growth=0, feather=0)  # outside the support it does not matter
    broken[1, 1] = np.nan
    with pytest.raises(NonFiniteError, match="1 of 4"):
        composite(source, broken, mask, growth=0, feather=0)


def test_real_photo_is_equal_outside(photos: Path, tmp_path: Path) -> None:
    source = Picture.load(photos / "scenes" / "desk.jpg")
    mask = Mask.load(photos / "scenes" / "desk_mask.png", like=source.size).validate()
    result = composite(source, 1 - source.rgb(), mask, growth=4, feather=8)
    result.picture.save(tmp_path / "out.png")
    back = Picture.load(tmp_path / "out.png")
    np.testing.assert_array_equal(back.pixels[~result.support], source.pixels[~result.support])
    assert (back.pixels[mask.array] != source.pixels[mask.array]).any(axis=-1).mean() > 0.9
