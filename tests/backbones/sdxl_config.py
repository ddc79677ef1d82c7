"""The U-Nets' published settings, a small U-Net of SDXL's layout, and Fooocus' keys and shapes as documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from intarsia.evaluation.speed import sdxl_shape as shape

SDXL: dict[str, Any] = {**shape.SDXL.unet, "in_channels": 4}
SD15: dict[str, Any] = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
"""The rest is diffusers' default."""
SMALL: dict[str, Any] = SDXL | dict(
    sample_size=8,
    block_out_channels=(4, 8, 16),
    cross_attention_dim=12,
    attention_head_dim=(1, 2, 4),
    transformer_layers_per_block=(1, 2, 5),
    norm_num_groups=2,
    addition_time_embed_dim=4,
    projection_class_embeddings_input_dim=32,
)
"""SDXL's layout with five blocks, of which a patch has four, where SDXL has ten."""


def on_meta(config: dict[str, Any]) -> Any:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(**config)


def small_unet(seed: int = 0, **changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet: Any = UNet2DConditionModel(**SMALL | changes)
    return unet.eval().requires_grad_(False)


def small_inputs(unet: Any, channels: int = 9, rows: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(unet.conv_in.weight)

    return {
        "sample": normal(rows, channels, 8, 8),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": normal(rows, 5, 12),
        "added_cond_kwargs": {"text_embeds": normal(rows, 8), "time_ids": torch.full((rows, 6), 64.0)},
    }


def call(unet: Any, **changes: Any) -> Tensor:
    with torch.no_grad():
        output: Tensor = unet(**small_inputs(unet) | changes).sample
    return output


def documented_shapes() -> dict[str, tuple[int, ...]]:
    """The keys of `inpaint_v26.fooocus.patch` and their shapes in SDXL, written out from the description alone."""
    return dict(_documented())


def _documented() -> Iterator[tuple[str, tuple[int, ...]]]:
    p = "diffusion_model."
    yield from _pair(f"{p}input_blocks.0.0", 320, 4, 3, 3)
    yield from _pair(f"{p}out.0", 320)
    yield from _pair(f"{p}out.2", 4, 320, 3, 3)
    for name, width in (
        ("time_embed.0", 320),
        ("time_embed.2", 1280),
        ("label_emb.0.0", 2816),
        ("label_emb.0.2", 1280),
    ):
        yield from _pair(p + name, 1280, width)
    for number, width in ((3, 320), (6, 640)):
        yield from _pair(f"{p}input_blocks.{number}.0.op", width, width, 3, 3)
    for number, width in ((2, 1280), (5, 640)):
        yield from _pair(f"{p}output_blocks.{number}.2.conv", width, width, 3, 3)
    resnets = {"middle_block.0": (1280, 1280), "middle_block.2": (1280, 1280)}
    inward = ((1, 320, 320), (2, 320, 320), (4, 320, 640), (5, 640, 640), (7, 640, 1280), (8, 1280, 1280))
    resnets |= {f"input_blocks.{number}.0": (read, made) for number, read, made in inward}
    # What comes up from below, and the skip connections in reverse order.
    below = (1280, 1280, 1280, 1280, 640, 640, 640, 320, 320)
    skips = (1280, 1280, 640, 640, 640, 320, 320, 320, 320)
    made = (1280,) * 3 + (640,) * 3 + (320,) * 3
    resnets |= {f"output_blocks.{n}.0": (below[n] + skips[n], made[n]) for n in range(9)}
    for name, (read, wide) in resnets.items():
        yield from _pair(f"{p}{name}.in_layers.0", read)
        yield from _pair(f"{p}{name}.in_layers.2", wide, read, 3, 3)
        yield from _pair(f"{p}{name}.emb_layers.1", wide, 1280)
        yield from _pair(f"{p}{name}.out_layers.0", wide)
        yield from _pair(f"{p}{name}.out_layers.3", wide, wide, 3, 3)
        if read != wide:
            yield from _pair(f"{p}{name}.skip_connection", wide, read, 1, 1)
    shallow = ("input_blocks.4.1", "input_blocks.5.1", "output_blocks.3.1", "output_blocks.4.1", "output_blocks.5.1")
    deep = ("input_blocks.7.1", "input_blocks.8.1", "middle_block.1", *(f"output_blocks.{n}.1" for n in range(3)))
    for name, width, depth in (*((n, 640, 2) for n in shallow), *((n, 1280, 4) for n in deep)):
        yield from _pair(f"{p}{name}.norm", width)
        yield from _pair(f"{p}{name}.proj_in", width, width)
        yield from _pair(f"{p}{name}.proj_out", width, width)
        for number in range(depth):
            yield from _transformer_block(f"{p}{name}.transformer_blocks.{number}", width)


def _transformer_block(block: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for attention, context in (("attn1", width), ("attn2", 2048)):
        yield f"{block}.{attention}.to_q.weight", (width, width)
        yield f"{block}.{attention}.to_k.weight", (width, context)
        yield f"{block}.{attention}.to_v.weight", (width, context)
        yield from _pair(f"{block}.{attention}.to_out.0", width, width)
    yield from _pair(f"{block}.ff.net.0.proj", 8 * width, width)
    yield from _pair(f"{block}.ff.net.2", width, 4 * width)
    for norm in ("norm1", "norm2", "norm3"):
        yield from _pair(f"{block}.{norm}", width)


def _pair(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]
