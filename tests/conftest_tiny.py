"""A complete SDXL-shaped backbone with random weights, built in memory in well under a second."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intarsia.backbones import Backbone

WINDOW = 24
WHOLE_WORDS = re.findall(
    r"\w+",
    "a the photo of on in red blue clay glossy toy table duck mug wearing hat sks background made teapot",
)


def tiny_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-level, so every text can be encoded; `WHOLE_WORDS` are single tokens, other words are several."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    symbols = letters + [letter + "</w>" for letter in letters]
    merges: list[tuple[str, str]] = []
    for word in WHOLE_WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        left = parts[0]
        for right in parts[1:]:
            if (left, right) not in merges:
                merges.append((left, right))
                symbols.append(left + right)
            left = left + right
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    unique = list(dict.fromkeys(symbols))
    return {symbol: index for index, symbol in enumerate(unique)}, merges


def tiny_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    vocabulary, merges = tiny_vocabulary()
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=WINDOW)


def tiny_backbone(
    seed: int = 0, *, image_encoder: bool = True, prediction_type: str = "epsilon", channels: int = 9
) -> Backbone:
    """VAE factor 8, native side 64 px, two-level U-Net (of an inpainting model), two text towers (16 and 24 wide)."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    from intarsia.backbones import Backbone

    tokenizer, tokenizer_2 = tiny_tokenizer(), tiny_tokenizer()

    def text_config(width: int, projection: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=WINDOW,
            projection_dim=projection,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            sample_size=64,
            scaling_factor=0.5,
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=channels,
            out_channels=4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1),
            cross_attention_dim=40,
            attention_head_dim=(2, 4),
            norm_num_groups=4,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + 24,
        )
        text_encoder = CLIPTextModel(text_config(16, 16))
        text_encoder_2 = CLIPTextModelWithProjection(text_config(24, 24))
        vision = None
        if image_encoder:
            vision = CLIPVisionModelWithProjection(
                CLIPVisionConfig(
                    hidden_size=16,
                    intermediate_size=32,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    image_size=32,
                    patch_size=8,
                    projection_dim=24,
                )
            )
    for module in (vae, unet, text_encoder, text_encoder_2, vision):
        if module is not None:
            module.eval().requires_grad_(False)
    return Backbone(
        name="tiny",
        path=None,
        vae=vae,
        unet=unet,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        image_encoder=vision,
        scheduler_config={
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "prediction_type": prediction_type,
            "timestep_spacing": "leading",
            "steps_offset": 1,
        },
    )


def tiny_instruct(seed: int = 0) -> Backbone:
    """The same with the eight channels of an instruction model, and no image tower."""
    return replace(tiny_backbone(seed, image_encoder=False, channels=8), name="tiny-add")


def save_tiny(backbone: Backbone, folder: Any, *, variant: str | None = None, max_shard_size: str = "10GB") -> None:
    """Write the backbone in the diffusers folder layout."""
    import json
    from pathlib import Path

    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    backbone.vae.save_pretrained(root / "vae", variant=variant)
    backbone.unet.save_pretrained(root / "unet", variant=variant, max_shard_size=max_shard_size)
    backbone.text_encoder.save_pretrained(root / "text_encoder", variant=variant)
    backbone.text_encoder_2.save_pretrained(root / "text_encoder_2", variant=variant)
    backbone.tokenizer.save_pretrained(root / "tokenizer")
    backbone.tokenizer_2.save_pretrained(root / "tokenizer_2")
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionXLInpaintPipeline",
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    if backbone.image_encoder is not None:
        backbone.image_encoder.save_pretrained(root / "image_encoder", variant=variant)
        index["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    (root / "scheduler").mkdir(exist_ok=True)
    scheduler = {"_class_name": "DDIMScheduler", **backbone.scheduler_config}
    (root / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (root / "model_index.json").write_text(json.dumps(index))
