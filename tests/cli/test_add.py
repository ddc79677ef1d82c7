"""`intarsia add`: its outputs, its options in the request, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Run
from tests.cli.test_bad_input import refused
from tests.editing.drawing_model import block, drawing_model

from intarsia.imaging import Picture
from intarsia.result import read_recipe


@pytest.fixture
def room(folder: Path) -> Path:
    """A plain wall instead of noise."""
    Picture.from_array(np.full((72, 96, 3), 160, np.uint8)).save(folder / "scene.png", overwrite=True)
    return folder


@pytest.fixture
def add_model(room: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that loads as a model which draws."""
    from intarsia.editing import instruct_models

    drawn = block(0.4, 0.1, 0.3, 0.25, (0.8, 0.1, 0.1)), block(0.4, 0.6, 0.3, 0.25, (0.1, 0.2, 0.8))
    words = ("add a red mug", "add a blue duck", "add a red mug at the left")
    model = drawing_model(**dict(zip(words, (*drawn, drawn[0]), strict=True)))
    monkeypatch.setattr(instruct_models, "load_instruct_model", lambda *given, **named: model)
    (room / "drawing").mkdir()
    return room / "drawing"


def test_add_writes_picture_and_mask_and_replays(run: Run, room: Path, add_model: Path, model_folder: Path) -> None:
    out, mask = room / "new" / "out.png", room / "masks" / "mask.png"
    done = run(
        "add", room / "scene.png", "a red mug", "add a blue duck", "-o", out, "--mask-output", mask,
        "--steps", 2, "--guidance", 1, "--image-guidance", 1, "--repaint-guidance", 2, "--scheduler", "ddim",
        "--change-threshold", 0.1, "--chain", "plain", "--feather", 2, "--seed", 4, "--window-share", 0,
        "--model", model_folder, "--add-model", add_model, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    request = read_recipe(out).request
    assert request.instruction == ("a red mug", "add a blue duck")
    assert (request.guidance_scale, request.image_guidance_scale, request.repaint_guidance_scale) == (1, 1, 2)
    assert (request.change_threshold, request.chain, request.feather, request.seed) == (0.1, "plain", 2, 4)
    assert request.local_share is None and request.add_model == str(add_model)
    outcome = json.loads(done.out)
    before, after = Picture.load(room / "scene.png").pixels, Picture.load(out).pixels
    changed = Picture.load(mask).pixels[..., 0]
    assert set(np.unique(changed)) == {0, 255} and (changed == 255).sum() == outcome["changed_pixels"]
    assert np.array_equal(before[changed == 0], after[changed == 0])
    assert outcome["mask_output"] == str(mask)
    assert run("replay", out).code == 0


def test_direct_and_the_change_mask_as_a_place_to_insert(
    run: Run, room: Path, add_model: Path, model_folder: Path
) -> None:
    quick = ("--steps", 1, "--scheduler", "ddim", "--model", model_folder)
    done = run(
        "add", room / "scene.png", "add a red mug at the left", "--finish", "direct", *quick, "--guidance", 1,
        "--image-guidance", 1, "-o", room / "out.png", "--mask-output", room / "place.png", "--add-model", add_model,
    )  # fmt: skip
    assert done.code == 0 and done.out.count("\n") == 1 and "out.png and" in done.out, done.err
    inserted = run(
        "insert", room / "scene.png", "--mask", room / "place.png", "-p", "a duck", "-o", room / "duck.png", *quick
    )
    assert inserted.code == 0, inserted.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("",), "instruction is empty"),
        (("add it",), "names nothing"),
        (("add a mug", "remove the duck"), "asks to remove"),
        (("a mug", "--place", "90,60,20,20"), "not inside"),
        (("a mug", "--place", "left"), "x,y,w,h"),
        (("a mug", "--finish", "sketch"), "finish 'sketch'"),
        (("a mug", "--change-threshold", "2"), "change_threshold 2"),
        (("a mug", "--add-model", "imaginary"), "unknown model 'imaginary'"),
        (("a mug", "--mask-output", "{out}"), "is the output picture as well"),
        (("a mug", "--mask-output", "{folder}/mask.jpg"), "suffix must be one of"),
        (("a mug", "--mask-output", "{folder}/mask.png"), "exists already"),
        (("a mug", "--scheduler", "heun9"), "unknown scheduler"),
    ],
)
def test_bad_additions_are_one_line(
    run: Run, folder: Path, model_folder: Path, options: tuple[str, ...], words: str
) -> None:
    out = folder / "new" / "out.png"
    given = [option.format(out=out, folder=folder) for option in options]
    refused(run, folder, words, "add", folder / "scene.png", *given, "-o", out, "--model", model_folder)


def test_nothing_added_leaves_nothing_behind(run: Run, room: Path, add_model: Path, model_folder: Path) -> None:
    refused(
        run, room, "added nothing", "add", room / "scene.png", "a green tree", "-o", room / "new" / "out.png",
        "--mask-output", room / "masks" / "m.png", "--steps", 1, "--scheduler", "ddim", "--guidance", 1,
        "--image-guidance", 1, "--model", model_folder, "--add-model", add_model,
    )  # fmt: skip
