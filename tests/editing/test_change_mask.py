"""Finding what was added: pairs of a scene and the same with something drawn in, as a model would return it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from intarsia.editing import find_change
from intarsia.editing.registration import Registration, moved, register
from intarsia.imaging import Mask, Window

Array = NDArray[Any]


def table(size: tuple[int, int] = (64, 64), seed: int = 0) -> Array:
    """A wall, a table with grain, and a ball that stands on it already."""
    generator = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    scene = np.empty((height, width, 3), np.float32)
    scene[:] = (0.75, 0.72, 0.68)
    grain = 0.06 * np.sin(0.7 * x + 3 * np.sin(0.2 * y)) + generator.normal(0, 0.02, size)
    below = y > 0.4 * height
    scene[below] = (np.array([0.5, 0.35, 0.22]) + grain[..., None])[below]
    scene[(y - 0.55 * height) ** 2 + (x - 0.8 * width) ** 2 < (0.09 * height) ** 2] = (0.1, 0.2, 0.7)
    return np.clip(scene, 0, 1)


def with_mug(scene: Array, left: float = 0.25, colour: tuple[float, ...] = (0.8, 0.1, 0.1)) -> tuple[Array, Array]:
    """(the scene with a mug and its shadow, the mug's mask)."""
    height, width = scene.shape[:2]
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    mug = (abs(x - left) < 0.09) & (y > 0.42) & (y < 0.68)
    shadow = ((x - left - 0.12) ** 2 / 0.12**2 + (y - 0.67) ** 2 / 0.035**2 < 1) & ~mug
    result = scene.copy()
    shade = np.clip(1 - 1.5 * (x - left + 0.05), 0.5, 1)
    result[mug] = (np.array(colour) * shade[..., None])[mug]
    result[shadow] *= 0.6
    return result.astype(np.float32), mug


DAMAGES: dict[str, Any] = {
    "nothing": lambda picture: picture,
    "tint": lambda picture: picture * (1.06, 0.97, 0.92) + (-0.02, 0.03, 0.02),
    "a pixel": lambda picture: np.roll(picture, (1, -1), (0, 1)),
    "a part of a pixel": lambda picture: moved(picture, (0.4, -0.6)),
    "noise": lambda picture: picture + np.random.default_rng(1).normal(0, 0.02, picture.shape),
}


def damaged(picture: Array, *kinds: str) -> Array:
    for kind in kinds:
        picture = DAMAGES[kind](picture)
    return np.clip(picture, 0, 1).astype(np.float32)


WAYS = [("nothing",), ("tint",), ("a pixel",), ("a part of a pixel",), ("noise",), ("a pixel", "tint", "noise"),
        ("a part of a pixel", "tint", "noise")]  # fmt: skip


@pytest.mark.parametrize("kinds", WAYS, ids=" ".join)
def test_the_object_is_found_with_its_shadow_and_little_else(kinds: tuple[str, ...]) -> None:
    scene = table()
    picture, mug = with_mug(scene)
    change = find_change(scene, damaged(picture, *kinds), threshold=0.12)
    touched = Mask((picture != scene).any(axis=-1))
    assert change.mask[mug].all()
    assert change.mask[touched.array].mean() > 0.9
    assert not (change.mask & ~touched.grow(3).array).any()


@pytest.mark.parametrize("kinds", WAYS, ids=" ".join)
def test_where_nothing_was_added_nothing_is_found(kinds: tuple[str, ...]) -> None:
    scene = table()
    assert not find_change(scene, damaged(scene, *kinds), threshold=0.12).mask.any()


def test_the_result_comes_back_to_the_sources_colours_and_place() -> None:
    scene = table()
    picture, _ = with_mug(scene)
    way = register(scene, damaged(picture, "a pixel", "tint"))
    assert way.shift == pytest.approx((1, -1), abs=0.05)
    assert way.gain == pytest.approx((1.06, 0.97, 0.92), abs=0.02)
    assert way.offset == pytest.approx((-0.02, 0.03, 0.02), abs=0.01)
    back = way.apply(damaged(picture, "a pixel", "tint"))
    assert np.abs(back - picture)[2:-2, 2:-2].mean() < 0.005
    finer = register(scene, damaged(picture, "a part of a pixel"))
    assert finer.shift == pytest.approx((-0.4, 0.6), abs=0.07)
    assert register(scene, picture) == Registration(gain=pytest.approx((1, 1, 1)), offset=pytest.approx((0, 0, 0)))  # type: ignore[arg-type]


def test_a_flat_scene_has_no_gain_to_measure() -> None:
    flat = np.full((32, 32, 3), 0.4, np.float32)
    way = register(flat, flat + np.float32(0.05))
    assert way.shift == (0, 0)
    assert way.gain == pytest.approx((1, 1, 1), abs=1e-3) and way.offset == pytest.approx((0.05,) * 3, abs=1e-3)


def test_specks_and_far_strays_are_left_out_and_two_things_found_where_two_are_named() -> None:
    scene = table()
    picture, mug = with_mug(scene)
    picture[3, 60] = picture[10, 5] = 1 - picture[3, 60]
    picture[56:59, 55:58] = 0.95
    only = find_change(scene, picture, threshold=0.12).mask
    assert only[mug].all() and not only[:20].any() and not only[50:, 50:].any()
    both, second = with_mug(picture, left=0.55, colour=(0.9, 0.9, 0.2))
    two = find_change(scene, both, threshold=0.12, count=2).mask
    assert two[mug].all() and two[second].all()


def test_a_place_says_which_change_counts() -> None:
    scene = table()
    first, left = with_mug(scene, left=0.15)
    both, right = with_mug(first, left=0.58, colour=(0.9, 0.9, 0.2))
    place = np.zeros((64, 64), bool)
    place[20:50, 30:46] = True
    chosen = find_change(scene, both, threshold=0.12, place=place).mask
    assert chosen[right].all() and not chosen[left].any()
    place[:] = False
    place[:10, :10] = True
    assert not find_change(scene, both, threshold=0.12, place=place).mask.any()


def test_holes_are_filled_and_higher_thresholds_find_less() -> None:
    scene = table()
    picture, mug = with_mug(scene)
    picture[33:38, 14:17] = scene[33:38, 14:17]
    assert find_change(scene, picture, threshold=0.12).mask[mug].all()
    assert not find_change(scene, picture, threshold=1.0).mask.any()


def test_large_pictures_are_measured_in_the_same_proportion() -> None:
    scene = table((160, 240))
    picture, mug = with_mug(scene)
    change = find_change(scene, damaged(picture, "a pixel", "tint", "noise"), threshold=0.12)
    assert change.mask[mug].mean() > 0.99
    assert change.mask.sum() < 2.5 * (picture != scene).any(axis=-1).sum()


@pytest.mark.parametrize("scale", [0.4, 1.0, 5.3])
def test_the_mask_comes_to_the_scenes_size(scale: float) -> None:
    scene = table()
    picture, mug = with_mug(scene)
    change = find_change(scene, picture, threshold=0.12)
    side = round(64 * scale)
    window = Window(3, 7, side, side)
    mask = change.in_scene(window, (side + 10, side + 20)).array
    outside = mask.copy()
    window.crop(outside)[...] = False
    assert not outside.any()
    there = Window.resize(mug.astype(np.float32), window.size, "area") > 0.5
    assert window.crop(mask)[there].all()
    assert window.crop(mask).mean() < 2 * change.mask.mean()


def test_what_stands_where_the_words_say_comes_first() -> None:
    scene = table()
    both, small = with_mug(scene, 0.15)
    both[18:30, 30:50] = (0.1, 0.7, 0.2)
    left = np.zeros((64, 64), bool)
    left[:, :21] = True
    largest = find_change(scene, both, threshold=0.12).mask
    named = find_change(scene, both, threshold=0.12, cell=left).mask
    assert largest[24, 40] and not (largest & small).any()
    assert named[small].mean() > 0.9 and not named[24, 40]
    elsewhere = find_change(scene, both, threshold=0.12, cell=np.roll(left, 40, 1) & (np.arange(64) > 50)).mask
    assert np.array_equal(elsewhere, largest)
