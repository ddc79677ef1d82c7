"""Membranes: hole filling and the spatially varying colour match at the seam."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from intarsia.errors import KnobError, SizeMismatchError
from intarsia.imaging import Mask, fill_hole, match_seam

FEW = settings(max_examples=25, deadline=None)
SIZE = (96, 120)
BOX = Mask.from_box("35,30,50,40", SIZE)


def scene(seed: int = 1) -> NDArray[np.float32]:
    rows, columns = np.indices(SIZE, np.float32)
    smooth = np.stack([rows / 200, columns / 200, 0.3 + 0.1 * np.sin(columns / 20)], axis=-1)
    noise = np.random.default_rng(seed).normal(0.2, 0.01, smooth.shape)
    return (smooth + noise).astype(np.float32)


def rim(mask: Mask, depth: int) -> NDArray[np.bool_]:
    """Masked pixels within `depth` of the edge."""
    return mask.array & Mask(~mask.array).grow(depth).array


def test_a_left_to_right_cast_is_gone_at_the_seam() -> None:
    source = scene()
    ramp = np.linspace(-0.12, 0.12, SIZE[1], dtype=np.float32)[None, :, None] * np.array(
        [1, -0.5, 0.3], np.float32
    )
    cast = ramp + np.float32(0.02)
    noise = np.random.default_rng(2).normal(0, 0.01, source.shape).astype(np.float32)
    generated = source + cast + noise
    seam = rim(BOX, 3)

    def error(picture: NDArray[np.float32]) -> float:
        """What is left of the cast at the seam."""
        return float(np.abs(picture - source - noise)[seam].mean())

    matched = match_seam(generated, source, BOX, ring=8)
    assert error(matched) < error(generated) / 8
    # One colour for the whole picture, as usual, does not do it.
    ring = BOX.grow(8).array & ~BOX.array
    globally = generated + (source - generated)[ring].mean(axis=0)
    assert error(matched) < error(globally) / 4
    # Deep inside the cast is gone as well: the membrane carries a linear ramp across.
    inside = BOX.array & ~seam
    assert np.abs(matched - source - noise)[inside].mean() < np.abs(cast)[:, 35:85].mean() / 5


@pytest.mark.parametrize("ring", [32, 50, 75])
def test_a_wide_ring_does_in_cells_what_a_narrow_one_does_by_pixels(ring: int) -> None:
    size = (401, 467)
    mask = Mask.from_box("171,120,150,141", size)
    rows, columns = np.indices(size, np.float32)
    cast = np.stack([columns / 2000 - 0.1, 0.05 + rows / 4000, np.full(size, -0.08, np.float32)], axis=-1)
    source = np.random.default_rng(3).random((*size, 3), np.float32)
    difference = match_seam(source + cast, source, mask, ring=ring) - source
    assert np.abs(difference[mask.array]).mean() < np.abs(cast[mask.array]).mean() / 8
    assert np.abs(difference[rim(mask, 3)]).max() < 0.02
    np.testing.assert_array_equal((difference - (source + cast - source))[~mask.grow(2 * ring + 8).array], 0)
    # What the hole holds plays no part.
    other = source + cast
    other[mask.array] = 0.5
    np.testing.assert_allclose(
        match_seam(other, source, mask, ring=ring)[mask.array] - np.float32(0.5),
        (difference - cast)[mask.array],
        atol=1e-5,
    )


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.floats(0, 1))
def test_equal_on_the_ring_means_no_change_at_all(seed: int, ring: int, strength: float) -> None:
    random = np.random.default_rng(seed)
    source = random.random((*SIZE, 3), np.float32)
    mask = Mask(random.random(SIZE) < 0.002)
    generated = source.copy()
    generated[mask.array] = random.random((int(mask.array.sum()), 3), np.float32)
    np.testing.assert_array_equal(
        match_seam(generated, source, mask, ring=ring, strength=strength), generated
    )


def test_an_object_inside_keeps_its_contrast() -> None:
    source = scene()
    generated = source.copy()
    generated[40:60, 50:70] = (0.9, 0.1, 0.1)
    matched = match_seam(generated + np.float32(0.05), source, BOX, ring=6)
    np.testing.assert_allclose(matched[45:55, 55:65], generated[45:55, 55:65], atol=0.01)


def test_strength_scales_and_the_correction_ends_outside_the_ring() -> None:
    source = scene()
    generated = source + np.float32(0.1)
    full = match_seam(generated, source, BOX, ring=5)
    half = match_seam(generated, source, BOX, ring=5, strength=0.5)
    np.testing.assert_allclose(half - generated, (full - generated) / 2, atol=1e-6)
    beyond = ~BOX.grow(10).array
    np.testing.assert_array_equal(full[beyond], generated[beyond])
    np.testing.assert_array_equal(match_seam(generated, source, BOX, ring=5, strength=0), generated)


def test_without_surroundings_nothing_changes_and_bad_input_is_refused() -> None:
    source, everything = scene(), Mask(np.ones(SIZE, bool))
    for mask, ring in ((everything, 5), (BOX, 0), (Mask(np.zeros(SIZE, bool)), 5)):
        np.testing.assert_array_equal(match_seam(source + 1, source, mask, ring=ring), source + 1)
    with pytest.raises(SizeMismatchError):
        match_seam(source[1:], source, BOX, ring=5)
    for knobs in ({"ring": -1}, {"ring": 2, "strength": 2.0}):
        with pytest.raises(KnobError):
            match_seam(source, source, BOX, **knobs)


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.01, 0.3, 0.95]))
def test_a_filled_hole_keeps_the_rest_and_its_range(seed: int, height: int, width: int, share: float) -> None:
    random = np.random.default_rng(seed)
    rgb = random.random((height, width, 3), np.float32)
    mask = random.random((height, width)) < share
    before = rgb.copy()
    filled = fill_hole(rgb, mask)
    np.testing.assert_array_equal(rgb, before)
    np.testing.assert_array_equal(filled[~mask], rgb[~mask])
    assert np.isfinite(filled).all()
    if not mask.all():
        low, high = rgb[~mask].min(axis=0), rgb[~mask].max(axis=0)
        assert (filled >= low - 1e-5).all() and (filled <= high + 1e-5).all()
    else:
        assert (filled == 0.5).all()


def test_a_hole_in_a_slope_is_bridged_smoothly() -> None:
    rows, columns = np.indices((128, 128), np.float32)
    slope = np.stack([rows / 128, columns / 128, (rows + columns) / 256], axis=-1)
    mask = (rows - 64) ** 2 + (columns - 60) ** 2 < 40**2
    hidden = np.where(mask[..., None], np.float32(0), slope)  # what is under the mask must play no part
    filled = fill_hole(hidden, mask)
    assert np.abs(filled - slope).max() < 0.05
    steps = np.abs(np.diff(filled, axis=1)).max()
    assert steps < 0.03  # no jump, neither at the rim nor inside; the slope itself has 1 / 128


def test_a_hole_at_the_border_and_in_a_line() -> None:
    row = np.tile(np.array([0.2, 0.4, 0.6], np.float32), (1, 50, 1))
    mask = np.zeros((1, 50), bool)
    mask[0, 10:] = True
    np.testing.assert_allclose(fill_hole(np.where(mask[..., None], np.float32(0), row), mask), row, atol=1e-5)
