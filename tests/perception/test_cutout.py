from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.perception import estimate_mask


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("size", [(60, 90), (400, 300)])
def test_a_disc_with_a_hole_before_two_coloured_ground(size: tuple[int, int]) -> None:
    height, width = size
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    picture = np.where((y > height * 0.6)[..., None], [0.5, 0.35, 0.2], [0.7, 0.75, 0.8])
    radius = np.hypot((y - height / 2) / height, (x - width / 2) / width)
    disc = radius < 0.27
    picture[disc] = [0.8, 0.1, 0.1]
    picture[radius < 0.05] = [0.7, 0.75, 0.8]  # as light as the wall, but within: it belongs to the subject
    picture[2:5, 2:5] = [0.8, 0.1, 0.1]  # a crumb in the corner
    noisy = np.clip(picture + rng.normal(0, 0.01, picture.shape), 0, 1).astype(np.float32)
    assert overlap(estimate_mask(noisy), disc) > 0.85


def test_where_nothing_stands_out_it_is_the_middle() -> None:
    mask = estimate_mask(np.full((50, 70, 3), 0.4, np.float32))
    assert mask[25, 35] and not mask[0, 0] and not mask[-1, -1]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_never_empty_and_always_of_the_pictures_size(height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).random((height, width, 3)).astype(np.float32)
    mask = estimate_mask(picture)
    assert mask.shape == (height, width) and mask.dtype == np.bool_ and mask.any()
    assert np.array_equal(mask, estimate_mask(picture.copy()))
