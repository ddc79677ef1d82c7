"""Tiny models with random weights in every layout that real weights come in, as files on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tests.adapters.tiny_unets import randomised
from tests.backbones.ldm_checkpoints import original_layout, save, tiny_parts
from tests.conftest_tiny import tiny_backbone

from intarsia.backbones import expected_patch_keys
from intarsia.backbones.ldm_names import from_ldm

LAYOUTS = ("sdxl-inpaint", "sdxl", "sdxl-file", "sdxl-file+fooocus", "sd15-inpaint", "sd15", "sd15-file")


def parts_of(family: str, channels: int) -> dict[str, Any]:
    """The parts of a tiny "sdxl" or "sd1" that understands words."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tiny, parts = tiny_backbone(image_encoder=False), tiny_parts(family, channels)
    config = dict(parts["unet"].config) | {"cross_attention_dim": 40}
    if family == "sdxl":
        config["projection_class_embeddings_input_dim"] = 6 * 4 + 24
        towers = {"text_encoder": tiny.text_encoder, "text_encoder_2": tiny.text_encoder_2}
    else:
        settings = tiny.text_encoder.config.to_dict() | {"hidden_size": 40, "num_attention_heads": 4}
        towers = {"text_encoder": CLIPTextModel(CLIPTextConfig(**settings))}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel.from_config(config)
    parts |= {"unet": unet, **towers}
    return {part: randomised(module.eval(), seed, 0.05) for seed, (part, module) in enumerate(parts.items())}


def write_folder(parts: dict[str, Any], folder: Path, *, weights: bool = True) -> Path:
    """The diffusers layout; without weights, what a single file needs beside it."""
    tiny = tiny_backbone(image_encoder=False)
    two = "text_encoder_2" in parts
    for part, module in parts.items():
        if weights:
            module.save_pretrained(folder / part)
        else:
            write = module.config.save_pretrained if part.startswith("text") else module.save_config
            write(str(folder / part))
    for name in ("tokenizer", "tokenizer_2") if two else ("tokenizer",):
        tiny.tokenizer.save_pretrained(folder / name)
    (folder / "scheduler").mkdir()
    settings = {"_class_name": "EulerDiscreteScheduler", **tiny.scheduler_config}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    kind = "StableDiffusionXLPipeline" if two else "StableDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return folder


def write_file(parts: dict[str, Any], file: Path) -> Path:
    """One file in the original layout, and its settings in a folder of the same name."""
    write_folder(parts, file.with_suffix(""), weights=False)
    return save(original_layout(parts), file)


def write_fooocus(unet: Any, folder: Path) -> Path:
    """A head and a patch that fit a U-Net, random."""
    generator = torch.Generator().manual_seed(11)
    folder.mkdir(parents=True)
    width = int(unet.config.block_out_channels[0])
    head = torch.randn(width, 5, 3, 3, generator=generator).half() * 0.1
    torch.save({"head": head}, folder / "fooocus_inpaint_head.pth")
    shapes = {name: value.shape for name, value in unet.state_dict().items()}
    patch = {}
    for key in sorted(expected_patch_keys(unet)):
        name = from_ldm(key.removeprefix("diffusion_model."), unet.config)
        assert name is not None
        levels = torch.randint(0, 256, tuple(shapes[name]), generator=generator, dtype=torch.uint8)
        patch[key] = (levels, torch.tensor(-0.02), torch.tensor(0.02))
    torch.save(patch, folder / "inpaint_v26.fooocus.patch")
    return folder


def write_layout(layout: str, folder: Path) -> str:
    """One of `LAYOUTS` in a folder: what a user gives as the model. Fooocus' files go into `folder`/models."""
    family = "sdxl" if layout.startswith("sdxl") else "sd1"
    parts = parts_of(family, 9 if layout.endswith("-inpaint") else 4)
    if "-file" not in layout:
        return str(write_folder(parts, folder / layout))
    file = write_file(parts, folder / f"{family}.safetensors")
    if not layout.endswith("+fooocus"):
        return str(file)
    write_fooocus(parts["unet"], folder / "models" / "fooocus-inpaint")
    return f"{file}+fooocus"
