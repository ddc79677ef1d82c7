from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.learning.helpers import some_photos

from intarsia.errors import IntarsiaWarning
from intarsia.imaging import Mask
from intarsia.learning import LearnConfig, Photos
from intarsia.learning.mask_shapes import draw_mask
from intarsia.learning.views import draw_view, draw_views, draw_window, seed_of

SHAPES = ("box", "bulge", "silhouette")


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.floats(0.1, 1.0),
    st.integers(0, 2**31),
    st.data(),
)
def test_windows_hold_the_box_and_have_its_share(
    size: tuple[int, int], share: float, seed: int, data: st.DataObject
) -> None:
    height, width = data.draw(st.integers(1, size[0])), data.draw(st.integers(1, size[1]))
    top, left = data.draw(st.integers(0, size[0] - height)), data.draw(st.integers(0, size[1] - width))
    box = (top, left, height, width)
    window = draw_window(box, size, share, np.random.default_rng(seed))
    assert window.contains(box) and window.top + window.height <= size[0]
    longest = max(height, width)
    assume(longest <= min(size))
    assert window.height == window.width
    assert window.height == min(size) or longest / share <= window.height < longest / share + 1


def test_windows_vary_in_place_and_zoom_and_come_back_with_the_seed() -> None:
    photos, config = some_photos(), LearnConfig(windows_per_photo=6)
    views = draw_views(photos, config, 64, 16, 0)
    assert len(views) == 12 and {view.image.shape for view in views} == {(64, 64, 3)}
    shares = [max(Mask(view.silhouette).box[2:]) / 64 for view in views]
    assert min(shares) < 0.6 < max(shares) and all(0.3 < share < 0.96 for share in shares)
    assert len({Mask(view.silhouette).box[:2] for view in views}) > 6
    again, other = draw_views(photos, config, 64, 16, 0), draw_views(photos, config, 64, 16, 1)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(views, again, strict=True))
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(views, other, strict=True))


def test_without_zoom_it_is_the_whole_photo_in_its_aspect() -> None:
    view = draw_view(some_photos().items[0], LearnConfig(zoom=None), 64, 16, np.random.default_rng(0))
    assert view.image.shape == (64, 80, 3) or view.image.shape == (48, 80, 3)
    assert view.mask.shape == view.image.shape[:2]


def test_flipped_views_are_mirrored_with_their_masks() -> None:
    photo, config = some_photos().items[0], LearnConfig(mask_shapes=("box",))
    seen = set()
    for seed in range(8):
        plain = draw_view(photo, config, 64, 16, np.random.default_rng(seed))
        flipped = draw_view(photo, dataclasses.replace(config, flip=True), 64, 16, np.random.default_rng(seed))
        mirrored = not np.array_equal(plain.image, flipped.image)
        seen.add(mirrored)
        if mirrored:
            assert np.array_equal(plain.image[:, ::-1], flipped.image)
            assert np.array_equal(plain.silhouette[:, ::-1], flipped.silhouette)
    assert seen == {True, False}


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_cover_the_silhouette_with_some_room(shape: str) -> None:
    silhouette = np.zeros((96, 96), bool)
    silhouette[30:60, 25:65] = True
    silhouette[30:40, 25:40] = False
    areas = []
    for seed in range(20):
        mask = draw_mask(shape, silhouette, np.random.default_rng(seed))  # type: ignore[arg-type]
        assert mask.shape == (96, 96) and mask[silhouette].all()
        areas.append(mask.sum() / silhouette.sum())
    assert len(set(areas)) >= 3 and min(areas) > 1.0 and max(areas) < 3.5
    if shape == "box":
        box = Mask(mask).box
        assert box[2] * box[3] == mask.sum()
    if shape == "silhouette":
        assert max(areas) < 1.7


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 143), st.sampled_from(SHAPES), st.integers(0, 2**31))
def test_the_smallest_silhouettes_work_too(height: int, width: int, at: int, shape: str, seed: int) -> None:
    silhouette = np.zeros((height, width), bool)
    silhouette.flat[at % silhouette.size] = True
    assert draw_mask(shape, silhouette, np.random.default_rng(seed))[silhouette].all()  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(2, 1), (3, 500), (500, 3), (7, 5)])
def test_odd_photos_give_views_of_whole_cells(size: tuple[int, int]) -> None:
    mask = np.zeros(size, bool)
    mask[size[0] // 2, size[1] // 2] = True
    with pytest.warns(IntarsiaWarning, match="only one photo"):
        photos = Photos.from_arrays([np.full((*size, 3), 0.5, np.float32)], [mask])
    for view in draw_views(photos, LearnConfig(), 64, 16, 0):
        assert view.image.shape[0] % 16 == view.image.shape[1] % 16 == 0 and view.mask.any()
        assert view.silhouette.any() and np.isfinite(view.image).all()


def test_seeds_depend_on_every_part_and_fit_a_generator() -> None:
    seeds = {seed_of(0, "step", n) for n in range(100)} | {seed_of(1, "step", 0), seed_of(0, "other", 0)}
    assert len(seeds) == 102 and all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(0, "step", 3) == 8082029764619972999  # the same on every machine
