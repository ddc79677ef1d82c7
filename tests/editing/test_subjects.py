from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from intarsia.editing import EditingError, Studio
from intarsia.errors import MissingFileError, OutputExistsError
from intarsia.imaging import Picture
from intarsia.learning import LearnConfig, OtherBaseError, PhotosError, Subject
from intarsia.sampling import SchedulerError

PLACE: dict[str, Any] = {"box": (30, 20, 24, 24), "steps": 2}


def weights(studio: Studio) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in studio.backbone.unet.state_dict().items()}


def same(before: dict[str, torch.Tensor], studio: Studio) -> bool:
    after = studio.backbone.unet.state_dict()
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_subject_changes_the_picture_and_leaves_the_model(studio: Studio, scene: Picture, subject: Subject) -> None:
    before = weights(studio)
    with_it = studio.insert(scene, subject=subject, prompt="a duck", **PLACE)
    assert same(before, studio)
    assert with_it.recipe.prompt_used == "a sks duck"
    same_guidance = with_it.recipe.request.guidance_scale
    plain = studio.insert(scene, prompt="a sks duck", guidance_scale=same_guidance, **PLACE)
    off = studio.insert(scene, subject=subject, subject_strength=0, prompt="a sks duck", **PLACE)
    assert off.picture.sha256 == plain.picture.sha256 != with_it.picture.sha256


def test_the_subject_as_it_is_needs_no_words(studio: Studio, scene: Picture, subject: Subject) -> None:
    recipe = studio.insert(scene, subject=subject, **PLACE).recipe
    assert recipe.prompt_used == "a photo of a sks duck" and recipe.removed_attributes == ()


def test_contradicted_attributes_give_way(studio: Studio, scene: Picture, subject: Subject) -> None:
    prompt = "a blue clay duck"
    auto = studio.insert(scene, subject=subject, prompt=prompt, **PLACE)
    by_hand = studio.insert(scene, subject=subject, prompt=prompt, remove_attributes=["red"], **PLACE)
    none = studio.insert(scene, subject=subject, prompt=prompt, remove_attributes="none", **PLACE)
    weak = studio.insert(scene, subject=subject, prompt=prompt, attribute_strength=0, **PLACE)
    assert auto.recipe.removed_attributes == by_hand.recipe.removed_attributes == ("red",)
    assert auto.picture.sha256 == by_hand.picture.sha256 != none.picture.sha256 == weak.picture.sha256


def test_after_an_error_the_model_is_as_before(studio: Studio, scene: Picture, subject: Subject) -> None:
    before = weights(studio)
    with pytest.raises(SchedulerError):
        studio.insert(scene, subject=subject, scheduler="heun", **PLACE)
    assert same(before, studio)


def test_a_subject_of_another_base_is_refused_by_name(studio: Studio, scene: Picture, subject: Subject) -> None:
    foreign = replace(subject, base_name="elsewhere", base_hash="0" * 64)
    with pytest.raises(OtherBaseError, match=r"elsewhere.*tiny"):
        studio.insert(scene, subject=foreign, **PLACE)


def test_a_file_and_the_subject_in_memory_are_the_same(
    studio: Studio, scene: Picture, subject: Subject, tmp_path: Path
) -> None:
    subject.save(tmp_path / "duck.safetensors")
    scene.save(tmp_path / "s.png")
    from_file = studio.insert(tmp_path / "s.png", subject=tmp_path / "duck.safetensors", **PLACE)
    from_memory = studio.insert(scene, subject=subject, **PLACE)
    assert from_file.picture.sha256 == from_memory.picture.sha256
    assert from_file.recipe.request.subject_sha256 == from_memory.recipe.request.subject_sha256
    assert studio.run(from_file.recipe.request).picture.sha256 == from_file.picture.sha256
    with pytest.raises(EditingError, match="from memory"):
        studio.run(from_memory.recipe.request)


def test_missing_and_damaged_subject_files_are_refused(studio: Studio, scene: Picture, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"none\.safetensors"):
        studio.insert(scene, subject=tmp_path / "none.safetensors", **PLACE)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x40\0\0\0\0\0\0\0{nonsense")
    with pytest.raises(EditingError, match="damaged"):
        studio.insert(scene, subject=broken, **PLACE)


def test_learning_refuses_an_existing_output_before_it_starts(
    studio: Studio, photo_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "d.safetensors").write_bytes(b"")
    with pytest.raises(OutputExistsError):
        studio.learn(photo_folder, "duck", tmp_path / "d.safetensors", preset="smoke")
    with pytest.raises(PhotosError):
        studio.learn(tmp_path / "empty", "duck", preset="smoke")
    with pytest.raises(EditingError, match="steps"):
        studio.learn(photo_folder, "duck", config=LearnConfig.preset("smoke"), steps=2)


def test_learning_by_config_and_by_preset_is_the_same(studio: Studio, photo_folder: Path) -> None:
    options: dict[str, Any] = {"regular_images": 0, "steps": 1}
    one = studio.learn(photo_folder, "duck", config=LearnConfig.preset("smoke", **options))
    two = studio.learn(photo_folder, "duck", preset="smoke", **options)
    assert all(torch.equal(one.lora[key], two.lora[key]) for key in two.lora)
