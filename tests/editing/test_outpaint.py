"""A frame around the scene: the scene's bytes stay, the seams are matched, it repeats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.editing.conftest import noise_picture, tiny_studio

from intarsia.editing import Studio
from intarsia.editing.outpaint import tile_seed
from intarsia.errors import IntarsiaError, KnobError, TooLargeError
from intarsia.imaging import Margins, Picture
from intarsia.request import RequestError
from intarsia.result import EditResult, read_recipe


def kept_bytes(source: Picture, result: EditResult, margins: Margins, rim: int) -> bool:
    """The support is the frame and the rim exactly, and all else is the source at its place."""
    size = source.size
    kept = np.zeros(margins.canvas(size), bool)
    margins.kept(size, rim).crop(kept)[...] = True
    assert np.array_equal(result.support, ~kept) and result.picture.size == margins.canvas(size)
    place = margins.place(size)
    inside = place.crop(kept)
    return np.array_equal(place.crop(result.picture.pixels)[inside], source.pixels[inside])


@given(
    # At most four times the area of 40x48 at once.
    sides=st.tuples(*[st.sampled_from([0, 0, 3, 30])] * 4).filter(any).filter(lambda s: s.count(30) < 3),
    rim=st.integers(0, 6),
    feather=st.integers(0, 8),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    preset=st.sampled_from(["default", "paper"]),
)
@settings(max_examples=5, deadline=None)
def test_the_scene_is_kept_at_its_place(
    sides: tuple[int, int, int, int], rim: int, feather: int, channels: int, dtype: Any, preset: str
) -> None:
    source = replace(noise_picture(40, 48, channels, dtype), icc_profile=b"profile")
    margins = Margins(*sides)
    named = dict(zip(("left", "right", "top", "bottom"), sides, strict=True))
    result = tiny_studio().outpaint(source, **named, rim=rim, feather=feather, steps=1, preset=preset)
    assert kept_bytes(source, result, margins, rim)
    assert (result.picture.mode, result.picture.icc_profile) == (source.mode, b"profile")
    if source.has_alpha:
        assert (result.picture.alpha()[result.support] == 1).all()


def test_presets_and_zero_say_how_wide_the_rim_is(studio: Studio, scene: Picture) -> None:
    margins = Margins(right=16)
    assert kept_bytes(scene, studio.outpaint(scene, right=16, steps=1, preset="paper"), margins, 5)
    assert kept_bytes(scene, studio.outpaint(scene, right=16, steps=1, rim=0), margins, 0)
    result = studio.outpaint(scene, right=16, steps=1)
    assert kept_bytes(scene, result, margins, result.recipe.request.rim)


def test_it_repeats_and_obeys_seed_and_words(studio: Studio, scene: Picture, tmp_path: Path) -> None:
    scene.save(tmp_path / "scene.png")
    first = studio.outpaint(tmp_path / "scene.png", ratio=0.75, anchor="bottom", steps=1)
    assert first.recipe.prompt_used == "empty background"
    assert first.picture.size == (96, 128)
    path = first.save(tmp_path / "out.png")
    assert read_recipe(path) == first.recipe
    assert studio.replay(path).picture.sha256 == first.picture.sha256
    for change in ({"seed": 1}, {"prompt": "a table"}):
        other = studio.outpaint(scene, ratio=0.75, anchor="bottom", steps=1, **change)
        assert other.picture.sha256 != first.picture.sha256


def test_zooming_out_again_and_again(studio: Studio, scene: Picture) -> None:
    given: Any = scene
    for _ in range(2):
        given = studio.outpaint(given, ratio=0.75, rim=0, steps=1)
    top, left = (given.picture.size[0] - 72) // 2, (given.picture.size[1] - 96) // 2
    assert given.picture.size == (128, 171)
    assert np.array_equal(given.picture.pixels[top : top + 72, left : left + 96], scene.pixels)


def test_large_frames_are_painted_in_several_windows_at_full_size(studio: Studio, scene: Picture) -> None:
    seen: list[tuple[int, int]] = []
    result = studio.outpaint(scene, left=40, top=30, steps=2, progress=lambda done, total: seen.append((done, total)))
    windows = [stage.window for stage in result.recipe.stages]
    assert len(windows) > 2 and max(max(window[2:]) for window in windows) <= studio.backbone.native_size
    assert seen == [(done, 2 * len(windows)) for done in range(1, 2 * len(windows) + 1)]
    covered = np.zeros(result.picture.size, bool)
    for top, left, height, width in windows:
        covered[top : top + height, left : left + width] = True
    assert covered[result.support].all()
    assert len({tile_seed(3, index) for index in range(50)} | {tile_seed(4, index) for index in range(50)}) == 100


def test_a_plain_scene_grows_without_a_seam(studio: Studio) -> None:
    """Colours are matched where windows meet the scene: the first new pixels do not jump."""
    plain = Picture.from_array(np.full((64, 64, 3), (200, 120, 60), np.uint8))
    matched = studio.outpaint(plain, right=24, steps=2).picture.pixels.astype(float)
    raw = studio.outpaint(plain, right=24, steps=2, seam_strength=0.0).picture.pixels.astype(float)
    jumps = [np.abs(pixels[:, 64:67].mean((0, 1)) - (200, 120, 60)).max() for pixels in (matched, raw)]
    assert jumps[0] < jumps[1]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, RequestError, "nothing to grow"),
        ({"ratio": 1.0}, RequestError, "nothing to grow"),
        ({"left": 5, "ratio": 0.8}, RequestError, "both given"),
        ({"left": 500}, TooLargeError, "times the area"),
        ({"left": 5, "right": 5, "rim": 48}, KnobError, "rim 48 leaves nothing"),
        ({"left": 5, "anchor": "middle"}, RequestError, "anchor 'middle'"),
        ({"left": 5, "reference": ("a.png",)}, RequestError, "no part in an outpainting"),
    ],
)
def test_bad_requests_are_refused(
    studio: Studio, scene: Picture, options: dict[str, Any], error: type[IntarsiaError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        studio.outpaint(scene, **options)
    assert "\n" not in str(caught.value)
