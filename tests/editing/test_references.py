"""Insertion from a reference: the router, the adapters coming and going, chains, the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapters.test_ip_adapter import saved, stock_state
from tests.conftest_tiny import tiny_backbone
from tests.editing.conftest import noise_picture, save_random_reference, thing

from intarsia.adapters import AdapterError
from intarsia.editing import (
    EditingError,
    InputChangedError,
    ReferenceModelError,
    ReferencePhotoError,
    Studio,
)
from intarsia.imaging import Picture
from intarsia.learning import Subject
from intarsia.request import REFERENCE
from intarsia.result import read_recipe
from intarsia.sampling import SchedulerError

# What depends on the request by default is said, so that requests with and without a reference can be compared.
PLACE: dict[str, Any] = {"box": (30, 20, 24, 24), "steps": 2, "guidance_scale": 4.0, "guidance_mode": "joint"}


@pytest.fixture
def shown(reference_folder: Path) -> dict[str, Any]:
    return {**PLACE, "reference": thing(), "reference_model": str(reference_folder)}


def state(studio: Studio) -> tuple[dict[str, torch.Tensor], dict[str, int], int]:
    """Parameters, attention processors by identity, and the number of modules of the U-Net."""
    unet = studio.backbone.unet
    weights = {name: value.clone() for name, value in unet.state_dict().items()}
    return weights, {name: id(one) for name, one in unet.attn_processors.items()}, len(list(unet.modules()))


def same(before: Any, after: Any) -> bool:
    weights, processors, modules = after
    equal = before[0].keys() == weights.keys() and all(torch.equal(before[0][key], weights[key]) for key in weights)
    return equal and before[1] == processors and before[2] == modules


def test_one_set_of_weights_paints_from_words_from_a_reference_and_from_both(
    studio: Studio, scene: Picture, shown: dict[str, Any]
) -> None:
    before = state(studio)
    words = studio.insert(scene, prompt="a red mug", **PLACE)
    photo = studio.insert(scene, **shown)
    both = studio.insert(scene, prompt="a red mug", **shown)
    assert len({result.picture.sha256 for result in (words, photo, both)}) == 3
    assert same(before, state(studio))
    assert photo.recipe.prompt_used == "" and both.recipe.prompt_used == "a red mug"
    assert studio.insert(scene, prompt="a red mug", **PLACE).picture.sha256 == words.picture.sha256
    assert studio.insert(scene, **shown).picture.sha256 == photo.picture.sha256


def test_a_reference_that_is_not_shown_is_no_reference(studio: Studio, scene: Picture, shown: dict[str, Any]) -> None:
    words = studio.insert(scene, prompt="a red mug", **PLACE).picture.sha256
    for off in (
        {"reference_strength": 0, "detail_strength": 0},
        {"reference_interval": (0.0, 0.0)},
        {"reference_schedule": (0.0,)},
        {"reference_blocks": (0, 0, 0), "detail_strength": 0},
    ):
        assert studio.insert(scene, prompt="a red mug", **shown, **off).picture.sha256 == words, off


def test_every_knob_counts(studio: Studio, scene: Picture, shown: dict[str, Any]) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"reference_strength": 0.3},
        {"reference_blocks": (1, 1, 0)},
        {"reference_interval": (0.5, 1.0)},
        {"reference_schedule": (1.0, 0.2)},
        {"detail_strength": 0},
        {"detail_mode": "noised"},
        {"detail_guided": not REFERENCE["default"]["detail_guided"]},
        {"guidance_mode": "apart"},
        {"guidance_mode": "apart", "reference_guidance_scale": 6.0},
        {"guidance_rescale": 0.7},
        {"guidance_interval": (0.0, 0.5)},
        {"reference_mask": "0,0,12,12"},
        {"reference": thing(seed=8)},
        {"reference": [thing(), thing(seed=8)]},
        {"lam": 0.5},
    ]
    found = [studio.insert(scene, prompt="a mug", **{**shown, **one}).picture.sha256 for one in settings]
    assert [settings[found.index(one)] for one in found] == settings


def test_a_learned_subject_and_a_reference_together_and_nothing_is_left(
    studio: Studio, scene: Picture, subject: Subject, shown: dict[str, Any]
) -> None:
    before = state(studio)
    alone = studio.insert(scene, subject=subject, prompt="a duck", **PLACE)
    both = studio.insert(scene, subject=subject, prompt="a duck", **shown)
    photo = studio.insert(scene, prompt="a sks duck", **shown)
    assert len({result.picture.sha256 for result in (alone, both, photo)}) == 3
    assert both.recipe.prompt_used == "a sks duck"
    assert same(before, state(studio))
    with pytest.raises(SchedulerError):
        studio.insert(scene, subject=subject, scheduler="heun", **shown)
    assert same(before, state(studio))
    assert studio.insert(scene, subject=subject, prompt="a duck", **PLACE).picture.sha256 == alone.picture.sha256


def test_a_stock_ip_adapter_paints_and_replays(
    studio: Studio, scene: Picture, shown: dict[str, Any], tmp_path: Path
) -> None:
    before = state(studio)
    file = saved(stock_state(studio.backbone.unet), tmp_path)
    scene.save(tmp_path / "scene.png")
    thing().save(tmp_path / "mug.png")
    stock = {**PLACE, "reference": tmp_path / "mug.png", "reference_model": str(file)}
    result = studio.insert(tmp_path / "scene.png", **stock)
    others = [studio.insert(scene, **shown), studio.insert(scene, **{**stock, "reference_strength": 0.3})]
    assert result.picture.sha256 not in [other.picture.sha256 for other in others]
    assert studio.replay(result.save(tmp_path / "out.png")).picture.sha256 == result.picture.sha256
    off = studio.insert(scene, **stock, prompt="a mug", reference_strength=0).picture.sha256
    assert off == studio.insert(scene, **PLACE, prompt="a mug").picture.sha256
    with pytest.raises(ReferencePhotoError, match="5 references were given, but the model takes 4"):
        studio.insert(scene, **{**stock, "reference": [thing(number) for number in range(5)]})
    assert same(before, state(studio))


def test_an_error_while_painting_leaves_the_model_as_it_was(
    studio: Studio, scene: Picture, shown: dict[str, Any]
) -> None:
    before = state(studio)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        studio.insert(scene, progress=stop, **shown)
    assert same(before, state(studio))


def test_assign_alone_is_refine_at_zero(studio: Studio, scene: Picture, shown: dict[str, Any], tmp_path: Path) -> None:
    save_random_reference(tmp_path / "assign", refine=False)
    alone = studio.insert(scene, **{**shown, "reference_model": str(tmp_path / "assign")})
    off = studio.insert(scene, **shown, detail_strength=0)
    assert alone.picture.sha256 == off.picture.sha256


def test_a_box_is_repainted_to_its_last_row_and_column(studio: Studio, scene: Picture, shown: dict[str, Any]) -> None:
    import numpy as np

    mask = np.zeros(scene.size, bool)
    mask[20, 30] = mask[43, 53] = True
    given = {**shown, "mask": mask, "feather": 0}
    del given["box"]
    drawn, whole = studio.insert(scene, **given), studio.insert(scene, mask_shape="box", **given)
    rectangle = np.zeros(scene.size, bool)
    rectangle[20:44, 30:54] = True
    assert np.array_equal(drawn.support, mask) and np.array_equal(whole.support, rectangle)
    assert whole.recipe.request.mask_sha256 == drawn.recipe.request.mask_sha256


def test_the_recipe_repeats_the_picture_and_refuses_another_photo(
    studio: Studio, reference_folder: Path, tmp_path: Path
) -> None:
    noise_picture(seed=4).save(tmp_path / "scene.png")
    thing().save(tmp_path / "mug.png")
    result = studio.insert(
        tmp_path / "scene.png", reference=tmp_path / "mug.png", reference_model=str(reference_folder), **PLACE
    )
    path = result.save(tmp_path / "out.png")
    request = read_recipe(path).request
    assert request.reference_sha256 == (thing().sha256,) and len(request.reference_mask_sha256) == 1
    assert request.reference_hash is not None
    assert studio.replay(path).picture.sha256 == result.picture.sha256
    assert studio.run(request).picture.sha256 == result.picture.sha256
    with pytest.raises(ReferenceModelError, match="other reference weights"):
        studio.run(request.replace(reference_hash="0" * 64))
    thing(seed=9).save(tmp_path / "mug.png", overwrite=True)
    with pytest.raises(InputChangedError, match=r"mug\.png is not the reference"):
        studio.replay(path)


def test_photos_from_memory_cannot_be_replayed_and_it_says_so(
    studio: Studio, shown: dict[str, Any], tmp_path: Path
) -> None:
    noise_picture().save(tmp_path / "scene.png")
    request = studio.insert(tmp_path / "scene.png", **shown).recipe.request
    assert request.reference == () and request.reference_sha256
    with pytest.raises(EditingError, match="reference was given from memory"):
        studio.run(request)


def test_weights_are_loaded_once_and_again_when_the_files_change(
    studio: Studio, scene: Picture, shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save_random_reference(tmp_path / "reference")
    given = {**shown, "reference_model": str(tmp_path / "reference")}
    first = studio.insert(scene, **given).picture.sha256
    import intarsia.adapters

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("loaded again")

    with monkeypatch.context() as patch:
        patch.setattr(intarsia.adapters, "load_reference", fail, raising=False)
        assert studio.insert(scene, **given).picture.sha256 == first
    save_random_reference(tmp_path / "reference", refine=False)
    assert studio.insert(scene, **given).picture.sha256 != first


def test_weights_of_another_backbone_none_and_too_many_photos_are_refused(
    studio: Studio, scene: Picture, shown: dict[str, Any], tmp_path: Path
) -> None:
    before = state(studio)
    save_random_reference(tmp_path / "other", tiny_backbone(seed=1))
    with pytest.raises(AdapterError) as caught:
        studio.insert(scene, **{**shown, "reference_model": str(tmp_path / "other")})
    assert "\n" not in str(caught.value)
    with pytest.raises(ReferenceModelError, match="give reference_model"):
        studio.insert(scene, **{**shown, "reference_model": None})
    with pytest.raises(ReferencePhotoError, match="3 references were given, but the model takes 2"):
        studio.insert(scene, **{**shown, "reference": [thing(1), thing(2), thing(3)]})
    assert same(before, state(studio))
