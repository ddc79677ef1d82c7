"""Tiny U-Nets with random weights, and inputs for them."""

from __future__ import annotations

from typing import Any

import torch
from tests.conftest_tiny import tiny_backbone
from torch import Tensor

FEATURES = 16
WIDTH = 40
"""Of the text's and the image's tokens."""


def sdxl_like(seed: int = 0) -> Any:
    """Nine channels, size conditioning, linear projections (of `tiny_backbone`)."""
    return tiny_backbone(seed, image_encoder=False).unet


def sd15_like(seed: int = 0, **changes: Any) -> Any:
    """Four channels, no size conditioning, convolutions as projections, attention on two levels of each side."""
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = dict(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet: Any = UNet2DConditionModel(**settings | changes)
    return unet.eval().requires_grad_(False)


def inputs(unet: Any, rows: int = 2, size: tuple[int, int] = (8, 8), seed: int = 1) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    dtype = unet.conv_in.weight.dtype

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    return {
        "sample": normal(rows, unet.config.in_channels, *size),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": normal(rows, 12, WIDTH),
        "added_cond_kwargs": {"text_embeds": normal(rows, 24), "time_ids": torch.full((rows, 6), 64.0, dtype=dtype)},
    }


def run(unet: Any, rows: int = 2, size: tuple[int, int] = (8, 8), seed: int = 1, **more: Any) -> Tensor:
    with torch.no_grad():
        output: Tensor = unet(**inputs(unet, rows, size, seed) | more).sample
    return output


def randomised(module: torch.nn.Module, seed: int = 3, scale: float = 0.3) -> Any:
    """The module with other weights: differences show everywhere."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter))
    return module


def fingerprint(unet: Any) -> tuple[Any, ...]:
    """What an adapter must leave as it was: modules, parameters and processors by identity, modes, and state."""
    return (
        [(name, id(module), module.training) for name, module in unet.named_modules()],
        [(name, id(value), value.requires_grad, value._version) for name, value in unet.named_parameters()],
        [(name, id(processor)) for name, processor in unet.attn_processors.items()],
        set(vars(unet)),
        list(unet.state_dict()),
    )
