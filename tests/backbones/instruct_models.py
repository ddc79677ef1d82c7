"""Tiny instruction models with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from tests.adapters.tiny_unets import randomised, sd15_like
from tests.conftest_tiny import tiny_backbone

from intarsia.backbones import Backbone, narrow_to_latents, widen_for_instructions


def published_layout(folder: Path, *, channels: int = 8, safety_checker: bool = False) -> Any:
    """A `StableDiffusionInstructPix2PixPipeline`, saved by diffusers, its image channels not zero."""
    from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    tiny = tiny_backbone(image_encoder=False)
    settings = tiny.text_encoder.config.to_dict() | {"hidden_size": 40, "num_attention_heads": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        tower = CLIPTextModel(CLIPTextConfig(**settings)).eval()
    unet = sd15_like(in_channels=channels)
    pipe = StableDiffusionInstructPix2PixPipeline(
        vae=tiny.vae,
        text_encoder=randomised(tower, scale=0.05),
        tokenizer=tiny.tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**tiny.scheduler_config, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder)
    if safety_checker:
        (folder / "safety_checker").mkdir()
        (folder / "safety_checker" / "model.safetensors").write_bytes(b"not to be read")
    return pipe


def two_tower_model(seed: int = 0) -> Backbone:
    """`tiny_backbone` with an eight-channel U-Net."""
    base = tiny_backbone(seed, image_encoder=False)
    unet = randomised(widen_for_instructions(narrow_to_latents(base.unet)), scale=0.05)
    return dataclasses.replace(base, name="tiny-add", unet=unet.requires_grad_(False))
