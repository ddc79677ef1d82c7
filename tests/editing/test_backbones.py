"""Every kind of backbone does all that the miniature does: learn, insert, edit, remove, replay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.backbones.real_layouts import LAYOUTS, write_layout
from tests.cli.conftest import Run, run
from tests.editing.conftest import noise_picture

from intarsia.editing import Studio
from intarsia.imaging import Picture

__all__ = ["run"]

pytestmark = pytest.mark.filterwarnings("ignore::intarsia.errors.IntarsiaWarning")
BOX = "24,16,40,32"


@pytest.fixture(scope="module", params=LAYOUTS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param.replace("+", "-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTARSIA_MODELS", str(folder / "models"))
        yield write_layout(request.param, folder)


@pytest.fixture(scope="module")
def studio(model: str) -> Studio:
    return Studio.load(model, device="cpu")


def test_learn_insert_edit_remove_replay(studio: Studio, model: str, photo_folder: Path, tmp_path: Path) -> None:
    assert studio.model == model
    attributes = tmp_path / "attributes.yaml"
    attributes.write_text("colour: [red]\nmaterial: [clay]\n")
    file = tmp_path / "duck.safetensors"
    subject = studio.learn(
        photo_folder,
        "duck",
        file,
        preset="smoke",
        steps=2,
        regular_images=1,
        windows_per_photo=1,
        learning_rate=0.05,
        namer=f"yaml:{attributes}",
    )
    assert subject.steps_done == 2 and subject.base_hash == studio.backbone.hash
    scene = tmp_path / "scene.png"
    noise_picture(96, 128).save(scene)
    source = Picture.load(scene)
    options = {"box": BOX, "steps": 3, "seed": 5}
    results = {
        "insert": studio.insert(scene, prompt="a red mug", **options),
        "subject": studio.insert(scene, prompt="a red duck", subject=file, **options),
        "edit": studio.insert(scene, prompt="a blue duck", subject=file, **options),
        "remove": studio.remove(scene, **options),
    }
    assert results["edit"].recipe.removed_attributes == ("red",)
    for name, result in results.items():
        outside = ~result.support
        assert outside.mean() > 0.4 and np.array_equal(result.picture.pixels[outside], source.pixels[outside])
        assert not np.array_equal(result.picture.pixels, source.pixels)
        saved = result.save(tmp_path / f"{name}.png")
        assert studio.replay(saved).save(tmp_path / f"{name}-again.png").read_bytes() == saved.read_bytes()
    pixels = [result.picture.pixels.tobytes() for result in results.values()]
    assert len(set(pixels)) == len(pixels)


def test_the_command_line_takes_it_by_the_same_name(run: Run, model: str, tmp_path: Path) -> None:
    scene, out = tmp_path / "scene.png", tmp_path / "out.png"
    noise_picture(64, 96).save(scene)
    command = ["insert", scene, "--box", BOX, "-p", "a red mug", "--steps", 2, "--model", model, "-o", out, "--json"]
    done = run(*command)
    assert done.code == 0, done.err
    assert json.loads(done.out)["recipe"]["request"]["model"] == model
    assert run("replay", out).code == 0


def test_a_picture_is_replayed_from_another_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    noise_picture(64, 96).save(tmp_path / "scene.png")
    Path(write_layout("sd15-file", tmp_path)).rename(tmp_path / "mine.safetensors")
    (tmp_path / "sd1").rename(tmp_path / "mine")
    options = ["--box", BOX, "-p", "a mug", "--steps", 2, "--model", "mine.safetensors"]
    done = run("insert", "scene.png", *options, "-o", "o.png")
    assert done.code == 0, done.err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run("replay", "../o.png").code == 0
    (tmp_path / "mine.safetensors").rename(tmp_path / "gone.safetensors")
    (tmp_path / "mine").rename(tmp_path / "gone")
    lost = run("replay", "../o.png")
    assert lost.code == 2 and "--model" in lost.err and lost.err.count("\n") == 1
    assert run("replay", "../o.png", "--model", "../gone.safetensors").code == 0
