"""Bad input: one line on stderr, exit code 2, nothing written."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Run
from tests.conftest_tiny import save_tiny, tiny_backbone
from tests.editing.conftest import noise_picture

from intarsia.editing import Studio
from intarsia.imaging import Picture


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(run: Run, folder: Path, words: str, *arguments: object) -> None:
    before = files(folder)
    done = run(*arguments)
    assert done.code == 2, (done.out, done.err)
    errors = [line for line in done.err.splitlines() if not line.startswith("warning: ")]
    assert len(errors) == 1 and errors[0].startswith("error: ") and words in errors[0], done.err
    assert done.out == "" and files(folder) == before


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def insert(folder: Path, *changes: object, scene: str = "scene.png") -> list[object]:
    return ["insert", folder / scene, "-p", "a mug", "-o", folder / "new" / "out.png", *changes]


BOX = ("--box", "30,20,24,24")


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((72, 96), np.uint8), "the mask is empty"),
        (np.full((72, 96), 255, np.uint8), "the mask is all white"),
        (np.full((96, 72), 255, np.uint8), "72x96 px"),
    ],
)
def test_masks(run: Run, folder: Path, mask: Any, words: str) -> None:
    Picture.from_array(mask).save(folder / "bad.png")
    refused(run, folder, words, *insert(folder, "--mask", folder / "bad.png"))


@pytest.mark.parametrize("box", ["90,60,20,20", "-1,0,9,9", "1,2,3", "0,0,0,4", "middle"])
def test_boxes(run: Run, folder: Path, box: str) -> None:
    refused(run, folder, "the box", *insert(folder, f"--box={box}"))


def test_mask_and_box_must_be_said_once(run: Run, folder: Path) -> None:
    refused(run, folder, "mask is missing", *insert(folder))
    refused(run, folder, "both given", *insert(folder, *BOX, "--mask", folder / "mask.png"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"this is text, not a picture", "not an image"),
        (png_header(0, 5), "no pixels"),
        (png_header(20000, 20000), "megapixels"),
        (png_header(96, 72), "damaged"),
    ],
)
def test_scene_files(run: Run, folder: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (folder / "bad.png").write_bytes(content)
    refused(run, folder, words, *insert(folder, *BOX, scene="bad.png"))


def test_truncated_scene(run: Run, folder: Path) -> None:
    whole = (folder / "scene.png").read_bytes()
    (folder / "bad.png").write_bytes(whole[: len(whole) // 2])
    refused(run, folder, "damaged", *insert(folder, *BOX, scene="bad.png"))


@pytest.mark.parametrize("size", [(1, 1), (20, 20000)])
def test_scene_sizes(run: Run, folder: Path, size: tuple[int, int]) -> None:
    noise_picture(*size).save(folder / "bad.png")
    refused(run, folder, f"{size[1]}x{size[0]} px", *insert(folder, "--box", "0,0,1,1", scene="bad.png"))


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--lambda", "1.5", "lam 1.5"),
        ("--steps", "0", "steps 0"),
        ("--preset", "best", "preset 'best'"),
        ("--mask-from", "red", "mask_from 'red'"),
        ("--seam", "2", "seam_strength 2"),
        ("--scheduler", "none", "unknown scheduler 'none'"),
        ("--model", "imaginary", "miniature, miniature-add, pipe-add, sd15, sd15-inpaint, sdxl"),
        ("--subject", "none.safetensors", "none.safetensors does not exist"),
    ],
)
def test_options(run: Run, folder: Path, option: str, value: str, words: str) -> None:
    refused(run, folder, words, *insert(folder, *BOX, option, value))


@pytest.mark.parametrize("option", [("--device", "abacus"), ("--dtype", "float7")])
def test_devices(run: Run, folder: Path, model_folder: Path, option: tuple[str, str]) -> None:
    refused(run, folder, option[1], *insert(folder, *BOX, "--model", model_folder, *option))


def test_empty_prompt(run: Run, folder: Path) -> None:
    arguments = ["insert", folder / "scene.png", *BOX, "-o", folder / "out.png"]
    refused(run, folder, "prompt is empty", *arguments)


def test_existing_output_is_kept(run: Run, folder: Path, model_folder: Path) -> None:
    (folder / "out.png").write_bytes(b"precious")
    arguments = ["insert", folder / "scene.png", *BOX, "-p", "a mug", "-o", folder / "out.png"]
    refused(run, folder, "exists already", *arguments)
    assert (folder / "out.png").read_bytes() == b"precious"
    assert run(*arguments, "--model", model_folder, "--steps", 1, "--overwrite").code == 0
    assert Picture.load(folder / "out.png").size == (72, 96)


def test_output_of_unknown_kind(run: Run, folder: Path) -> None:
    arguments = ["insert", folder / "scene.png", *BOX, "-p", "a mug", "-o", folder / "out.psd"]
    refused(run, folder, "suffix", *arguments)


def test_photos(run: Run, folder: Path) -> None:
    (folder / "empty").mkdir()
    output = folder / "duck.safetensors"
    for place in ("empty", "absent"):
        refused(run, folder, place, "learn", folder / place, "-c", "duck", "-o", output, "--model", folder)
    broken = folder / "empty" / "a.png"
    broken.write_bytes(b"nothing")
    refused(run, folder, "a.png", "learn", folder / "empty", "-c", "duck", "-o", output, "--model", folder)


def test_learning_options(run: Run, folder: Path, model_folder: Path, photo_folder: Path) -> None:
    start = ["learn", photo_folder, "-c", "duck", "--model", model_folder]
    output = ["-o", folder / "duck.safetensors"]
    refused(run, folder, "best", *start, *output, "--preset", "best")
    refused(run, folder, "suffix", *start, "-o", folder / "duck.png")
    refused(run, folder, "guess", *start, *output, "--preset", "smoke", "--namer", "guess")
    refused(run, folder, "scissors", *start, *output, "--cutout", "scissors")
    refused(run, folder, "none.yaml", *start, *output, "--boxes", folder / "none.yaml")
    refused(run, folder, "someone", *start, *output, "--regular-prompts", "someone")
    refused(run, folder, "vlm:MODEL", *start, *output, "--preset", "smoke", "--regular-prompts", "advisor")
    refused(run, folder, "class noun", *start[:2], "-c", " ", *start[4:], *output, "--preset", "smoke")


def test_learning_faults_are_found_before_the_model_is_loaded(
    run: Run, folder: Path, model_folder: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Studio, "load", load)
    blind = folder / "blind"
    shutil.copytree(model_folder, blind, ignore=shutil.ignore_patterns("image_encoder"))
    start = ["learn", photo_folder, "-o", folder / "duck.safetensors", "--model", model_folder, "-c"]
    refused(run, folder, "class noun", *start, " ")
    refused(run, folder, "vlm:MODEL", *start, "duck", "--regular-prompts", "advisor")
    refused(run, folder, "'nothing' cannot be loaded", *start, "duck", "--namer", "clip:nothing")
    refused(run, folder, "'nothing' cannot be loaded", *start, "duck", "--namer", "vlm:nothing")
    refused(run, folder, "intarsia models fetch someone/clip", *start, "duck", "--namer", "clip:someone/clip")
    refused(run, folder, "/nofile cannot be read", *start, "duck", "--namer", "yaml:/nofile")
    refused(run, folder, "ftp://x", *start, "duck", "--namer", "openai:ftp://x#m")
    refused(run, folder, "float16 loses", *start, "duck", "--dtype", "float16")
    refused(run, folder, "float7", *start, "duck", "--dtype", "float7")
    refused(run, folder, "--namer clip:clip", *start[:-2], blind, "-c", "duck")


def test_a_subject_of_another_base(run: Run, folder: Path, photo_folder: Path, model_folder: Path) -> None:
    file = folder / "duck.safetensors"
    save_tiny(tiny_backbone(seed=1), folder / "other")
    learned = run("learn", photo_folder, "-c", "duck", "-o", file, "--preset", "smoke", "--model", folder / "other")
    assert learned.code == 0
    refused(run, folder, "learned on 'other'", *insert(folder, *BOX, "--subject", file, "--model", model_folder))


def test_nan_from_the_model(run: Run, folder: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import UNet2DConditionModel

    def forward(self: Any, sample: Any, *_: Any, **__: Any) -> tuple[Any]:
        return (sample[:, :4] * float("nan"),)

    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    refused(run, folder, "not finite", *insert(folder, *BOX, "--model", model_folder))


def test_full_disk(
    run: Run, folder: Path, model_folder: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused(run, folder, "no space left", *insert(folder, *BOX, "--model", model_folder, "--steps", 1))
    output = folder / "new" / "duck.safetensors"
    arguments = [
        "learn",
        photo_folder,
        "-c",
        "duck",
        "-o",
        output,
        "--preset",
        "smoke",
        "--model",
        model_folder,
    ]
    refused(run, folder, "no space left", *arguments)


def test_replay_of_what_intarsia_did_not_write(run: Run, folder: Path) -> None:
    refused(run, folder, "holds no recipe", "replay", folder / "scene.png")
    refused(run, folder, "does not exist", "replay", folder / "none.png")
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    refused(run, folder, "not a PNG", "replay", folder / "a.jpg")
