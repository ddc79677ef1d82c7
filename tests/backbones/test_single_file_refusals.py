"""Files that are no whole checkpoint, or not one of the model that the settings describe: refused in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.backbones.ldm_checkpoints import Model, Tensors, save

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.single_file import load_single_file, single_file_kind


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("sdxl", tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("sd1", tmp_path_factory.mktemp("sd1"))


def without(*keys: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: value for name, value in tensors.items() if not name.startswith(keys)}


def extra(*keys: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {key: torch.zeros(2) for key in keys}


QKV = "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("model.diffusion_model.out.2.bias"), "lacks 1 of the tensors of the 'unet'.*out.2.bias"),
        (without(QKV), f"lacks 1 of the tensors of the 'text_encoder_2'.*{QKV}"),
        (without("first_stage_model.decoder.up"), "lacks .* of the tensors of the 'vae'.*decoder.up.0.block.0.*, …"),
        (extra("model.diffusion_model.out.3.bias"), r"no place for 1 of the tensors .*\(model.diff.*out.3.bias\)"),
        (extra(*(f"first_stage_model.x{n}" for n in range(6))), "no place for 6 .*x0, first.*x3, …"),
        (extra("embedding_manager.a", "posterior"), "no place for 2 .*embedding_manager.a, posterior"),
        (lambda t: t | {QKV: t[QKV][:-12]}, rf"{QKV} .*has the shape \(24, 12\), but .*needs \(36, 12\)"),
        (
            lambda t: t | {"first_stage_model.quant_conv.bias": torch.zeros(4)},
            r"quant_conv.bias .*\(4,\), but the 'vae' .*needs \(8,\)",
        ),
        (lambda t: t | {QKV: t[QKV].char()}, rf"{QKV} .*is quantised \(torch.int8\)"),
        (without("first_stage_model."), "holds no VAE"),
        (without("conditioner.embedders.0."), "holds no text encoder"),
        (without("conditioner.embedders.1."), "holds no second text encoder"),
        (without("conditioner.", "first_stage"), "holds no VAE and no text encoder"),
        (without("model.diffusion_model.", "conditioner."), "is a VAE"),
        (without("model.diffusion_model.", "first_stage_model."), "holds no U-Net"),
        (extra("edm_vpred.sigma_max"), "EDM"),
        (extra("conditioner.embedders.0.model.ln_final.bias"), "SDXL refiner"),
        (extra("cond_stage_model.model.ln_final.bias"), "Stable Diffusion 2"),
        (lambda t: {"lora_unet_mid_block.lora_down.weight": torch.zeros(2)}, "is a LoRA"),
        (lambda t: {"unet.mid_block.attn1.to_q.lora_A.weight": torch.zeros(2)}, "is a LoRA"),
        (lambda t: {"encoder.conv_in.weight": torch.zeros(2)}, "is a VAE"),
        (lambda t: {"model.diffusion_model.double_blocks.0.x": torch.zeros(2)}, "is a Flux model"),
        (lambda t: {"model.diffusion_model.joint_blocks.0.x": torch.zeros(2)}, "is a Stable Diffusion 3 model"),
        (lambda t: unet_like_diffusers(), "one part of a model in the diffusers layout"),
        (lambda t: {}, "holds no U-Net"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    sdxl: Model, tmp_path: Path, change: Callable[[Tensors], Tensors], words: str
) -> None:
    file = save(change(sdxl.tensors), tmp_path / "other.safetensors")
    with pytest.raises(BackboneError, match=words) as caught:
        load_single_file(file, sdxl.settings, torch.float32)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def unet_like_diffusers() -> Tensors:
    return {"conv_in.weight": torch.zeros(2), "down_blocks.0.resnets.0.conv1.weight": torch.zeros(2)}


def test_the_settings_of_another_model_are_refused(sdxl: Model, sd1: Model, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"text_encoder_2.config\.json is missing"):
        load_single_file(sdxl.file, sd1.settings, torch.float32)
    with pytest.raises(BackboneError, match=r"lacks .* of the tensors of the 'unet'"):
        load_single_file(sd1.file, sdxl.settings, torch.float32)
    broken = Path(shutil.copytree(sdxl.settings, tmp_path / "broken"))
    for part, content in (("vae", "[1]"), ("text_encoder", "{")):
        (broken / part / "config.json").write_text(content)
        with pytest.raises(BackboneError, match=f"no '{part}' can be built"):
            load_single_file(sdxl.file, broken, torch.float32)
        shutil.copy(sdxl.settings / part / "config.json", broken / part)


def test_unreadable_files_are_refused_in_one_line(sd1: Model, tmp_path: Path) -> None:
    whole = sd1.file.read_bytes()
    contents = {
        "cut": (whole[:-3], "cannot be read as a safetensors file"),
        "header": (whole[:40], "cannot be read as a safetensors file"),
        "like a pickle": (b"\x80\x02" + bytes(6) + b"{", "cannot be read as a safetensors file"),
        "empty": (b"", "cannot be read as a safetensors file"),
        "page": (b"<!doctype html><p>sign in to download", "cannot be read as a safetensors file"),
    }
    for name, (content, words) in contents.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        with pytest.raises(BackboneError, match=words) as caught:
            single_file_kind(tmp_path / f"{name}.safetensors")
        assert "\n" not in str(caught.value)
    for zipped in (True, False):
        path = tmp_path / "pickle.safetensors"
        torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(BackboneError, match="is a pickle"):
            single_file_kind(path)
    with pytest.raises(BackboneError, match="is no file"):
        load_single_file(tmp_path / "none.safetensors", sd1.settings, torch.float32)
