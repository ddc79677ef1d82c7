from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.perception import (
    PerceptionError,
    box_iou,
    box_of,
    box_overlap,
    clip_box,
    from_rle,
    grow,
    largest_share,
    mask_iou,
    shrink,
    to_rle,
)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 0.8, 1.0]))
@settings(max_examples=40, deadline=None)
def test_run_lengths_come_back_as_the_same_mask(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    rle = to_rle(mask)
    assert np.array_equal(from_rle(rle), mask)
    # COCO's form: the odd runs are True, column by column.
    assert sum(rle["counts"][1::2]) == mask.sum() and rle["size"] == [height, width]


def test_run_lengths_go_down_columns() -> None:
    mask = np.array([[False, True], [False, True], [True, False]])
    assert to_rle(mask) == {"size": [3, 2], "counts": [2, 3, 1]}


@pytest.mark.parametrize("rle", [{}, {"size": [2, 2], "counts": [3]}, {"size": [2, 2], "counts": [5, -1]}, {"size": 4}])
def test_malformed_run_lengths_are_refused(rle: dict[str, object]) -> None:
    with pytest.raises(PerceptionError, match="malformed"):
        from_rle(rle)


def test_boxes_are_half_open() -> None:
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    assert box_of(mask) == (3, 2, 6, 3) and mask.sum() == 6 * 3
    assert box_of(np.zeros((3, 3), bool)) is None
    assert box_overlap((0, 0, 4, 4), (4, 0, 4, 4)) == 0 and box_overlap((0, 0, 4, 4), (3, 2, 4, 4)) == 2
    assert box_iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1 and box_iou((0, 0, 4, 4), (0, 0, 4, 2)) == 0.5
    assert clip_box(-3, -2.4, 8.2, 20, (10, 12)) == (0, 0, 5, 10) and clip_box(12, 0, 5, 5, (10, 12)) is None


def test_growing_and_shrinking_move_the_outline_by_so_many_pixels() -> None:
    mask = np.zeros((41, 41), bool)
    mask[15:26, 15:26] = True
    assert box_of(grow(mask, 4)) == (11, 11, 19, 19) and box_of(shrink(mask, 3)) == (18, 18, 5, 5)
    assert not shrink(mask, 6).any()
    disc = grow(np.pad(np.ones((1, 1), bool), 20), 10)
    distance = np.hypot(*(np.indices(disc.shape) - 20))
    assert disc[distance <= 8.5].all() and not disc[distance > 11.5].any()
    assert shrink(np.ones((5, 5), bool), 2).all(), "the picture's border erodes nothing"


def test_the_share_of_the_largest_part() -> None:
    mask = np.zeros((8, 20), bool)
    mask[1:4, 1:4], mask[5, 10:13] = True, True
    assert largest_share(mask) == pytest.approx(9 / 12) and largest_share(np.zeros((2, 2), bool)) == 0
    assert mask_iou(mask, mask) == 1 and mask_iou(mask, ~mask) == 0
