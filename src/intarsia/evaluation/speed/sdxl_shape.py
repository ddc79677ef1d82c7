"""Models of a shape with random weights: SDXL's published one, for counts without weights and for times on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from intarsia.backbones import Backbone


@dataclass(frozen=True)
class Shape:
    """Settings of a nine-channel U-Net, its VAE and its two text towers, as their classes take them.

    `side`: of the square pictures, in pixels; `window`: tokens of a prompt.
    """

    name: str
    side: int
    window: int
    unet: Mapping[str, Any] = field(repr=False)
    vae: Mapping[str, Any] = field(repr=False)
    text: Mapping[str, Any] = field(repr=False)
    text_2: Mapping[str, Any] = field(repr=False)


SDXL = Shape(
    name="sdxl",
    side=1024,
    window=77,
    unet=dict(
        sample_size=128,
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(320, 640, 1280),
        layers_per_block=2,
        cross_attention_dim=2048,
        attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    ),
    vae=dict(
        sample_size=1024,
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.13025,
        force_upcast=True,
    ),
    text=dict(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
        vocab_size=49408,
        max_position_embeddings=77,
    ),
    text_2=dict(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
        vocab_size=49408,
        max_position_embeddings=77,
        hidden_act="gelu",
    ),
)
"""SDXL-base 1.0 with the first convolution of an inpainting model."""

SCHEDULE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}


def random_unet(shape: Shape, device: str, dtype: torch.dtype) -> Any:
    """The U-Net alone, in evaluation mode, without gradients; on "meta" without any weights."""
    import diffusers

    made: Any = diffusers.UNet2DConditionModel
    with _made_on(device, dtype):
        unet = made(**shape.unet)
    return unet.eval().requires_grad_(False)


def random_vae(shape: Shape, device: str, dtype: torch.dtype) -> Any:
    """The VAE alone, as `random_unet`."""
    import diffusers

    made: Any = diffusers.AutoencoderKL
    with _made_on(device, dtype):
        vae = made(**shape.vae)
    return vae.eval().requires_grad_(False)


def random_backbone(shape: Shape, device: str, dtype: torch.dtype, *, seed: int = 0) -> Backbone:
    """A whole inpainting model with the classes' own initial weights, made in place in `dtype`; the words are those of
    the bundled model's tokenizer. Zeros would be faster than real weights, so there are none."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    from intarsia.backbones import Backbone, locate_model

    classes: tuple[Any, ...] = (CLIPTextModel, CLIPTextModelWithProjection)
    folder = locate_model("miniature").path
    tokenizers = [CLIPTokenizer.from_pretrained(str(folder / name)) for name in ("tokenizer", "tokenizer_2")]
    for tokenizer in tokenizers:
        tokenizer.model_max_length = shape.window
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        towers = []
        for made, settings, tokenizer in zip(classes, (shape.text, shape.text_2), tokenizers, strict=True):
            special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
            with _made_on(device, dtype):
                towers.append(made(CLIPTextConfig(**{**settings, **special})).eval().requires_grad_(False))
        unet, vae = random_unet(shape, device, dtype), random_vae(shape, device, dtype)
    return Backbone(
        name=f"{shape.name}-random",
        path=None,
        vae=vae,
        unet=unet,
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        text_encoder=towers[0],
        text_encoder_2=towers[1],
        image_encoder=None,
        scheduler_config=SCHEDULE,
    )


@contextmanager
def _made_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    """New parameters are made on `device` in `dtype`, so that no larger copy exists for a moment."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
