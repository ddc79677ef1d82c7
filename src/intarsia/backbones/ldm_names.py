"""The one place that knows the module names of the original latent-diffusion U-Nets (SD 1.x, SDXL): the names in
single-file checkpoints, in Fooocus' patch, and in many LoRA files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_INNER = {"resnets": _RESNET, "downsamplers": {"op": "conv"}, "upsamplers": {"conv": "conv"}}
"""By diffusers' kind of block, other than attentions, which have the same names inside."""
_ENDS = {
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
}
_LABELS = {"label_emb.0.0": "add_embedding.linear_1", "label_emb.0.2": "add_embedding.linear_2"}


def ldm_blocks(config: Mapping[str, Any]) -> dict[str, str]:
    """Block by block, original name -> diffusers name, such as "input_blocks.4.1" -> "down_blocks.1.attentions.0".

    `config`: a `UNet2DConditionModel`'s. The original counts blocks through: each level's layers, one resnet and
    perhaps one attention each, then its resampler.
    """
    return dict(_blocks(config))


def _blocks(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    levels, layers = len(config["block_out_channels"]), int(config["layers_per_block"])
    number = 1
    for level, kind in enumerate(config["down_block_types"]):
        for layer in range(layers):
            yield f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{layer}"
            if "CrossAttn" in kind:
                yield f"input_blocks.{number}.1", f"down_blocks.{level}.attentions.{layer}"
            number += 1
        if level < levels - 1:
            yield f"input_blocks.{number}.0", f"down_blocks.{level}.downsamplers.0"
            number += 1
    yield "middle_block.0", "mid_block.resnets.0"
    yield "middle_block.1", "mid_block.attentions.0"
    yield "middle_block.2", "mid_block.resnets.1"
    number = 0
    for level, kind in enumerate(config["up_block_types"]):
        attends = "CrossAttn" in kind
        for layer in range(layers + 1):
            yield f"output_blocks.{number}.0", f"up_blocks.{level}.resnets.{layer}"
            if attends:
                yield f"output_blocks.{number}.1", f"up_blocks.{level}.attentions.{layer}"
            if layer == layers and level < levels - 1:
                yield f"output_blocks.{number}.{2 if attends else 1}", f"up_blocks.{level}.upsamplers.0"
            number += 1


def from_ldm(name: str, config: Mapping[str, Any], blocks: Mapping[str, str] | None = None) -> str | None:
    """diffusers' name of a module or parameter of the original U-Net, without any prefix such as "diffusion_model.";
    None where the U-Net of this config has none of that name.

    Such as "input_blocks.4.1.transformer_blocks.0.attn1.to_k.weight" -> "down_blocks.1.attentions.0.transformer_…".
    `blocks`: what `ldm_blocks(config)` gives, to look many names up.
    """
    ends = {**_ENDS, **(_LABELS if config.get("addition_embed_type") == "text_time" else {})}
    for theirs, ours in ends.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    blocks = ldm_blocks(config) if blocks is None else blocks
    parts = name.split(".")
    length = 2 if parts[0] == "middle_block" else 3
    theirs, rest = ".".join(parts[:length]), ".".join(parts[length:])
    block = blocks.get(theirs)
    if block is None or not rest:
        return block
    kind = block.split(".")[-2]
    if kind == "attentions":
        return f"{block}.{rest}"
    for inner, ours in _INNER[kind].items():
        if rest == inner or rest.startswith(f"{inner}."):
            return f"{block}.{ours}{rest.removeprefix(inner)}"
    return None


def to_ldm_names(names: Mapping[str, Any] | list[str], config: Mapping[str, Any]) -> dict[str, str]:
    """diffusers name -> original name, for modules or parameters of a U-Net; names without a counterpart are left
    out."""
    blocks = {ours: theirs for theirs, ours in ldm_blocks(config).items()}
    ends = {ours: theirs for theirs, ours in (_ENDS | _LABELS).items()}
    found: dict[str, str] = {}
    for name in names:
        end = next((e for e in ends if name == e or name.startswith(f"{e}.")), None)
        if end is not None:
            found[name] = ends[end] + name.removeprefix(end)
            continue
        block = next((b for b in (".".join(name.split(".")[:k]) for k in (4, 3)) if b in blocks), None)
        if block is None:
            continue
        rest, kind = name.removeprefix(block).removeprefix("."), block.split(".")[-2]
        inner: str | None = rest
        if rest and kind != "attentions":
            table = {ours: theirs for theirs, ours in _INNER[kind].items()}
            start = next((o for o in table if rest == o or rest.startswith(f"{o}.")), None)
            inner = None if start is None else table[start] + rest.removeprefix(start)
        if inner is not None:
            found[name] = blocks[block] + (f".{inner}" if inner else "")
    return found
