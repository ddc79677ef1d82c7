"""`insert --reference` and `outpaint`, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Run
from tests.cli.test_bad_input import refused
from tests.editing.conftest import noise_picture, save_random_reference, thing

from intarsia.imaging import Picture
from intarsia.result import read_recipe

BOX = ("--box", "30,20,24,24", "--steps", 1)


@pytest.fixture(scope="module")
def able_model(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with weights for references in it."""
    from intarsia.backbones import load_backbone

    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(model_folder, folder)
    save_random_reference(folder / "reference", load_backbone(folder))
    return folder


@pytest.fixture
def photo(folder: Path) -> Path:
    thing().save(folder / "mug.png")
    return folder / "mug.png"


def test_insert_from_a_photo_and_replay(run: Run, folder: Path, able_model: Path, photo: Path) -> None:
    out = folder / "out.png"
    done = run(
        "insert", folder / "scene.png", *BOX, "--reference", photo, "-p", "a red mug", "-o", out,
        "--reference-mask", "8,8,20,20", "--reference-strength", 0.6, "--detail", 0.5, "--detail-mode", "clean",
        "--detail-guided",
        "--guidance-mode", "apart", "--reference-guidance", 3, "--rescale", 0.2, "--mask-shape", "box",
        "--reference-blocks", "1,1,0.5", "--reference-interval", "0,0.9", "--reference-schedule", "1,0.2",
        "--model", able_model, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    request = read_recipe(out).request
    assert request.reference == (str(photo),) and request.reference_mask == ("8,8,20,20",)
    assert (request.reference_strength, request.detail_strength, request.detail_mode) == (0.6, 0.5, "clean")
    assert request.detail_guided
    assert (request.reference_blocks, request.reference_interval) == ((1, 1, 0.5), (0, 0.9))
    assert request.reference_schedule == (1, 0.2)
    assert (request.guidance_mode, request.reference_guidance_scale) == ("apart", 3)
    assert (request.guidance_rescale, request.mask_shape) == (0.2, "box")
    assert json.loads(done.out)["recipe"]["request"]["reference_hash"]
    again = run("replay", out, "--model", able_model)
    assert again.code == 0, again.out + again.err


def test_two_photos_and_weights_from_elsewhere(
    run: Run, folder: Path, model_folder: Path, able_model: Path, photo: Path
) -> None:
    thing(seed=8).save(folder / "other.png")
    done = run(
        "insert", folder / "scene.png", *BOX, "-r", photo, "-r", folder / "other.png", "-o", folder / "out.png",
        "--model", model_folder, "--reference-model", able_model / "reference",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(read_recipe(folder / "out.png").request.reference_sha256) == 2


def test_bad_references_are_one_line(run: Run, folder: Path, able_model: Path, model_folder: Path, photo: Path) -> None:
    def insert(*changes: object, model: Path = able_model) -> list[object]:
        return ["insert", folder / "scene.png", *BOX, "-o", folder / "new" / "out.png", "--model", model, *changes]

    (folder / "text.jpg").write_text("no picture")
    Picture.from_array(np.zeros((40, 40), np.uint8)).save(folder / "black.png")
    refused(run, folder, "has no weights for references", *insert("-r", photo, model=model_folder))
    refused(run, folder, "none does not exist", *insert("-r", photo, "--reference-model", folder / "none"))
    refused(run, folder, "none.jpg", *insert("-r", folder / "none.jpg"))
    refused(run, folder, "text.jpg", *insert("-r", folder / "text.jpg"))
    refused(run, folder, "is the scene itself", *insert("-r", folder / "scene.png"))
    refused(run, folder, "is empty", *insert("-r", photo, "--reference-mask", folder / "black.png"))
    refused(run, folder, "reference_strength 2.1", *insert("-r", photo, "--reference-strength", "2.1"))
    refused(run, folder, "reference_blocks '1,x,1'", *insert("-r", photo, "--reference-blocks", "1,x,1"))
    refused(run, folder, "reference_blocks 3.0", *insert("-r", photo, "--reference-blocks", "1,3,1"))
    refused(run, folder, "reference_interval", *insert("-r", photo, "--reference-interval", "0.5"))
    refused(run, folder, "reference_schedule 2.0", *insert("-r", photo, "--reference-schedule", "1,2"))
    refused(run, folder, "the model takes 2", *insert("-r", photo, "-r", photo, "-r", photo))
    refused(run, folder, "at most one mask", *insert("-r", photo, "--reference-mask", "1,1,2,2",
                                                     "--reference-mask", "1,1,2,2"))  # fmt: skip


def test_a_learned_subject_and_a_photo_and_replay(
    run: Run, folder: Path, able_model: Path, photo: Path, photo_folder: Path
) -> None:
    subject, out = folder / "duck.safetensors", folder / "out.png"
    learned = run("learn", photo_folder, "-c", "duck", "-o", subject, "--preset", "smoke", "--model", able_model)
    assert learned.code == 0, learned.err
    start = ["insert", folder / "scene.png", *BOX, "--model", able_model, "--subject", subject]
    assert run(*start, "--reference", photo, "-o", out).code == 0
    request = read_recipe(out).request
    assert request.subject_sha256 and request.reference_sha256 and request.reference_hash
    assert run("replay", out, "--model", able_model).code == 0
    assert run(*start, "-o", folder / "alone.png").code == 0
    assert Picture.load(folder / "alone.png").sha256 != Picture.load(out).sha256


def test_outpaint_then_replay_gives_the_same_bytes(run: Run, folder: Path, model_folder: Path) -> None:
    out, again = folder / "new" / "out.png", folder / "again.png"
    done = run(
        "outpaint", folder / "scene.png", "--ratio", 0.8, "--anchor", "left", "--rim", 2, "-p", "a table", "-o", out,
        "--model", model_folder, "--steps", 1, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    request = read_recipe(out).request
    assert (request.ratio, request.anchor, request.rim, request.prompt) == (0.8, "left", 2, "a table")
    picture, scene = Picture.load(out), Picture.load(folder / "scene.png")
    assert picture.size == (90, 120)
    assert np.array_equal(picture.pixels[11:79, :94], scene.pixels[2:-2, :-2])
    assert json.loads(done.out)["changed_pixels"] == 90 * 120 - 68 * 94
    assert run("replay", out, "-o", again).code == 0 and again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing to grow"),
        (("--ratio", "1"), "nothing to grow"),
        (("--left", "5", "--ratio", "0.8"), "both given"),
        (("--left=-5",), "left -5"),
        (("--left", "900"), "times the area"),
        (("--left", "9", "--rim", "96"), "rim 96 leaves nothing"),
        (("--ratio", "0.8", "--anchor", "middle"), "anchor 'middle'"),
    ],
)
def test_bad_outpaintings_are_one_line(run: Run, folder: Path, options: tuple[str, ...], words: str) -> None:
    refused(run, folder, words, "outpaint", folder / "scene.png", "-o", folder / "new" / "out.png", *options)


def test_scenes_that_are_no_pictures_are_refused(run: Run, folder: Path) -> None:
    noise_picture(7, 40).save(folder / "small.png")
    refused(run, folder, "40x7 px", "outpaint", folder / "small.png", "-o", folder / "out.png", "--left", 9)
