"""Windows: inside the scene, around the mask, at a native size, and exactly back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.errors import KnobError, WindowError
from intarsia.imaging import Window

MANY = settings(max_examples=150, deadline=None)
FEW = settings(max_examples=25, deadline=None)
Box = tuple[int, int, int, int]


@st.composite
def scenes(draw: st.DrawFn, longest: int = 3000) -> tuple[Box, tuple[int, int]]:
    """A mask's box in a scene: any aspect, one-pixel masks, corners, one-pixel-high scenes."""
    side = st.one_of(st.integers(1, 3), st.integers(1, longest))
    height, width = draw(side), draw(side)
    box_height = draw(st.one_of(st.just(1), st.integers(1, height)))
    box_width = draw(st.one_of(st.just(1), st.integers(1, width)))
    top = draw(st.sampled_from([0, height - box_height, (height - box_height) // 2]))
    left = draw(st.sampled_from([0, width - box_width, (width - box_width) // 3]))
    return (top, left, box_height, box_width), (height, width)


def inside(window: Window, scene: tuple[int, int]) -> bool:
    return window.top + window.height <= scene[0] and window.left + window.width <= scene[1]


@MANY
@given(
    scenes(),
    st.floats(0, 1),
    st.sampled_from([None, 0.1, 0.5, 0.8, 1.0]),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_always_in_the_scene_around_the_mask_and_large_enough(
    case: tuple[Box, tuple[int, int]], margin: float, share: float | None, fraction: float
) -> None:
    box, scene = case
    window = Window.around(box, scene, margin=margin, share=share, minimum_fraction=fraction)
    assert inside(window, scene) and window.contains(box)
    assert window.height >= fraction * scene[0] and window.width >= fraction * scene[1]


@MANY
@given(scenes(), st.sampled_from([0.2, 0.5, 0.7]))
def test_the_adaptive_window_gives_the_object_its_share(
    case: tuple[Box, tuple[int, int]], share: float
) -> None:
    box, scene = case
    window = Window.around(box, scene, share=share)
    wanted = int(np.ceil(max(box[2:]) / share))
    assert window.size == (
        min(wanted, scene[0]),
        min(wanted, scene[1]),
    )  # moved at borders, cut only by the scene


def test_share_never_takes_the_margin_away() -> None:
    assert Window.around((400, 400, 100, 100), (1000, 1000), share=1.0, margin=0.2).size == (120, 120)


def test_the_papers_rule_by_hand() -> None:
    # Rows and columns 100..199 inclusive: half = int((99 // 2) * 1.15) = 56 around 149.
    assert Window.around((100, 100, 100, 100), (1000, 1000)) == Window(93, 93, 113, 113)
    # At the corner it is cut: rows 0..99, middle 49, 49 - 56 < 0.
    assert Window.around((0, 0, 100, 100), (1000, 1000)) == Window(0, 0, 106, 106)
    grown = Window.around((480, 480, 40, 20), (1024, 1024), minimum_fraction=0.5)
    assert grown.contains((480, 480, 40, 20)) and 512 <= grown.height <= 514 and 512 <= grown.width <= 514
    assert Window.around((3, 4, 5, 6), (70, 90), minimum_fraction=1.0) == Window.full((70, 90))


@pytest.mark.parametrize(
    ("size", "native", "multiple", "expected"),
    [
        ((512, 512), 1024, 64, (1024, 1024)),
        ((512, 700), 1024, 64, (896, 1216)),
        ((33, 33), 128, 8, (128, 128)),
        ((1, 5000), 128, 8, (64, 256)),
        ((5000, 1), 128, 8, (256, 64)),
        ((10, 10), 8, 64, (64, 64)),
    ],
)
def test_native_size_by_hand(
    size: tuple[int, int], native: int, multiple: int, expected: tuple[int, int]
) -> None:
    assert Window(0, 0, *size).native_size(native, multiple) == expected


@MANY
@given(
    st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([64, 96, 128, 1024]), st.sampled_from([8, 16])
)
def test_native_size_keeps_area_and_aspect(height: int, width: int, native: int, multiple: int) -> None:
    rows, columns = Window(0, 0, height, width).native_size(native, multiple)
    aspect = min(max(height / width, 0.25), 4.0)
    assert rows % multiple == 0 and columns % multiple == 0 and min(rows, columns) >= multiple
    assert (
        abs(rows - native * aspect**0.5) <= multiple / 2
        and abs(columns - native / aspect**0.5) <= multiple / 2
    )


@FEW
@given(scenes(longest=60), st.integers(1, 40), st.integers(1, 40))
def test_writing_changes_the_window_only_and_never_its_input(
    case: tuple[Box, tuple[int, int]], height: int, width: int
) -> None:
    box, scene = case
    window = Window.around(box, scene, share=0.6)
    random = np.random.default_rng(3)
    target = random.random((*scene, 3), np.float32)
    before = target.copy()
    result = window.write(target, random.random((height, width, 3), np.float32))
    np.testing.assert_array_equal(target, before)
    outside = np.ones(scene, bool)
    window.crop(outside)[...] = False
    np.testing.assert_array_equal(result[outside], target[outside])
    assert (
        result.shape == target.shape and result.dtype == np.float32 and 0 <= result.min() <= result.max() <= 1
    )
    np.testing.assert_array_equal(window.write(target, window.read(target, window.size)), target)


def test_reading_and_writing_back_loses_little_on_a_smooth_scene() -> None:
    rows, columns = np.indices((90, 70), np.float32)
    scene = np.stack([0.5 + 0.4 * np.sin(rows / 15), columns / 70, np.full_like(rows, 0.3)], axis=-1)
    window = Window(10, 20, 40, 33)
    back = window.write(np.zeros_like(scene), window.read(scene, window.native_size(96, 8)))
    error = np.abs(window.crop(back) - window.crop(scene))
    # At the rim the filter has one side only and pulls a slope flat; inside there is nothing to lose.
    assert error[3:-3, 3:-3].max() < 0.002 and error.max() < 0.02


def test_shrinking_averages_instead_of_aliasing() -> None:
    checker = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)
    for filter_name in ("lanczos", "area"):
        assert np.abs(Window.resize(checker, (8, 8), filter_name) - 0.5).max() < 0.05
    assert Window.resize(checker > 0, (64, 64)).dtype == np.float32


def test_bad_windows_and_knobs() -> None:
    for values in ((-1, 0, 2, 2), (0, 0, 0, 2)):
        with pytest.raises(WindowError):
            Window(*values)
    with pytest.raises(WindowError, match="not inside"):
        Window.around((5, 5, 10, 10), (12, 20))
    with pytest.raises(WindowError, match="beyond"):
        Window(0, 0, 5, 5).crop(np.zeros((4, 9)))
    for knobs in ({"share": 0.0}, {"share": 1.5}, {"margin": -0.1}, {"minimum_fraction": 1.1}):
        with pytest.raises(KnobError):
            Window.around((0, 0, 1, 1), (9, 9), **knobs)
    with pytest.raises(KnobError):
        Window.full((4, 4)).native_size(0, 8)
