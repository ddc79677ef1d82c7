"""Checkpoints in one file of the original layout load equal to the bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backbones.ldm_checkpoints import (
    Model,
    open_clip_tensors,
    original_layout,
    save,
    tiny_parts,
    unet_tensors,
    vae_tensors,
)

from intarsia.backbones.ldm_parts import sources_of
from intarsia.backbones.single_file import (
    load_single_file,
    single_file_kind,
    single_file_schedule,
)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("sdxl", tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("sd1", tmp_path_factory.mktemp("sd1"))


@pytest.fixture(scope="module", params=["sdxl", "sd1"])
def model(request: pytest.FixtureRequest) -> Model:
    loaded: Model = request.getfixturevalue(request.param)
    return loaded


def require_equal(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []


def outputs(parts: dict[str, Any]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.tensor([[18, 3, 5, 7, 19, 19, 19, 19, 19, 19, 19, 19]])
    found = []
    with torch.no_grad():
        towers = [parts[part](tokens, output_hidden_states=True) for part in sorted(parts) if part.startswith("text")]
        text = torch.cat([tower.hidden_states[-2] for tower in towers], -1)
        picture = torch.rand(1, 3, 32, 32, generator=generator)
        moments = parts["vae"].encode(picture).latent_dist.parameters
        found += [text, moments, parts["vae"].decode(moments[:, :4]).sample]
        noise = torch.randn(1, parts["unet"].config.in_channels, 8, 8, generator=generator)
        added = {}
        if len(towers) == 2:
            found.append(towers[1].text_embeds)
            added = {"text_embeds": towers[1].text_embeds, "time_ids": torch.full((1, 6), 64.0)}
        found.append(parts["unet"](noise, 500, text, added_cond_kwargs=added).sample)
    return found


def test_a_checkpoint_loads_equal_to_the_bit(model: Model) -> None:
    assert single_file_kind(model.file) == model.kind
    loaded = load_single_file(model.file, model.settings, torch.float32)
    assert list(loaded) == list(model.parts)
    for part, module in loaded.items():
        assert type(module) is type(model.parts[part])
        require_equal(module.state_dict(), model.parts[part].state_dict())
        assert not module.training and not any(value.requires_grad for value in module.parameters())
        tensors = [*module.parameters(), *module.buffers()]
        assert {value.device.type for value in tensors} == {"cpu"}
    for ours, theirs in zip(outputs(loaded), outputs(model.parts), strict=True):
        assert torch.equal(ours, theirs) and theirs.std() > 0


def test_the_layout_is_the_one_that_diffusers_reads(sdxl: Model, sd1: Model) -> None:
    from diffusers.loaders import single_file_utils as theirs

    for model in (sdxl, sd1):
        parts = model.parts
        unet = theirs.convert_ldm_unet_checkpoint(model.tensors, parts["unet"].config)
        require_equal(unet, parts["unet"].state_dict())
        require_equal(theirs.convert_ldm_vae_checkpoint(model.tensors, parts["vae"].config), parts["vae"].state_dict())
        clip = theirs.convert_ldm_clip_checkpoint(model.tensors)
        clip = {key.removeprefix("text_model."): value for key, value in clip.items() if "position_ids" not in key}
        tower = parts["text_encoder"].state_dict()
        require_equal(clip, {key.removeprefix("text_model."): value for key, value in tower.items()})
    second = sdxl.parts["text_encoder_2"]
    prefix = "conditioner.embedders.1.model."
    require_equal(theirs.convert_open_clip_checkpoint(second, sdxl.tensors, prefix), second.state_dict())


def test_every_parameter_of_the_published_sizes_has_its_tensor() -> None:
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        clip = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072))
        wide = dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20)
        second = CLIPTextModelWithProjection(CLIPTextConfig(**wide, projection_dim=1280))
    sizes = {}
    for part, module in (("vae", vae), ("text_encoder", clip), ("text_encoder_2", second)):
        names = module.state_dict()
        sources = sources_of(part, module, "sdxl", [])
        assert set(sources) == set(names)
        sizes[part] = len({source.key for source in sources.values()})
        if part != "text_encoder":
            written = {"vae": vae_tensors, "text_encoder_2": open_clip_tensors}[part](module)
            start = {"vae": "first_stage_model.", "text_encoder_2": "conditioner.embedders.1.model."}[part]
            assert {source.key for source in sources.values()} == {start + name for name in written}
    # With the U-Net's 1680, the position numbers and the logit scale: the 2515 tensors of SDXL 1.0's file.
    assert sizes == {"vae": 248, "text_encoder": 196, "text_encoder_2": 389}


def test_half_precision_files_and_half_precision_models(sdxl: Model, tmp_path: Path) -> None:
    halves = {key: value.half() if value.is_floating_point() else value for key, value in sdxl.tensors.items()}
    file = save(halves, tmp_path / "half.safetensors")
    loaded = load_single_file(file, sdxl.settings, torch.float32)
    for part, module in loaded.items():
        expected = {key: value.half().float() for key, value in sdxl.parts[part].state_dict().items()}
        require_equal(module.state_dict(), expected)
    loaded = load_single_file(sdxl.file, sdxl.settings, torch.float16)
    assert {part: module.dtype for part, module in loaded.items()} == {
        "unet": torch.float16,
        "vae": torch.float32,  # force_upcast is AutoencoderKL's default
        "text_encoder": torch.float16,
        "text_encoder_2": torch.float16,
    }
    require_equal(loaded["vae"].state_dict(), sdxl.parts["vae"].state_dict())
    settings = Path(shutil.copytree(sdxl.settings, tmp_path / "settings"))
    config = json.loads((settings / "vae" / "config.json").read_text())
    (settings / "vae" / "config.json").write_text(json.dumps(config | {"force_upcast": False}))
    assert load_single_file(sdxl.file, settings, torch.float16)["vae"].dtype is torch.float16


@pytest.mark.parametrize("channels", [8, 9])
def test_input_channels_are_the_files_own(model: Model, tmp_path: Path, channels: int) -> None:
    parts = model.parts | {"unet": tiny_parts(model.kind, channels)["unet"]}
    file = save(original_layout(parts), tmp_path / "more.safetensors")
    unet = load_single_file(file, model.settings, torch.float32)["unet"]
    assert unet.config.in_channels == channels
    require_equal(unet.state_dict(), parts["unet"].state_dict())


def test_habits_of_other_tools(sdxl: Model, sd1: Model, tmp_path: Path) -> None:
    """SD 1.x without the inner prefix (early merges); the VAE's attention as plain matrices; more heads and markers."""
    early = {key.replace(".text_model.", "."): value for key, value in sd1.tensors.items()}
    assert early.keys() != sd1.tensors.keys()
    attention = {key: value[:, :, 0, 0] for key, value in sdxl.tensors.items() if ".attn_1." in key and value.ndim == 4}
    assert len(attention) == 8
    more = {
        "conditioner.embedders.0.logit_scale": torch.tensor(1.0),
        "conditioner.embedders.0.transformer.text_projection.weight": torch.eye(8),
        "v_pred": torch.tensor([]),
        "ztsnr": torch.tensor([]),
    }
    for model, tensors in ((sd1, early), (sdxl, sdxl.tensors | attention | more)):
        loaded = load_single_file(save(tensors, tmp_path / "other.safetensors"), model.settings, torch.float32)
        for part, module in loaded.items():
            require_equal(module.state_dict(), model.parts[part].state_dict())


def test_what_is_loaded_no_longer_needs_the_file(sd1: Model, tmp_path: Path) -> None:
    file = Path(shutil.copy(sd1.file, tmp_path / "copy.safetensors"))
    loaded = load_single_file(file, sd1.settings, torch.float32)
    with file.open("r+b") as stream:
        stream.write(b"\0" * file.stat().st_size)
    for part, module in loaded.items():
        require_equal(module.state_dict(), sd1.parts[part].state_dict())


def test_a_part_may_keep_the_files_precision(sd1: Model) -> None:
    loaded = load_single_file(sd1.file, sd1.settings, torch.bfloat16, unchanged=("unet",))
    require_equal(loaded["unet"].state_dict(), sd1.parts["unet"].state_dict())
    assert {value.dtype for value in loaded["vae"].state_dict().values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("keys", "metadata", "settings"),
    [
        ((), {}, {}),
        (("v_pred",), {}, {"prediction_type": "v_prediction"}),
        (("v_pred",), {"modelspec.prediction_type": "epsilon"}, {"prediction_type": "v_prediction"}),
        ((), {"modelspec.prediction_type": "v"}, {"prediction_type": "v_prediction"}),
        ((), {"modelspec.predict_key": "epsilon"}, {"prediction_type": "epsilon"}),
        ((), {"modelspec.prediction_type": "flow"}, {}),
        (("ztsnr",), {}, {}),
        (
            ("v_pred", "ztsnr"),
            {},
            {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        ),
    ],
)
def test_what_a_file_says_of_its_schedule(
    tmp_path: Path, keys: tuple[str, ...], metadata: dict[str, str], settings: dict[str, Any]
) -> None:
    tensors = {"model.diffusion_model.out.2.bias": torch.zeros(4)} | {key: torch.tensor([]) for key in keys}
    file = save(tensors, tmp_path / "model.safetensors", **metadata)
    assert single_file_schedule(file) == settings


def test_telling_a_checkpoints_kind_imports_nothing_heavy(sdxl: Model) -> None:
    code = (
        "import sys; from intarsia.backbones.single_file import single_file_kind, single_file_schedule as s; "
        f"print(single_file_kind({str(sdxl.file)!r}), s({str(sdxl.file)!r}), "
        "sorted({'torch', 'diffusers', 'transformers'} & {*sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "sdxl {} []"


def test_the_walk_of_the_u_net_names_every_tensor_once(model: Model) -> None:
    unet = model.parts["unet"]
    assert len(unet_tensors(unet)) == len(unet.state_dict())
