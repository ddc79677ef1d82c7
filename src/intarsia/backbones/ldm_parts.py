"""Where the parameters of a diffusers model lie in one file of the original layout (SD 1.x, SDXL), part by part."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from intarsia.backbones.ldm_names import to_ldm_names

Kind = Literal["sdxl", "sd1"]

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP: Mapping[Kind, str] = {"sdxl": "conditioner.embedders.0.transformer.", "sd1": "cond_stage_model.transformer."}
OPEN_CLIP = "conditioner.embedders.1.model."

# In such files, yet no parameter of a part: the noise schedule (which the scheduler makes) and what marks its kind, ...
_LEFTOVERS = frozenset(
    {
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "lvlb_weights",
        "logvar",
        "scale_factor",
        "denoiser.sigmas",
        "v_pred",
        "ztsnr",
    }
)
# ... averages kept for training, the VAE's loss, counters, and heads of the text towers that nothing uses.
_LEFTOVER_PATTERN = re.compile(
    r"(?:first_stage_model\.)?model_ema\..+"
    r"|first_stage_model\.loss\..+"
    r"|(?:cond_stage_model|conditioner\.embedders\.0)\.(?:transformer\.)?"
    r"(?:(?:text_model\.)?embeddings\.position_ids|logit_scale|text_projection(?:\.weight)?)"
    r"|conditioner\.embedders\.1\.model\.(?:logit_scale|attn_mask)"
)
_RESNET = r"(\d+)\.(?:resnets\.(\d+)|(?:down|up)samplers\.0)\.(.+)"
_VAE_MIDDLE = {
    "mid_block.resnets.0.": "mid.block_1.",
    "mid_block.resnets.1.": "mid.block_2.",
    "mid_block.attentions.0.group_norm.": "mid.attn_1.norm.",
    "mid_block.attentions.0.to_q.": "mid.attn_1.q.",
    "mid_block.attentions.0.to_k.": "mid.attn_1.k.",
    "mid_block.attentions.0.to_v.": "mid.attn_1.v.",
    "mid_block.attentions.0.to_out.0.": "mid.attn_1.proj_out.",
    "conv_norm_out.": "norm_out.",
    "conv_in.": "conv_in.",
    "conv_out.": "conv_out.",
}
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "layer_norm1.": "ln_1.",
    "layer_norm2.": "ln_2.",
    "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
    "self_attn.out_proj.": "attn.out_proj.",
}


@dataclass(frozen=True)
class Source:
    """What a parameter is read from: the file's `key`; `third`: only this third of its rows (0, 1, 2: query, key, value
    of one fused matrix); `transposed`; `pointwise`: perhaps kept as a 1x1 convolution, shape (out, in, 1, 1)."""

    key: str
    third: int | None = None
    transposed: bool = False
    pointwise: bool = False

    def shape_in_file(self, shape: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...]:
        """The shape the file's tensor must have for a parameter of `shape`; `found`: the one it has."""
        if self.third is not None:
            return (3 * shape[0], *shape[1:])
        if self.pointwise and len(shape) == 2 and len(found) > 2:
            return (*shape, *(1,) * (len(found) - 2))
        return shape[::-1] if self.transposed else shape


def is_leftover(key: str) -> bool:
    """Whether a key of a file is known to be no parameter of a part."""
    return key in _LEFTOVERS or _LEFTOVER_PATTERN.fullmatch(key) is not None


def sources_of(part: str, module: Any, kind: Kind, keys: Collection[str]) -> dict[str, Source]:
    """Each parameter of a part (`module`, a diffusers or transformers model) -> its source among the file's `keys`.
    Parameters that the original layout does not know are left out."""
    names = list(module.state_dict())
    if part == "unet":
        return {ours: Source(UNET + theirs) for ours, theirs in to_ldm_names(names, module.config).items()}
    found = {}
    levels = len(module.config.block_out_channels) if part == "vae" else 0
    # Merges made with early tools lack the inner prefix in SD 1.x files, newer transformers lack it in the module.
    inner = "text_model." if any(key.startswith(f"{CLIP[kind]}text_model.") for key in keys) else ""
    for name in names:
        source: Source | None
        if part == "vae":
            source = _vae_source(name, levels)
        elif part == "text_encoder":
            source = Source(f"{CLIP[kind]}{inner}{name.removeprefix('text_model.')}")
        else:
            source = _open_clip_source(name)
        if source is not None:
            found[name] = source
    return found


def _vae_source(name: str, levels: int) -> Source | None:
    """The decoder's levels count from the finest in the original, from the coarsest in diffusers."""
    side, _, rest = name.partition(".")
    if side in ("quant_conv", "post_quant_conv"):
        return Source(VAE + name)
    block = re.fullmatch(rf"(down|up)_blocks\.{_RESNET}", rest)
    if block is not None:
        way, level, layer, inner = block.groups()
        level = level if way == "down" else str(levels - 1 - int(level))
        where = f"{way}sample" if layer is None else f"block.{layer}"
        return Source(f"{VAE}{side}.{way}.{level}.{where}.{inner.replace('conv_shortcut.', 'nin_shortcut.')}")
    for ours, theirs in _VAE_MIDDLE.items():
        if rest.startswith(ours):
            return Source(f"{VAE}{side}.{theirs}{rest.removeprefix(ours)}", pointwise="attentions" in ours)
    return None


def _open_clip_source(name: str) -> Source | None:
    """OpenCLIP keeps query, key and value of a layer as the rows of one matrix, and multiplies by the projection from
    the right."""
    if name == "text_projection.weight":
        return Source(f"{OPEN_CLIP}text_projection", transposed=True)
    name = name.removeprefix("text_model.")
    if name in _OPEN_CLIP:
        return Source(OPEN_CLIP + _OPEN_CLIP[name])
    layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name)
    if layer is None:
        return None
    where, rest = f"{OPEN_CLIP}transformer.resblocks.{layer[1]}.", layer[2]
    fused = re.fullmatch(r"self_attn\.([qkv])_proj\.(weight|bias)", rest)
    if fused is not None:
        return Source(f"{where}attn.in_proj_{fused[2]}", third="qkv".index(fused[1]))
    for ours, theirs in _OPEN_CLIP_LAYER.items():
        if rest.startswith(ours):
            return Source(where + theirs + rest.removeprefix(ours))
    return None
