"""A larger canvas: where the picture lies on it, what of it is kept, and in which windows the rest is painted."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.errors import KnobError, TooLargeError
from intarsia.imaging import Anchor, Margins, Mask, Picture, Window, extend_canvas, frame_around, plan_tiles
from intarsia.request import EditRequest

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60))
SIDES = st.integers(0, 70)


def test_a_ratio_grows_both_sides_and_the_anchor_says_where_the_picture_stands() -> None:
    size = (72, 96)
    assert Margins.of_ratio(size, 0.75) == Margins(left=16, right=16, top=12, bottom=12)
    assert Margins.of_ratio(size, 0.75, "left") == Margins(left=0, right=32, top=12, bottom=12)
    assert Margins.of_ratio(size, 0.75, "bottom") == Margins(left=16, right=16, top=24, bottom=0)
    assert Margins.of_ratio(size, 0.75, "top-right") == Margins(left=32, right=0, top=0, bottom=24)
    assert Margins.of_ratio((3, 3), 0.5, "center") == Margins(left=1, right=2, top=1, bottom=2)


@given(size=SIZES, ratio=st.floats(0.5, 1.0), anchor=st.sampled_from(get_args(Anchor)))
@settings(max_examples=40, deadline=None)
def test_every_anchor_gives_the_same_canvas(size: tuple[int, int], ratio: float, anchor: Any) -> None:
    margins = Margins.of_ratio(size, ratio, anchor)
    assert margins.canvas(size) == tuple(round(side / ratio) for side in size)


def test_requests_know_the_same_anchors() -> None:
    assert get_args(EditRequest.model_fields["anchor"].annotation) == get_args(Anchor)


@given(size=SIZES, sides=st.tuples(SIDES, SIDES, SIDES, SIDES), dtype=st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=40, deadline=None)
def test_the_picture_is_on_its_canvas_byte_for_byte(
    size: tuple[int, int], sides: tuple[int, int, int, int], dtype: Any
) -> None:
    margins = Margins(*sides)
    pixels = np.random.default_rng(0).integers(1, 255, (*size, 4)).astype(dtype)
    picture = Picture(pixels, icc_profile=b"profile", dpi=(72.0, 72.0))
    canvas = extend_canvas(picture, margins)
    assert (canvas.icc_profile, canvas.dpi, canvas.mode) == (b"profile", (72.0, 72.0), picture.mode)
    assert canvas.size == margins.canvas(size)
    assert np.array_equal(margins.place(size).crop(canvas.pixels), pixels)
    frame = frame_around(canvas.size, margins.place(size)).array
    assert not canvas.pixels[frame].any() and frame.sum() == frame.size - size[0] * size[1]


def test_the_rim_is_taken_only_from_sides_that_grow() -> None:
    assert Margins(left=10, bottom=4).kept((20, 30), 5) == Window(0, 15, 15, 25)
    assert Margins(left=10).kept((20, 30), 0) == Window(0, 10, 20, 30)
    with pytest.raises(KnobError, match="rim 15 leaves nothing"):
        Margins(left=1, right=1).kept((20, 30), 15)


@pytest.mark.parametrize(
    ("margins", "size", "error", "words"),
    [
        (Margins(), (20, 30), KnobError, "nothing to grow"),
        (Margins(left=91), (20, 30), TooLargeError, "30x20 px to 121x20 px is 4.0 times"),
        (Margins(left=6000), (9000, 11000), TooLargeError, "at most 16384 px"),
    ],
)
def test_too_much_and_nothing_are_refused(
    margins: Margins, size: tuple[int, int], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        margins.check(size)


def test_four_times_the_area_is_allowed() -> None:
    assert Margins(left=90).check((20, 30)) == Margins(left=90)


@given(size=SIZES, sides=st.tuples(SIDES, SIDES, SIDES, SIDES), side=st.sampled_from([2, 8, 24, 64]))
@settings(max_examples=80, deadline=None)
def test_tiles_cover_the_frame_and_each_sees_enough_that_is_known(
    size: tuple[int, int], sides: tuple[int, int, int, int], side: int
) -> None:
    margins = Margins(*sides)
    canvas, place = margins.canvas(size), margins.place(size)
    known = np.zeros(canvas, bool)
    place.crop(known)[...] = True
    for tile in plan_tiles(canvas, place, side):
        part = tile.crop(known)
        assert max(tile.size) <= side and part.mean() >= 0.4 and not part.all()
        part[...] = True
    assert known.all()


def test_large_frames_take_several_windows_at_full_size_and_small_ones_few() -> None:
    around = plan_tiles((1500, 2000), Window(250, 250, 1000, 1500), 1024)
    assert len(around) > 4 and max(tile.height for tile in around) == 1024
    assert len(plan_tiles((96, 128), Window(0, 0, 96, 96), 128)) == 1
    with pytest.raises(KnobError):
        plan_tiles((9, 9), Window(0, 0, 5, 5), 1)


def test_a_rectangle_holds_the_last_row_and_column_of_a_mask() -> None:
    array = np.zeros((9, 12), bool)
    array[2, 3] = array[7, 10] = True
    assert np.array_equal(np.argwhere(Mask(array).rectangle().array)[[0, -1]], [[2, 3], [7, 10]])
    assert Mask(array).rectangle().array.sum() == 6 * 8
