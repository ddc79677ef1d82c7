from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapters.loras import modules_of, random_lora, same_layers
from tests.cli.conftest import Run
from tests.conftest_tiny import tiny_backbone
from tests.editing.conftest import subject

from intarsia.adapters import LoraModules, load_lora, read_lora, save_lora, write_lora
from intarsia.backbones import MissingWeightsError
from intarsia.learning import Subject
from intarsia.result import read_recipe

__all__ = ["subject"]


@pytest.fixture(scope="module")
def modules() -> LoraModules:
    return modules_of(tiny_backbone())


@pytest.fixture
def kohya(tmp_path: Path, modules: LoraModules) -> Path:
    path = tmp_path / "kohya.safetensors"
    save_lora(path, *write_lora(random_lora(modules, every=4), "kohya", modules))
    return path


def test_there_and_back_through_every_format(
    run: Run, kohya: Path, model_folder: Path, modules: LoraModules, tmp_path: Path
) -> None:
    before, given = read_lora(kohya, modules), kohya
    for form in ("comfyui", "diffusers", "kohya"):
        made = tmp_path / "new" / f"{form}.safetensors"
        done = run("convert", given, "-o", made, "--to", form, "--model", model_folder, "--json")
        assert done.code == 0, done.err
        outcome = json.loads(done.out)
        assert outcome["to"] == form and outcome["modules"]["unet"] == 22 and outcome["ranks"] == [1, 2, 3]
        assert same_layers(read_lora(made, modules), before)
        given = made
    assert load_lora(given)[0].keys() == load_lora(kohya)[0].keys()


def test_a_subject_becomes_a_kohya_file_and_comes_back_whole(
    run: Run, subject: Subject, model_folder: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("duck", "kohya", "back")]
    subject.save(paths[0])
    for given, made, form in ((paths[0], paths[1], "kohya"), (paths[1], paths[2], "diffusers")):
        done = run("convert", given, "-o", made, "--to", form, "--model", model_folder)
        assert done.code == 0 and str(made) in done.out and done.out.count("\n") == 1
    state, metadata = load_lora(paths[1])
    assert metadata["modelspec.trigger_phrase"] == "sks duck" and metadata["ss_sd_model_hash"] == subject.base_hash
    assert float(next(value for key, value in state.items() if key.endswith(".alpha"))) == subject.alpha
    back = Subject.load(paths[2])
    assert (back.alpha, back.rank, back.token, back.base_hash) == (
        subject.alpha, subject.rank, subject.token, subject.base_hash,
    )  # fmt: skip
    assert back.lora.keys() == subject.lora.keys()
    assert all(torch.equal(back.lora[key], subject.lora[key]) for key in subject.lora)


def test_the_bundled_models_subjects_need_no_model_named(run: Run, tmp_path: Path) -> None:
    from intarsia.adapters import SubjectLora
    from intarsia.backbones import find_model

    shapes = LoraModules.of_folder(find_model("miniature")[1]).shapes["unet"]
    state = {}
    for name, shape in shapes.items():
        if name.endswith(".to_k"):
            state[f"unet.{name}.lora_A.weight"] = torch.ones(4, shape[1])
            state[f"unet.{name}.lora_B.weight"] = torch.ones(shape[0], 4)
    said = {**SubjectLora(4).metadata(), "base": json.dumps({"name": "miniature", "hash": "ab", "licence": None})}
    save_lora(tmp_path / "s.safetensors", state, said)
    done = run("convert", tmp_path / "s.safetensors", "-o", tmp_path / "k.safetensors", "--to", "kohya", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["model"] == "miniature"


@pytest.mark.parametrize("name", ["sdxl", "sdxl-fooocus", "sdxl-parts"])
def test_without_a_models_weights_its_settings_are_enough(
    run: Run, kohya: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def nothing(*_: Any, **__: Any) -> Any:
        raise MissingWeightsError("the weights are not on this machine: fetch them")

    asked: list[str] = []
    monkeypatch.setattr("intarsia.backbones.locate_model", nothing)
    monkeypatch.setattr("intarsia.backbones.locate_part", lambda part: asked.append(part) or model_folder)
    done = run("convert", kohya, "-o", tmp_path / "c.safetensors", "--to", "comfyui", "--model", name)
    assert done.code == 0 and asked == ["sdxl-parts"], done.err
    refused = run("convert", kohya, "-o", tmp_path / "d.safetensors", "--to", "comfyui", "--model", "miniature")
    assert refused.code == 2 and "fetch them" in refused.err


def test_faults_are_one_line_and_write_nothing(
    run: Run, kohya: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    whole = kohya.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-9])
    (tmp_path / "old.pt").write_bytes(b"PK\x03\x04")
    save_lora(tmp_path / "more.safetensors", {**load_lora(kohya)[0], "lora_unet_zzz.alpha": torch.ones(())}, {})
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    model: list[Any] = ["--model", model_folder]
    cases: list[tuple[list[Any], str]] = [
        ([kohya, "-o", out, "--to", "kohya"], "--model"),
        ([kohya, "-o", out, "--to", "peft", *model], "diffusers, kohya, comfyui"),
        ([kohya, "-o", out, "--to", "kohya", "--model", "imaginary"], "imaginary"),
        ([kohya, "-o", tmp_path / "out.ckpt", "--to", "kohya", *model], "suffix"),
        ([kohya, "-o", tmp_path / "there.safetensors", "--to", "kohya", *model], "exists"),
        ([tmp_path / "none.safetensors", "-o", out, "--to", "kohya", *model], "none.safetensors"),
        ([tmp_path / "cut.safetensors", "-o", out, "--to", "kohya", *model], "corrupt"),
        ([tmp_path / "old.pt", "-o", out, "--to", "kohya", *model], "pickle"),
        ([tmp_path / "more.safetensors", "-o", out, "--to", "diffusers", *model], "lora_unet_zzz.alpha"),
    ]
    before = sorted(tmp_path.iterdir())
    for arguments, fault in cases:
        done = run("convert", *arguments)
        assert done.code == 2 and fault in done.err and done.err.count("\n") == 1, (arguments, done)
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "there.safetensors").read_bytes() == b"mine"
    again = run("convert", kohya, "-o", tmp_path / "there.safetensors", "--to", "kohya", *model, "--overwrite")
    assert again.code == 0 and (tmp_path / "there.safetensors").read_bytes() != b"mine"


def test_insert_takes_several_with_strengths(
    run: Run, folder: Path, model_folder: Path, kohya: Path
) -> None:
    odd = kohya.with_name("odd:2")
    odd.write_bytes(kohya.read_bytes())
    out = folder / "out.png"
    common: list[Any] = ["insert", folder / "scene.png", "--box", "30,20,24,24", "-p", "a mug", "--model", model_folder,
                         "--steps", 1, "-o", out]  # fmt: skip
    done = run(*common, "--lora", f"{kohya}:-0.5", "--lora", kohya, "--lora", odd)
    assert done.code == 0, done.err
    request = read_recipe(out).request
    assert request.lora == (str(kohya), str(kohya), str(odd)) and request.lora_strength == (-0.5, 1.0, 1.0)
    assert run("replay", out).code == 0
    out.unlink()
    for given, fault in (
        (f"{kohya}:strong", "'strong'"), (f"{kohya}:9", "lora_strength"), (f"{kohya}:nan", "lora_strength"),
        (f"{kohya.parent}/none:0.5", "does not exist"), ("", "does not exist"),
    ):  # fmt: skip
        failed = run(*common, "--lora", given)
        assert failed.code == 2 and fault in failed.err and failed.err.count("\n") == 1, failed.err
    assert not out.exists()
