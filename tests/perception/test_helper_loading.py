"""What is refused when a helper model is loaded, and how it is said: no made-up weights, code, pickles or downloads."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.perception.test_model_helpers import tiny_clip, tiny_sam2
from tests.perception.test_requests import byte_tokenizer

from intarsia.backbones import MissingWeightsError
from intarsia.perception import ClipNamer, ClipScorer, HelperError, Sam2Segmenter, VisionAdvisor
from intarsia.perception.errors import NamerError
from intarsia.perception.loading import load_parts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in tiny_clip():
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def refused(model: str | Path, complaint: str) -> str:
    with pytest.raises(HelperError, match=complaint) as caught:
        ClipScorer.load(str(model), "cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(folder: Path, **tensors: torch.Tensor | None) -> None:
    weights = {**load_file(folder / "model.safetensors"), **tensors}
    kept = {name: tensor for name, tensor in weights.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_are_missing_are_not_made_up(folder: Path) -> None:
    changed(folder, **{"visual_projection.weight": None})
    assert "missing visual_projection.weight" in refused(folder, r"weights of the clip .* do not fit")


def test_weights_of_another_shape_or_file_are_refused(folder: Path) -> None:
    changed(folder, **{"visual_projection.weight": torch.zeros(3, 3)})
    refused(folder, "visual_projection|cannot be loaded")
    (folder / "model.safetensors").write_bytes(b"cut short")
    refused(folder, "cannot be loaded")


def test_pickles_are_not_opened(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(folder, r"cannot be loaded .*\.safetensors")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_folders_own_code_is_neither_run_nor_asked_about(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    auto = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoImageProcessor": "own.Own"}
    content = {"model_type": "own"} if name == "config.json" else {"image_processor_type": "Own"}
    (folder / name).write_text(json.dumps({**content, "auto_map": auto}))
    refused(folder, "code of its own, which is not run")
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_another_kind_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "preprocessor_config.json").write_text("[]")
    refused(folder, "cannot be loaded .*give a folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"no config\.json is in it")
    refused("duck", "there is no such folder")
    monkeypatch.chdir(tmp_path)
    refused("model/model.safetensors", "there is no such folder")


def test_memory_that_is_short_is_no_fault_of_the_folder(folder: Path) -> None:
    class Model:
        @classmethod
        def from_pretrained(cls, where: str, **options: Any) -> Any:
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        load_parts("clip", str(folder), "cpu", Model)


def test_a_fetched_repository_is_found_and_one_that_is_not_here_is_told_how_to_fetch(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("INTARSIA_MODELS", raising=False)
    said = refused("owner/name@v1", "`intarsia models fetch owner/name@v1`")
    assert "connect" not in said and "huggingface.co" not in said
    storage, commit = tmp_path / "hub" / "models--owner--name", "0123456789abcdef0123"
    (storage / "snapshots").mkdir(parents=True)
    folder.rename(storage / "snapshots" / commit)
    (storage / "refs").mkdir()
    (storage / "refs" / "v1").write_text(commit)
    assert ClipScorer.load("owner/name@v1", "cpu").name == f"clip:owner/name@{commit[:12]}"
    refused("owner/name", "`intarsia models fetch owner/name`")


def test_names_of_the_catalog_come_before_folders(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("INTARSIA_MODELS", raising=False)
    folder.rename(tmp_path / "clip")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingWeightsError, match="intarsia models fetch clip"):
        ClipScorer.load("clip", "cpu")
    assert ClipScorer.load("./clip", "cpu").name == "clip:clip"
    assert ClipNamer.of("./clip") is not None


def test_loading_is_silent_and_leaves_transformers_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    tiny_sam2().model.save_pretrained(tmp_path / "sam")
    config = json.loads((tmp_path / "sam" / "config.json").read_text())
    (tmp_path / "sam" / "config.json").write_text(json.dumps({**config, "model_type": "sam2_video"}))
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_info()
        logging.enable_progress_bar()
        capfd.readouterr()
        Sam2Segmenter.load(str(tmp_path / "sam"), "cpu")
        assert capfd.readouterr() == ("", "")
        assert logging.get_verbosity() == logging.INFO and logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(before)
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed here")
def test_a_package_that_a_processor_needs_is_named_before_the_weights_are_read(tmp_path: Path) -> None:
    from transformers import Qwen2VLConfig, Qwen2VLImageProcessorPil

    for part in (byte_tokenizer(), Qwen2VLConfig(), Qwen2VLImageProcessorPil()):
        part.save_pretrained(tmp_path)
    settings = tmp_path / "preprocessor_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "processor_class": "Qwen2VLProcessor"}))
    with pytest.raises(NamerError, match=r"needs the package torchvision.*`pip install torchvision`") as caught:
        VisionAdvisor.of(str(tmp_path), "cpu").conflicts({"colour": ["red"]}, "duck", "a blue duck")
    assert "\n" not in str(caught.value)
