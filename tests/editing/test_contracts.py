"""Untouched means untouched; same request, same bytes; the model comes back as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.editing.conftest import noise_picture, tiny_studio

from intarsia.editing import EditingError, SceneSizeError, Studio
from intarsia.errors import (
    BoxError,
    EmptyMaskError,
    FullMaskError,
    MaskSizeError,
    NonFiniteError,
)
from intarsia.imaging import Mask, Picture
from intarsia.result import EditResult


def unchanged_outside(source: Picture, result: EditResult) -> bool:
    assert result.picture.mode == source.mode and result.picture.size == source.size
    outside = ~result.support
    return np.array_equal(result.picture.pixels[outside], source.pixels[outside])


@st.composite
def edits(draw: st.DrawFn) -> tuple[Picture, Mask, dict[str, Any]]:
    height, width = draw(st.integers(8, 90)), draw(st.integers(8, 90))
    channels, dtype = draw(st.sampled_from([1, 2, 3, 4])), draw(st.sampled_from([np.uint8, np.uint16]))
    seed = draw(st.integers(0, 99))
    source = noise_picture(height, width, channels, dtype, seed)
    array = np.zeros((height, width), bool)
    if draw(st.booleans()):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        array[top : top + draw(st.integers(1, height)), left : left + draw(st.integers(1, width))] = True
    else:
        array[:] = np.random.default_rng(seed).random((height, width)) < draw(st.sampled_from([0.01, 0.3]))
        array[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    array[0, 0] &= not array.all()
    options = {
        "steps": 2,
        "seed": seed,
        "preset": draw(st.sampled_from(["default", "paper"])),
        "lam": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "growth": draw(st.integers(0, 6)),
        "feather": draw(st.integers(0, 6)),
        "seam_strength": draw(st.sampled_from([0.0, 0.5, 1.0])),
    }
    return source, Mask(array), options


@given(edit=edits(), verb=st.sampled_from(["insert", "remove"]))
@settings(max_examples=25, deadline=None)
@pytest.mark.filterwarnings("ignore::intarsia.errors.IntarsiaWarning")
def test_no_byte_changes_outside_the_support(edit: tuple[Picture, Mask, dict[str, Any]], verb: str) -> None:
    source, mask, options = edit
    before = source.pixels.copy()
    if verb == "insert":
        result = tiny_studio().insert(source, mask=mask, prompt="a red mug", **options)
    else:
        result = tiny_studio().remove(source, mask=mask, **options)
    assert unchanged_outside(source, result)
    assert np.array_equal(source.pixels, before)
    reach = mask.grow(options["growth"]).grow(options["feather"] + 1).array
    assert not (result.support & ~reach).any() and result.support[mask.array].all()


def test_the_same_request_gives_the_same_bytes_and_another_seed_others(studio: Studio, scene: Picture) -> None:
    options: dict[str, Any] = {"box": (30, 20, 24, 24), "prompt": "a red mug", "steps": 3}
    first, again = studio.insert(scene, **options), studio.insert(scene, **options)
    assert first.picture.sha256 == again.picture.sha256
    assert first.recipe == again.recipe
    assert studio.insert(scene, **options, seed=1).picture.sha256 != first.picture.sha256


def test_many_requests_give_what_each_gives_alone(studio: Studio, scene: Picture, tmp_path: Any) -> None:
    scene.save(tmp_path / "s.png")
    first = studio.insert(tmp_path / "s.png", box="30,20,24,24", prompt="a red mug", steps=2).recipe.request
    requests = [first, first.replace(seed=5), first.replace(prompt="a blue duck")]
    together = [result.picture.sha256 for result in studio.insert_many(reversed(requests))]
    assert together[::-1] == [studio.run(request).picture.sha256 for request in requests]
    assert len(set(together)) == 3


@pytest.mark.parametrize("place", ["unet", "vae"])
def test_nan_from_the_model_is_an_error_and_the_next_edit_is_fine(
    studio: Studio, scene: Picture, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    options: dict[str, Any] = {"box": (30, 20, 24, 24), "prompt": "a red mug", "steps": 2}
    good = studio.insert(scene, **options).picture.sha256
    with monkeypatch.context() as patch:
        if place == "unet":
            patch.setattr(studio.backbone.unet, "forward", lambda sample, *a, **k: (sample[:, :4] * float("nan"),))
        else:
            patch.setattr(
                studio.backbone.vae,
                "decode",
                lambda z, **k: (torch.full((len(z), 3, z.shape[2] * 8, z.shape[3] * 8), float("nan")),),
            )
        with pytest.raises(NonFiniteError, match="float32"):
            studio.insert(scene, **options)
    assert studio.insert(scene, **options).picture.sha256 == good


def test_removal_uses_the_models_words_for_emptiness(studio: Studio, scene: Picture) -> None:
    result = studio.remove(scene, box="30,20,24,24", steps=2)
    assert result.recipe.prompt_used == "empty background"
    assert studio.remove(scene, box="30,20,24,24", steps=2, prompt="a table").recipe.prompt_used == "a table"


def test_hidden_colours_of_transparent_pixels_have_no_influence(studio: Studio) -> None:
    pixels = noise_picture(64, 64, 4).pixels.copy()
    pixels[..., 3] = 255
    pixels[:, 40:, 3] = 0
    other = pixels.copy()
    other[:, 40:, :3] = 77
    painted = [
        studio.insert(Picture.from_array(array), box=(10, 20, 24, 24), prompt="a mug", steps=2)
        for array in (pixels, other)
    ]
    support = painted[0].support
    assert np.array_equal(painted[0].picture.pixels[support], painted[1].picture.pixels[support])


def test_masks_come_as_arrays_pictures_boxes_and_mean_the_same(studio: Studio, scene: Picture) -> None:
    array = np.zeros(scene.size, bool)
    array[20:44, 30:54] = True
    white = Picture.from_array(array.astype(np.uint8) * 255)
    from PIL import Image

    image = Image.fromarray(white.pixels[..., 0])
    inverted = Image.fromarray(255 - white.pixels[..., 0])
    results = {
        studio.insert(scene, prompt="a mug", steps=1, **place).picture.sha256
        for place in (
            {"mask": array},
            {"mask": image},
            {"mask": inverted, "mask_from": "black"},
            {"mask": Mask(array)},
            {"box": (30, 20, 24, 24)},
            {"box": "30,20,24,24"},
        )
    }
    assert len(results) == 1


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ({"mask": np.zeros((72, 96), bool)}, EmptyMaskError),
        ({"mask": np.ones((72, 96), bool)}, FullMaskError),
        ({"mask": np.ones((96, 72), bool)}, MaskSizeError),
        ({"box": (90, 60, 20, 20)}, BoxError),
        ({"box": "1,2,3"}, BoxError),
        ({"box": "here"}, BoxError),
        ({"box": (0, 0, 0, 5)}, BoxError),
        ({}, EditingError),
        ({"box": (1, 1, 5, 5), "mask": np.ones((72, 96), bool)}, EditingError),
    ],
)
def test_unusable_places_are_refused(
    studio: Studio, scene: Picture, place: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        studio.insert(scene, prompt="a mug", **place)


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (20, 20000)])
def test_scenes_no_model_can_paint_in_are_refused(studio: Studio, size: tuple[int, int]) -> None:
    with pytest.raises(SceneSizeError, match=f"{size[1]}x{size[0]}"):
        studio.insert(noise_picture(*size), box=(0, 0, 1, 1), prompt="a mug")
