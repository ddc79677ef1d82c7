"""Random LoRAs for the tiny backbone, and U-Nets' modules without weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intarsia.adapters import Lora, LoraLayer, LoraModules
from intarsia.backbones import Backbone

SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD15: dict[str, Any] = {"cross_attention_dim": 768, "attention_head_dim": 8}


def full_modules(config: dict[str, Any]) -> LoraModules:
    """Of a full-sized U-Net on the meta device."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return LoraModules.of({"unet": UNet2DConditionModel(**config)})


def modules_of(backbone: Backbone) -> LoraModules:
    return LoraModules.of(backbone.modules())


def random_lora(modules: LoraModules, *, every: int = 1, rank: int | None = None, alpha: float | None = None) -> Lora:
    """Changes of every `every`-th module of every part; ranks of 1 to 3 and alphas from 0.3 on, if not said."""
    generator = torch.Generator().manual_seed(11)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(shape, generator=generator)

    layers: dict[Any, dict[str, LoraLayer]] = {}
    for part, shapes in modules.shapes.items():
        for index, (module, (out, *rest)) in enumerate(sorted(shapes.items())):
            if index % every:
                continue
            r = 1 + index % 3 if rank is None else rank
            up = draw(out, r, 1, 1) if len(rest) == 3 else draw(out, r)
            value = 0.3 + index if alpha is None else alpha
            layers.setdefault(part, {})[module] = LoraLayer(draw(r, *rest), up, value)
    return Lora(layers)


def run_unet(unet: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 9, 8, 8, generator=generator)
    text = torch.randn(2, 24, 40, generator=generator)
    added = {"text_embeds": torch.randn(2, 24, generator=generator), "time_ids": torch.full((2, 6), 64.0)}
    with torch.no_grad():
        output: Tensor = unet(sample, 500, encoder_hidden_states=text, added_cond_kwargs=added).sample
    return output


def same_layers(one: Lora, two: Lora) -> bool:
    """Bit-equal tensors, equal alphas, the same modules."""
    first, second = {(p, m): layer for p, m, layer in one}, {(p, m): layer for p, m, layer in two}
    return first.keys() == second.keys() and all(
        torch.equal(a.down, b.down) and torch.equal(a.up, b.up) and a.alpha == b.alpha
        for a, b in ((first[key], second[key]) for key in first)
    )
