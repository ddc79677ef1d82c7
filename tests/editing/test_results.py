"""Saving, the recipe, and replay."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.conftest_tiny import tiny_backbone
from tests.editing.conftest import noise_picture

from intarsia.editing import EditingError, InputChangedError, Studio
from intarsia.errors import DiskFullError, IntarsiaWarning, OutputError, OutputExistsError, OutputFormatError
from intarsia.imaging import Picture
from intarsia.request import EditRequest
from intarsia.result import EditResult, Recipe, RecipeError, check_output, read_recipe


@pytest.fixture
def result(studio: Studio, tmp_path: Path) -> EditResult:
    noise_picture(seed=4).save(tmp_path / "scene.png")
    return studio.insert(tmp_path / "scene.png", box="30,20,24,24", prompt="a red mug", steps=2, seed=3, lam=0.7)


def test_the_png_carries_the_recipe(result: EditResult, tmp_path: Path) -> None:
    path = result.save(tmp_path / "new" / "folder" / "out.png")
    assert Picture.load(path).sha256 == result.picture.sha256
    recipe = read_recipe(path)
    assert recipe == result.recipe and recipe.request.seed == 3
    with Image.open(path) as image:
        text = json.loads(image.text["intarsia"])  # type: ignore[attr-defined]
    assert text["weights"] == result.recipe.weights
    assert {"intarsia", "torch", "diffusers", "transformers", "python", "platform"} <= set(text["environment"])
    assert [stage["name"] for stage in text["stages"]] == ["local", "global"]
    assert "\n" not in recipe.to_json() and Recipe.from_json(recipe.to_json()) == recipe


def test_replay_gives_the_same_bytes(studio: Studio, result: EditResult, tmp_path: Path) -> None:
    first = result.save(tmp_path / "out.png")
    again = studio.replay(first).save(tmp_path / "again.png")
    assert first.read_bytes() == again.read_bytes()


def test_replay_finds_files_beside_the_picture(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    noise_picture().save(tmp_path / "here" / "scene.png")
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "here")
        result = studio.remove("scene.png", box="30,20,24,24", steps=1)
        result.save("out.png")
    assert studio.replay(tmp_path / "here" / "out.png").picture.sha256 == result.picture.sha256


def test_replay_names_other_weights(result: EditResult, tmp_path: Path) -> None:
    path = result.save(tmp_path / "out.png")
    other = Studio(tiny_backbone(seed=1))
    with pytest.warns(IntarsiaWarning, match="weights: "):
        assert other.replay(path).picture.sha256 != result.picture.sha256


def test_replay_refuses_another_scene(studio: Studio, result: EditResult, tmp_path: Path) -> None:
    path = result.save(tmp_path / "out.png")
    noise_picture(seed=5).save(tmp_path / "scene.png", overwrite=True)
    with pytest.raises(InputChangedError, match=r"scene\.png is not the scene"):
        studio.replay(path)


def test_inputs_from_memory_cannot_be_replayed_and_it_says_so(studio: Studio, scene: Picture, tmp_path: Path) -> None:
    path = studio.remove(scene, box="30,20,24,24", steps=1).save(tmp_path / "out.png")
    with pytest.raises(EditingError, match="from memory"):
        studio.replay(path)


def test_a_request_for_other_weights_is_refused(studio: Studio, result: EditResult) -> None:
    request: EditRequest = result.recipe.request
    with pytest.raises(EditingError, match="was made for model"):
        studio.run(request.replace(model_hash="0" * 64))


@pytest.mark.parametrize("text", [None, "{", "{}", '{"recipe_version": 2}', '{"recipe_version": 1, "request": {}}'])
def test_pictures_without_a_usable_recipe_are_refused(tmp_path: Path, text: str | None) -> None:
    noise_picture().save(tmp_path / "p.png", text={} if text is None else {"intarsia": text})
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / "p.png")
    assert "\n" not in str(caught.value)


def test_saving_refuses_existing_files_and_unknown_suffixes(result: EditResult, tmp_path: Path) -> None:
    path = result.save(tmp_path / "out.png")
    with pytest.raises(OutputExistsError):
        result.save(path)
    result.save(path, overwrite=True)
    with pytest.raises(OutputFormatError):
        result.save(tmp_path / "new" / "out.bmp2")
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_nothing_behind(result: EditResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        result.save(tmp_path / "new" / "folder" / "out.png")
    assert not (tmp_path / "new").exists()


def test_outputs_are_checked_without_making_anything(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="not a folder"):
        check_output(tmp_path / "file" / "out.png", overwrite=False)
    for long in (tmp_path / ("a" * 300 + ".png"), tmp_path / ("a" * 300) / "out.png"):
        with pytest.raises(OutputError, match="too long"):
            check_output(long, overwrite=False)
    check_output(tmp_path / "a" / "b" / "out.png", overwrite=False)
    assert not (tmp_path / "a").exists()
