"""Tiny models with random weights, and the files in which the original Stable Diffusion code would keep them.

The original names are found by walking through the modules, so that nothing is shared with the names under test.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.adapters.tiny_unets import randomised
from torch import Tensor

Tensors = dict[str, Tensor]
WINDOW = 12


def tiny_parts(kind: str, channels: int = 4, **vae: Any) -> dict[str, Any]:
    """All parts of a small "sdxl" (three levels, the first without attention, linear projections, two towers) or "sd1"
    (four levels, convolutions as projections, eight heads, one tower)."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    common: dict[str, Any] = dict(
        sample_size=8, in_channels=channels, layers_per_block=2, norm_num_groups=4, cross_attention_dim=8
    )
    own: dict[str, Any] = dict(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        attention_head_dim=8,
    )
    if kind == "sdxl":
        own = dict(
            block_out_channels=(8, 16, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 3),
            attention_head_dim=(2, 4, 4),
            use_linear_projection=True,
            cross_attention_dim=8 + 12,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + 12,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = {
            "unet": UNet2DConditionModel(**common | own),
            "vae": AutoencoderKL(
                block_out_channels=(4, 8, 8),
                down_block_types=("DownEncoderBlock2D",) * 3,
                up_block_types=("UpDecoderBlock2D",) * 3,
                layers_per_block=2,
                norm_num_groups=2,
                **vae,
            ),
            "text_encoder": CLIPTextModel(_text_config(8)),
        }
        if kind == "sdxl":
            parts["text_encoder_2"] = CLIPTextModelWithProjection(_text_config(12))
    # Norms and biases start out alike: other values show when two are exchanged.
    return {part: randomised(module, seed).eval() for seed, (part, module) in enumerate(parts.items())}


def _text_config(width: int) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=20,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=WINDOW,
        projection_dim=width,
        bos_token_id=18,
        eos_token_id=19,
    )


def write_settings(parts: dict[str, Any], folder: Path) -> Path:
    """A `config.json` for each part, and no weights."""
    for part, module in parts.items():
        save = module.config.save_pretrained if part.startswith("text") else module.save_config
        save(str(folder / part))
    return folder


def original_layout(parts: dict[str, Any]) -> Tensors:
    """The parts' tensors as one checkpoint, with what else such files hold."""
    two = "text_encoder_2" in parts
    clip = "conditioner.embedders.0.transformer." if two else "cond_stage_model.transformer."
    found = {f"model.diffusion_model.{name}": value for name, value in unet_tensors(parts["unet"]).items()}
    found |= {f"first_stage_model.{name}": value for name, value in vae_tensors(parts["vae"]).items()}
    tower = parts["text_encoder"].state_dict()
    found |= {f"{clip}text_model.{name.removeprefix('text_model.')}": value for name, value in tower.items()}
    found[f"{clip}text_model.embeddings.position_ids"] = torch.arange(WINDOW)[None]
    if two:
        second = open_clip_tensors(parts["text_encoder_2"])
        found |= {f"conditioner.embedders.1.model.{name}": value for name, value in second.items()}
        found["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.6)
        found["denoiser.sigmas"] = torch.ones(1000)
    else:
        found |= {name: torch.ones(1000) for name in ("betas", "alphas_cumprod", "sqrt_recipm1_alphas_cumprod")}
        found["model_ema.diffusion_modelinput_blocks00weight"] = torch.zeros(2)
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in found.items()}


def _all(places: Iterable[tuple[str, Any]]) -> Tensors:
    return {f"{name}.{inner}": value for name, module in places for inner, value in module.state_dict().items()}


def unet_tensors(unet: Any) -> Tensors:
    places = [("input_blocks.0.0", unet.conv_in), ("out.0", unet.conv_norm_out), ("out.2", unet.conv_out)]
    places += [("time_embed.0", unet.time_embedding.linear_1), ("time_embed.2", unet.time_embedding.linear_2)]
    if hasattr(unet, "add_embedding"):
        places += [("label_emb.0.0", unet.add_embedding.linear_1), ("label_emb.0.2", unet.add_embedding.linear_2)]

    def resnet(name: str, block: Any) -> None:
        places.append((f"{name}.in_layers.0", block.norm1))
        places.append((f"{name}.in_layers.2", block.conv1))
        places.append((f"{name}.emb_layers.1", block.time_emb_proj))
        places.append((f"{name}.out_layers.0", block.norm2))
        places.append((f"{name}.out_layers.3", block.conv2))
        if block.conv_shortcut is not None:
            places.append((f"{name}.skip_connection", block.conv_shortcut))

    number = 0
    for block in unet.down_blocks:
        for layer, inner in enumerate(block.resnets):
            number += 1
            resnet(f"input_blocks.{number}.0", inner)
            if hasattr(block, "attentions"):
                places.append((f"input_blocks.{number}.1", block.attentions[layer]))
        for sampler in block.downsamplers or []:
            number += 1
            places.append((f"input_blocks.{number}.0.op", sampler.conv))
    resnet("middle_block.0", unet.mid_block.resnets[0])
    places.append(("middle_block.1", unet.mid_block.attentions[0]))
    resnet("middle_block.2", unet.mid_block.resnets[1])
    number = -1
    for block in unet.up_blocks:
        for layer, inner in enumerate(block.resnets):
            number += 1
            resnet(f"output_blocks.{number}.0", inner)
            if hasattr(block, "attentions"):
                places.append((f"output_blocks.{number}.1", block.attentions[layer]))
        for sampler in block.upsamplers or []:
            slot = 2 if hasattr(block, "attentions") else 1
            places.append((f"output_blocks.{number}.{slot}.conv", sampler.conv))
    return _all(places)


def vae_tensors(vae: Any) -> Tensors:
    places = [("quant_conv", vae.quant_conv), ("post_quant_conv", vae.post_quant_conv)]
    projections = []

    def resnet(name: str, block: Any) -> None:
        places.extend((f"{name}.{inner}", getattr(block, inner)) for inner in ("norm1", "conv1", "norm2", "conv2"))
        if block.conv_shortcut is not None:
            places.append((f"{name}.nin_shortcut", block.conv_shortcut))

    for side, module in (("encoder", vae.encoder), ("decoder", vae.decoder)):
        places += [(f"{side}.conv_in", module.conv_in), (f"{side}.conv_out", module.conv_out)]
        places.append((f"{side}.norm_out", module.conv_norm_out))
        attention = module.mid_block.attentions[0]
        places.append((f"{side}.mid.attn_1.norm", attention.group_norm))
        projections += [
            (f"{side}.mid.attn_1.{name}", part)
            for name, part in zip(
                ("q", "k", "v", "proj_out"),
                (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]),
                strict=True,
            )
        ]
        resnet(f"{side}.mid.block_1", module.mid_block.resnets[0])
        resnet(f"{side}.mid.block_2", module.mid_block.resnets[1])
    for level, block in enumerate(vae.encoder.down_blocks):
        for layer, inner in enumerate(block.resnets):
            resnet(f"encoder.down.{level}.block.{layer}", inner)
        for sampler in block.downsamplers or []:
            places.append((f"encoder.down.{level}.downsample.conv", sampler.conv))
    for level, block in enumerate(reversed(vae.decoder.up_blocks)):
        for layer, inner in enumerate(block.resnets):
            resnet(f"decoder.up.{level}.block.{layer}", inner)
        for sampler in block.upsamplers or []:
            places.append((f"decoder.up.{level}.upsample.conv", sampler.conv))
    pointwise = {
        name: value[:, :, None, None] if value.ndim == 2 else value for name, value in _all(projections).items()
    }
    return _all(places) | pointwise


def open_clip_tensors(tower: Any) -> Tensors:
    text = tower.text_model
    found = {
        "token_embedding.weight": text.embeddings.token_embedding.weight,
        "positional_embedding": text.embeddings.position_embedding.weight,
        "text_projection": tower.text_projection.weight.T,
    }
    places = [("ln_final", text.final_layer_norm)]
    for number, layer in enumerate(text.encoder.layers):
        name, attention = f"transformer.resblocks.{number}", layer.self_attn
        places += [(f"{name}.ln_1", layer.layer_norm1), (f"{name}.ln_2", layer.layer_norm2)]
        places += [(f"{name}.mlp.c_fc", layer.mlp.fc1), (f"{name}.mlp.c_proj", layer.mlp.fc2)]
        places.append((f"{name}.attn.out_proj", attention.out_proj))
        fused = (attention.q_proj, attention.k_proj, attention.v_proj)
        found[f"{name}.attn.in_proj_weight"] = torch.cat([part.weight for part in fused])
        found[f"{name}.attn.in_proj_bias"] = torch.cat([part.bias for part in fused])
    return found | _all(places)


def save(tensors: Tensors, path: Path, **metadata: str) -> Path:
    save_file(tensors, path, metadata=metadata or None)
    return path


class Model:
    """A tiny model's parts, the folder of its settings, and its checkpoint."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.parts = kind, tiny_parts(kind)
        self.settings = write_settings(self.parts, root / f"{kind}-settings")
        self.tensors = original_layout(self.parts)
        self.file = save(self.tensors, root / f"{kind}.safetensors")
