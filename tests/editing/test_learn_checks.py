"""What is chosen and checked before a model is loaded to learn with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.editing.conftest import model_folder
from typer.testing import CliRunner

from intarsia.cli import app
from intarsia.cli import learn as command
from intarsia.editing import EditingError, learning_dtype, preflight_learning
from intarsia.editing.devices import choose_dtype
from intarsia.learning import LearnConfig
from intarsia.perception import NamerError

__all__ = ["model_folder"]


def large() -> int:
    return 2 * 10**9


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_what_is_learned_with_is_never_float16(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    for able, wanted in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able, **options: able)
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor, able=able: able)
        monkeypatch.setattr("intarsia.editing.devices.choose_device", lambda name: device)
        assert learning_dtype("auto", "auto", large) == wanted
        assert learning_dtype("auto", device, lambda: 10**8) == "float32"
    assert choose_dtype("auto", "mps", large) is torch.float16, "painting does with less"
    assert learning_dtype("auto", "cpu", large) == "float32" and learning_dtype("bfloat16", device) == "bfloat16"
    with pytest.raises(EditingError, match="use auto, bfloat16 or float32"):
        learning_dtype("float16", device)


def test_the_command_loads_in_that_format(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photo_folder: Path, model_folder: Path
) -> None:
    asked: list[str] = []

    def open_studio(model: str, device: str, dtype: str, memory: str) -> None:
        asked.append(dtype)
        raise EditingError("far enough")

    monkeypatch.setattr(command, "open_studio", open_studio)
    chosen = "intarsia.editing.learning_dtype"
    monkeypatch.setattr(chosen, lambda dtype, device, parameters: f"{dtype}, {parameters() > 0}")
    arguments = ["learn", photo_folder, "-c", "duck", "-o", tmp_path / "d.safetensors", "--model", model_folder]
    assert "far enough" in CliRunner().invoke(app, [str(text) for text in arguments]).stderr
    assert asked == ["auto, True"]


@pytest.mark.parametrize(
    ("part", "kind"), [("image_encoder", "StableDiffusionPipeline"), ("text_encoder_2", "StableDiffusionXLPipeline")]
)
def test_the_default_namer_needs_an_image_encoder_that_is_loaded(tmp_path: Path, part: str, kind: str) -> None:
    (tmp_path / part).mkdir()
    (tmp_path / "model_index.json").write_text(f'{{"_class_name": "{kind}"}}')
    config = LearnConfig.preset("smoke")
    with pytest.raises(NamerError, match=r"has no image encoder .*--namer clip:clip"):
        preflight_learning(tmp_path, "duck", config, "vocabulary")
    (tmp_path / "words.yaml").write_text("colour: [red]")
    preflight_learning(tmp_path, "duck", config, f"yaml:{tmp_path / 'words.yaml'}")
    preflight_learning("miniature", "duck", config, "vocabulary")
