from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Run
from tests.editing.conftest import noise_picture

from intarsia.imaging import Picture
from intarsia.learning import Subject
from intarsia.result import read_recipe


def test_insert_writes_a_picture_with_its_recipe(run: Run, folder: Path, model_folder: Path) -> None:
    out = folder / "new" / "out.png"
    done = run(
        "insert", folder / "scene.png", "--mask", folder / "mask.png", "-p", "a red mug", "-o", out,
        "--model", model_folder, "--steps", 2, "--seed", 9, "--lambda", 0.5,
        "--window-share", 0, "--context-share", 0,
        "--growth", 1, "--feather", 2, "--seam", 0.5, "--guidance", 2, "--scheduler", "ddim",
        "--start", "noise", "--no-keep-detail", "--negative", "a duck",
    )  # fmt: skip
    assert done.code == 0 and str(out) in done.out and done.out.count("\n") == 1
    request = read_recipe(out).request
    assert (request.seed, request.lam, request.steps, request.scheduler) == (9, 0.5, 2, "ddim")
    assert request.local_share is None and request.context_share is None
    assert (request.growth, request.feather, request.seam_strength) == (1, 2, 0.5)
    assert (request.start, request.keep_detail, request.negative_prompt) == ("noise", False, "a duck")
    before, after = Picture.load(folder / "scene.png").pixels, Picture.load(out).pixels
    changed = (before != after).any(axis=-1)
    assert changed[20:44, 30:54].any() and not changed[:16].any() and not changed[:, 58:].any()


def test_json_is_one_object_on_stdout_and_messages_are_on_stderr(run: Run, folder: Path, model_folder: Path) -> None:
    long_prompt = "a red mug " * 20
    done = run(
        "insert", folder / "scene.png", "--box", "30,20,24,24", "-p", long_prompt, "-o", folder / "out.png",
        "--model", model_folder, "--steps", 1, "--json",
    )  # fmt: skip
    assert done.code == 0
    outcome = json.loads(done.out)
    assert outcome["output"] == str(folder / "out.png") and outcome["changed_pixels"] > 0
    assert outcome["recipe"]["request"]["prompt"] == long_prompt
    assert any("cut off: " in warning for warning in outcome["warnings"]) and "cut off: " in done.err


def test_remove_then_replay_gives_the_same_bytes(run: Run, folder: Path, model_folder: Path) -> None:
    out, again = folder / "out.png", folder / "again.png"
    made = run(
        "remove",
        folder / "scene.png",
        "--box",
        "30,20,24,24",
        "-o",
        out,
        "--model",
        model_folder,
        "--steps",
        2,
    )
    assert made.code == 0 and made.err == ""
    done = run("replay", out, "-o", again, "--json")
    assert done.code == 0 and json.loads(done.out)["same"] is True
    assert out.read_bytes() == again.read_bytes()


def test_replay_tells_when_pixels_differ(run: Run, folder: Path, model_folder: Path) -> None:
    out = folder / "out.png"
    run(
        "remove",
        folder / "scene.png",
        "--box",
        "30,20,24,24",
        "-o",
        out,
        "--model",
        model_folder,
        "--steps",
        1,
    )
    picture = Picture.load(out)
    forged = Picture.from_array(picture.pixels ^ np.uint8(1))
    forged.save(out, text={"intarsia": read_recipe(out).to_json()}, overwrite=True)
    done = run("replay", out)
    assert done.code == 1 and "other pixels" in done.out


def test_learn_then_insert(run: Run, folder: Path, model_folder: Path, photo_folder: Path) -> None:
    file = folder / "subjects" / "duck.safetensors"
    learned = run(
        "learn",
        photo_folder,
        "--class",
        "duck",
        "-o",
        file,
        "--preset",
        "smoke",
        "--model",
        model_folder,
        "--json",
    )
    assert learned.code == 0 and json.loads(learned.out)["steps"] == 4
    assert Subject.load(file).class_noun == "duck"
    done = run(
        "insert", folder / "scene.png", "--box", "30,20,24,24", "--subject", file, "-p", "a blue duck",
        "-o", folder / "out.png", "--model", model_folder, "--steps", 1, "--substitute", "red",
    )  # fmt: skip
    assert done.code == 0
    recipe = read_recipe(folder / "out.png")
    assert recipe.prompt_used == "a sks blue duck" and recipe.removed_attributes == ("red",)
    assert run("replay", folder / "out.png").code == 0


def test_a_converted_subject_is_told_what_it_is_for(
    run: Run, folder: Path, model_folder: Path, photo_folder: Path
) -> None:
    ours, theirs = folder / "duck.safetensors", folder / "duck-kohya.safetensors"
    given = ["--model", model_folder]
    assert run("learn", photo_folder, "-c", "duck", "-o", ours, "--preset", "smoke", *given).code == 0
    assert run("convert", ours, "--to", "kohya", "-o", theirs, *given).code == 0
    insert = ["insert", folder / "scene.png", "--box", "30,20,24,24", "-p", "a duck", "-o", folder / "o.png", *given]
    done = run(*insert, "--subject", theirs, "--steps", 1)
    assert done.code == 2 and "another tool's format: use it with --lora" in done.err and "damaged" not in done.err


def test_one_photo_works_and_warns(run: Run, folder: Path, model_folder: Path) -> None:
    done = run(
        "learn", folder / "scene.png", "--masks", folder / "mask.png", "-c", "duck",
        "-o", folder / "d.safetensors", "--preset", "smoke", "--model", model_folder,
    )  # fmt: skip
    assert done.code == 0 and "warning: there is only one photo" in done.err


def test_stopping_learning_early_saves(
    run: Run, folder: Path, model_folder: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    from intarsia.cli import common, learn

    def interrupt_at_step_two(advance: object) -> object:
        def report(progress: object) -> None:
            if getattr(progress, "phase", "") == "train" and getattr(progress, "step", 0) == 2:
                signal.raise_signal(signal.SIGINT)

        return report

    assert learn.learning_report is common.learning_report
    monkeypatch.setattr(learn, "learning_report", interrupt_at_step_two)
    file = folder / "duck.safetensors"
    done = run(
        "learn",
        photo_folder,
        "-c",
        "duck",
        "-o",
        file,
        "--preset",
        "smoke",
        "--steps",
        30,
        "--model",
        model_folder,
    )
    assert done.code == 0 and "stopped after" in done.err
    assert 2 <= Subject.load(file).steps_done < 30


def test_models_lists_the_catalog(run: Run) -> None:
    from intarsia.backbones import catalog

    listed = json.loads(run("models", "--json").out)["models"]
    assert [model["name"] for model in listed] == list(catalog)
    assert all(model["on_disk"] == (model["folder"] is not None) for model in listed)
    text = run("models").out
    assert all(name in text for name in catalog)


def test_demo_writes_the_sheet_and_the_single_pictures(run: Run, tmp_path: Path, model_folder: Path) -> None:
    from intarsia.cli.demo_world import ADDED, SHOWN, file_names

    out = tmp_path / "demo"
    done = run("demo", "--output", out, "--quick", "--model", model_folder)
    assert done.code == 0 and str(out / "sheet.png") in done.out.splitlines()[-1]
    assert "no weights for references" in done.err
    expected = sorted(set(file_names()) - {f"{name}.png" for name in (*SHOWN, *ADDED)})
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == expected
    sheet = Picture.load(out / "sheet.png")
    assert sheet.size[1] > 1000 and sheet.size[0] > 600
    pictures = [Picture.load(out / name).sha256 for name in expected if "/" not in name and name[0] in "aow"]
    assert len(set(pictures)) == 3
    assert run("demo", "--output", out, "--quick", "--model", model_folder).code == 2


def test_demo_shows_what_one_photo_and_an_instruction_give(
    run: Run, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.editing.conftest import save_random_reference
    from tests.editing.drawing_model import block, drawing_model

    from intarsia.backbones import load_backbone
    from intarsia.cli.demo_world import ADDED, SHOWN, demo_world, file_names
    from intarsia.editing import NothingAddedError, Studio, instruct_models

    words = demo_world(model_folder).instruction
    adder = drawing_model(**{words: block(0.4, 0.1, 0.3, 0.25, (0.8, 0.1, 0.1))})
    monkeypatch.setattr(instruct_models, "load_instruct_model", lambda *given, **named: adder)

    able = tmp_path / "model"
    shutil.copytree(model_folder, able)
    save_random_reference(able / "reference", load_backbone(able))
    out = tmp_path / "demo"
    done = run("demo", "--output", out, "--quick", "--model", able, "--add-model", model_folder)
    assert done.code == 0 and "left out" not in done.err
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == sorted(file_names())
    plain, worded, wider = (Picture.load(out / f"{name}.png") for name in SHOWN)
    assert plain.sha256 != worded.sha256 and plain.size == worded.size
    assert wider.size == (round(plain.size[0] / 0.75), round(plain.size[1] / 0.75))
    scene, added, swapped = (Picture.load(out / f"{name}.png") for name in ("scene", ADDED[0], ADDED[2]))
    change = Picture.load(out / f"{ADDED[1]}.png").pixels[..., 0] == 255
    assert 0 < change.mean() < 0.5 and np.array_equal(added.pixels[~change], scene.pixels[~change])
    assert len({scene.sha256, added.sha256, swapped.sha256}) == 3

    def nothing(*given: object, **options: object) -> None:
        raise NothingAddedError("it added nothing")

    monkeypatch.setattr(Studio, "add", nothing)
    again = run("demo", "--output", out, "--quick", "--model", able, "--add-model", model_folder, "--overwrite")
    assert again.code == 0 and "instruction is left out: it added nothing" in again.err


def test_the_sheet_holds_pictures_of_any_shape() -> None:
    from intarsia.cli.sheet import Sheet, draw_sheet

    wide, grey = noise_picture(60, 120), noise_picture(60, 120, channels=1, dtype=np.uint16)
    sheet = Sheet((wide, grey), wide, (100, 40, 20, 20), ((wide, "a word " * 30), (grey, "short")), "a thing")
    assert draw_sheet(sheet).size[1] == 1440


@pytest.mark.parametrize("command", ["", "learn", "insert", "add", "remove", "replay", "demo", "models"])
def test_help_is_there_with_examples(run: Run, command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.code == 0 and f"intarsia {command}".strip() in done.out
