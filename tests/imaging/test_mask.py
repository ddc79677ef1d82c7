"""Masks: white means repaint, from file, alpha, box; growth, feather and latent coverage against plain
definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from intarsia.errors import (
    BoxError,
    EmptyMaskError,
    FullMaskError,
    IntarsiaWarning,
    KnobError,
    MaskError,
    MaskSizeError,
)
from intarsia.imaging import Mask

FEW = settings(max_examples=30, deadline=None)


@st.composite
def masks(draw: st.DrawFn, longest: int = 24) -> Mask:
    """From a single pixel to nearly everything, on any size."""
    size = draw(st.tuples(st.integers(1, longest), st.integers(1, longest)))
    share = draw(st.sampled_from([0.0, 0.03, 0.5, 0.95]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = random.random(size) < share
    array[random.integers(size[0]), random.integers(size[1])] = True
    return Mask(array)


def true_distance(array: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows, columns = np.meshgrid(*map(np.arange, array.shape), indexing="ij")
    marked = np.argwhere(array)
    squared = (rows[..., None] - marked[:, 0]) ** 2 + (columns[..., None] - marked[:, 1]) ** 2
    result: NDArray[np.float64] = np.sqrt(squared.min(axis=-1).astype(np.float64))
    return result


def test_sources_and_threshold(tmp_path: Path) -> None:
    grey = Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8))
    grey.save(tmp_path / "m.png")
    assert Mask.load(tmp_path / "m.png", like=(1, 4)).array.tolist() == [[False, False, True, True]]
    assert Mask.load(tmp_path / "m.png", like=(1, 4), source="black").array.tolist() == [
        [True, True, False, False]
    ]
    drawn = np.full((1, 4, 4), 255, np.uint8)
    drawn[0, :, 3] = [255, 128, 127, 0]
    Image.fromarray(drawn).save(tmp_path / "a.png")
    assert Mask.load(tmp_path / "a.png", like=(1, 4), source="alpha").array.tolist() == [
        [False, False, True, True]
    ]
    assert Mask.load(tmp_path / "a.png", like=(1, 4)).array.all()  # alpha plays no part in `white`
    with pytest.raises(MaskError, match="no alpha"):
        Mask.load(tmp_path / "m.png", like=(1, 4), source="alpha")
    with pytest.raises(MaskError, match="red"):
        Mask.load(tmp_path / "m.png", like=(1, 4), source="red")  # type: ignore[arg-type]


def test_a_mask_of_another_size_names_both(tmp_path: Path) -> None:
    Image.new("L", (4, 3), 255).save(tmp_path / "m.png")
    with pytest.raises(MaskSizeError, match=r"4x3 px.*5x3 px"):
        Mask.load(tmp_path / "m.png", like=(3, 5))


def test_box_is_x_y_w_h() -> None:
    mask = Mask.from_box("2, 1,3,2", (5, 7))
    assert mask.box == (1, 2, 2, 3) and mask.array.sum() == 6
    np.testing.assert_array_equal(mask.array, Mask.from_box((2, 1, 3, 2), (5, 7)).array)
    assert Mask.from_box("0,0,7,5", (5, 7)).array.all()


@pytest.mark.parametrize(
    "box", ["5,0,3,2", "-1,0,2,2", "0,4,2,2", "9,9,2,2", "0,0,0,2", "1,2,3", "a,b,c,d", "1.5,0,2,2"]
)
def test_bad_boxes_are_refused_on_one_line(box: str) -> None:
    with pytest.raises(BoxError) as caught:
        Mask.from_box(box, (5, 7))
    assert "\n" not in str(caught.value)
    with pytest.raises(BoxError):
        Mask.from_box((1.5, 0, 2, 2), (5, 7))  # type: ignore[arg-type]


def test_validation() -> None:
    empty, full = Mask(np.zeros((4, 4), bool)), Mask(np.ones((4, 4), bool))
    with pytest.raises(EmptyMaskError):
        empty.validate()
    with pytest.raises(EmptyMaskError):
        empty.validate(allow_full=True)
    with pytest.raises(EmptyMaskError):
        _ = empty.box
    with pytest.raises(FullMaskError):
        full.validate()
    assert full.validate(allow_full=True) is full
    nearly = np.ones((4, 8), bool)
    nearly[0, 0] = False
    with pytest.warns(IntarsiaWarning, match="97%"):
        Mask(nearly).validate()
    for wrong in (np.zeros((2, 2, 1), bool), np.zeros((2, 2), np.float32), np.zeros((0, 2), bool)):
        with pytest.raises(MaskError):
            Mask.from_array(wrong)


@FEW
@given(masks(), st.integers(0, 9))
def test_growth_is_a_euclidean_disc(mask: Mask, pixels: int) -> None:
    np.testing.assert_array_equal(mask.grow(pixels).array, true_distance(mask.array) <= pixels)


@FEW
@given(masks(), st.integers(0, 9))
def test_feather_is_one_inside_falls_outside_and_ends(mask: Mask, pixels: int) -> None:
    weights, distance = mask.feather(pixels), true_distance(mask.array)
    assert weights.dtype == np.float32 and weights.min() >= 0
    assert (weights[mask.array] == 1).all()
    np.testing.assert_array_equal(weights > 0, distance <= pixels)
    ring = (distance > 0) & (distance <= pixels)
    assert (weights[ring] < 1).all()
    order = np.argsort(distance[ring], kind="stable")
    assert (np.diff(weights[ring][order]) <= 1e-6).all()


def test_empty_masks_and_negative_knobs() -> None:
    empty = Mask(np.zeros((4, 4), bool))
    assert not empty.grow(3).array.any() and not empty.feather(3).any()
    for method in (empty.grow, empty.feather):
        with pytest.raises(KnobError, match="-1"):
            method(-1)


@FEW
@given(masks(), st.integers(1, 30), st.integers(1, 30))
def test_latent_coverage_marks_every_cell_that_a_masked_pixel_touches(
    mask: Mask, height: int, width: int
) -> None:
    expected = np.zeros((height, width), bool)
    for y, x in np.argwhere(mask.array):
        top, bottom = y * height // mask.size[0], -(-(y + 1) * height // mask.size[0])
        left, right = x * width // mask.size[1], -(-(x + 1) * width // mask.size[1])
        expected[top:bottom, left:right] = True
    np.testing.assert_array_equal(mask.to_latent((height, width)), expected)


def test_thin_strokes_survive_in_latents() -> None:
    array = np.zeros((128, 128), bool)
    array[:, 67] = True
    latent = Mask(array).to_latent((16, 16))
    assert latent[:, 8].all() and latent.sum() == 16
