"""GrabCut on drawn scenes and on real photos; the extra `cutout` brings OpenCV."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.imaging import Mask, Picture
from intarsia.perception import (
    CutOutError,
    GrabCutter,
    GuessCutter,
    clip_box,
    cutter_from_option,
    mask_iou,
)

DATA = Path(os.environ.get("INTARSIA_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data") / "subjects"
SUBJECTS = ("backpack", "clock", "duck_toy", "robot_toy", "teapot", "vase")
FAST = GrabCutter(fine_side=256)
Box = tuple[int, int, int, int]


def scene(size: tuple[int, int] = (180, 240)) -> tuple[np.ndarray, np.ndarray]:
    """A two-coloured toy with a white middle on a noisy two-coloured ground that has a crumb of the toy's colour."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[: size[0], : size[1]]
    picture = np.where((x + y > 230)[..., None], [0.3, 0.5, 0.3], [0.7, 0.7, 0.8])
    radius = np.hypot((y - 90) / 45, (x - 100) / 60)
    toy = radius < 1
    picture[toy] = [0.8, 0.15, 0.1]
    picture[toy & (y > 95)] = [0.9, 0.7, 0.1]
    picture[radius < 0.3] = [0.7, 0.7, 0.8]
    picture[20:26, 200:206] = [0.8, 0.15, 0.1]
    return np.clip(picture + rng.normal(0, 0.03, picture.shape), 0, 1).astype(np.float32), toy


def test_a_toy_with_a_box_is_cut_out_whole() -> None:
    picture, toy = scene()
    mask = GrabCutter().cut(picture, "toy", (30, 36, 140, 108))
    assert mask_iou(mask, toy) > 0.95 and mask[90, 100] and not mask[23, 203]
    assert mask_iou(GrabCutter().cut(picture), toy) > 0.95, "without a box it looks in the middle"


def test_outside_the_box_there_is_no_subject() -> None:
    picture, toy = scene()
    mask = GrabCutter().cut(picture, "", (40, 45, 60, 90))
    outside = np.ones_like(mask)
    outside[44:136, 39:101] = False  # the outline at the larger size may be a pixel off
    assert not (mask & outside).any() and (mask & toy).sum() > 0.8 * mask.sum()


def test_the_same_question_has_the_same_answer_and_opencv_is_left_as_it_was() -> None:
    import cv2

    # A picture of chance, in which the mixtures' start matters.
    picture = np.random.default_rng(3).random((80, 100, 3)).astype(np.float32)
    picture[20:60, 20:70] *= np.linspace(0.5, 1, 50, dtype=np.float32)[:, None]
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        masks = []
        for seed in range(4):
            cv2.setRNGSeed(seed)
            masks.append(FAST.cut(picture.copy(), "", (20, 20, 50, 40)))
        assert all(np.array_equal(mask, masks[0]) for mask in masks)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(threads)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.none() | st.tuples(st.integers(-9, 39), st.integers(-9, 39), st.integers(1, 60), st.integers(1, 60)),
    st.booleans(),
)
def test_never_empty_and_always_of_the_photos_size(size: tuple[int, int], box: Box | None, flat: bool) -> None:
    picture = np.full((*size, 3), 0.5, np.float32) if flat else np.random.default_rng(1).random((*size, 3), np.float32)
    for cutter in (FAST, GrabCutter(side=8, fine_side=16), GuessCutter()):
        if box is not None and clip_box(*box, size) is None:
            with pytest.raises(CutOutError, match=r"x,y,w,h.* is not in the photo"):
                cutter.cut(picture, "", box)
        else:
            mask = cutter.cut(picture, "", box)
            assert mask.shape == size and mask.dtype == np.bool_ and mask.any()


def test_the_guess_stays_in_its_box() -> None:
    picture, toy = scene()
    mask = GuessCutter().cut(picture, "", (30, 36, 140, 108))
    assert mask_iou(mask, toy) > 0.85
    assert not GuessCutter().cut(picture, "", (0, 0, 60, 60))[61:].any()


def test_without_opencv_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("intarsia.perception.grabcut.find_spec", lambda name: None if name == "cv2" else found(name))
    with pytest.raises(CutOutError, match=r"pip install .opencv-python-headless"):
        cutter_from_option("grabcut")


# Rough: the mask's bounding box widened by 10 % of its sides on each side, cut off at the photo's borders.
def rough(box: Box, index: int) -> tuple[float, float, float, float]:
    return 0.1, 0.1, 0.1, 0.1


# Sloppy: each side of the box is moved outwards by 0 to 30 % of the box's side, by chance.
def sloppy(box: Box, index: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = np.random.default_rng(index).uniform(0.0, 0.3, 4)
    return left, top, right, bottom


Widening = Callable[[Box, int], tuple[float, float, float, float]]


def mean_iou(subject: str, widening: Widening, every: int) -> list[float]:
    ious = []
    for index, path in enumerate(sorted((DATA / subject / "images").iterdir())):
        if index % every:
            continue
        photo = Picture.load(path)
        mask = Mask.load(DATA / subject / "masks" / f"{path.stem}.png", like=photo.size)
        top, x, h, w = mask.box[0], mask.box[1], mask.box[2], mask.box[3]
        left, above, right, below = widening((x, top, w, h), index)
        box = clip_box(x - left * w, top - above * h, (1 + left + right) * w, (1 + above + below) * h, photo.size)
        assert box is not None
        ious.append(mask_iou(FAST.cut(photo.rgb(), subject, box), mask.array))
    return ious


@pytest.mark.photos
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real photos at {DATA} (set INTARSIA_DATA to their folder)")
@pytest.mark.parametrize(("widening", "every"), [(rough, 1), (sloppy, 3)], ids=["rough", "sloppy"])
def test_real_photos_are_cut_out_at_a_mean_iou_of_at_least_three_quarters(widening: Widening, every: int) -> None:
    """Measured at full size: rough 0.90 (backpack .86, clock .86, duck .97, robot .93, teapot .87, vase .96), sloppy
    0.89 of all photos."""
    ious = {subject: mean_iou(subject, widening, every) for subject in SUBJECTS}
    means = {subject: float(np.mean(values)) for subject, values in ious.items()}
    assert np.mean([value for values in ious.values() for value in values]) >= 0.85, means
    assert min(means.values()) >= 0.75, means
