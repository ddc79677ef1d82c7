from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.conditioning import ConditioningError, CutOut, cut_out, reference_views
from intarsia.errors import MaskSizeError


def photo(height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), np.float32) * np.float32(0.5)


def test_the_box_keeps_the_last_row_and_column() -> None:
    rgb, mask = photo(), np.zeros((20, 30), bool)
    mask[4:9, 10:13] = True
    mask[5, 11] = False
    thing = cut_out(rgb, mask)
    assert thing.size == (5, 3) and thing.mask.sum() == 14
    assert np.array_equal(thing.rgb[-1, -1], rgb[8, 12]) and np.array_equal(thing.rgb[0, 0], rgb[4, 10])
    assert (thing.rgb[1, 1] == 1).all()
    whole = cut_out(rgb, np.ones((20, 30), bool))
    assert np.array_equal(whole.rgb, rgb) and whole.rgb is not rgb


def test_a_cut_out_of_one_pixel_and_one_colour_is_a_cut_out() -> None:
    mask = np.zeros((20, 30), bool)
    mask[19, 29] = True
    thing = cut_out(np.full((20, 30, 3), 0.25, np.float32), mask)
    views = reference_views(thing, 16, 32)
    assert thing.size == (1, 1) and bool((views.latent == -0.5).all()) and bool((views.mask == 1).all())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_views_are_squares_without_distortion(height: int, width: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    mask = chance.random((height, width)) < 0.5
    mask[0, 0] = mask[-1, -1] = True
    thing = cut_out(np.zeros((height, width, 3), np.float32), mask)
    views = reference_views(thing, 24, 32)
    assert views.tower.shape == (1, 3, 24, 24)
    assert views.latent.shape == (1, 3, 32, 32) and views.mask.shape == (1, 1, 32, 32)
    assert views.tower.min() >= -1 and views.tower.max() <= 1
    rows, columns = (views.mask[0, 0].amax(dim=axis).nonzero().flatten() for axis in (1, 0))
    extent = [int(found[-1] - found[0]) + 1 for found in (rows, columns)]
    longest = max(height, width)
    assert extent == [max(1, round(side * 32 / longest)) for side in (height, width)]
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
    assert bool((views.latent[0, :, outside] == 1).all())
    assert abs(int(rows[0]) - (31 - int(rows[-1]))) <= 1 and abs(int(columns[0]) - (31 - int(columns[-1]))) <= 1


def test_the_tower_sees_all_of_a_long_thing_in_a_slightly_larger_square() -> None:
    mask = np.ones((100, 20), bool)
    views = reference_views(cut_out(np.zeros((100, 20, 3), np.float32), mask), 102, 64)
    dark = views.tower[0, 0] == -1  # int(1.02 · 100) = 102: the resize changes nothing
    rows, columns = dark.any(dim=1).nonzero().flatten(), dark.any(dim=0).nonzero().flatten()
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (1, 100, 41, 60) and dark.sum() == 2000


def test_thin_parts_of_the_mask_survive() -> None:
    mask = np.zeros((300, 300), bool)
    mask[0], mask[299], mask[:, 150] = True, True, True
    views = reference_views(CutOut(np.zeros((300, 300, 3), np.float32), mask), 16, 16)
    assert bool(views.mask[0, 0, 0].all()) and bool(views.mask[0, 0, 15].all())
    assert views.mask[0, 0, 7].tolist().index(1.0) in (7, 8)


@pytest.mark.parametrize(
    ("rgb", "mask", "error", "words"),
    [
        (photo(), np.zeros((20, 30), bool), ConditioningError, "marks no pixel"),
        (photo(), np.ones((30, 20), bool), MaskSizeError, "30x20.*20x30"),
        (photo(), np.ones((20, 30), np.uint8), MaskSizeError, "boolean"),
        (photo()[..., :1], np.ones((20, 30), bool), ConditioningError, r"\(20, 30, 1\)"),
        ((photo() * 255).astype(np.uint8), np.ones((20, 30), bool), ConditioningError, "uint8"),
        (photo() * 255, np.ones((20, 30), bool), ConditioningError, "outside"),
        (photo() * np.nan, np.ones((20, 30), bool), ConditioningError, "outside"),
    ],
)
def test_what_cannot_be_cut_out(rgb: np.ndarray, mask: np.ndarray, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        cut_out(rgb, mask)
