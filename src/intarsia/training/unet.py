"""The miniature's nine-channel inpainting U-Net (SDXL's conditioning) and its training on cached latents."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from intarsia.tabletop import background_caption, brief_caption, paraphrase
from intarsia.training.examples import ExampleSet
from intarsia.training.latents import LatentCache
from intarsia.training.loop import LoopConfig, share, train
from intarsia.training.recipe import Recipe
from intarsia.training.towers import Towers, tokens_of

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": False,
}


def build_unet(recipe: Recipe) -> Any:
    """An untrained ``UNet2DConditionModel`` with SDXL's layout: ``text_time`` conditioning, no attention at the top."""
    from diffusers import UNet2DConditionModel

    u = recipe.unet
    levels = len(u.channels)
    latent = recipe.vae.latent_channels
    return UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=recipe.side // 2 ** (len(recipe.vae.channels) - 1),
        in_channels=2 * latent + 1,
        out_channels=latent,
        layers_per_block=u.layers,
        block_out_channels=u.channels,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (levels - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (levels - 1) + ("UpBlock2D",),
        transformer_layers_per_block=u.transformer_layers,
        attention_head_dim=tuple(max(1, c // u.head_dim) for c in u.channels),
        cross_attention_dim=sum(recipe.towers.widths),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=recipe.towers.projection + 6 * 16,
        norm_num_groups=16,
    )


@torch.no_grad()
def embed(towers: Towers, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """SDXL's text conditioning: penultimate states of both towers (B, L, D1 + D2), pooled of the second (B, P)."""
    first = towers.text[0](input_ids=tokens, output_hidden_states=True)
    second = towers.text[1](input_ids=tokens, output_hidden_states=True)
    return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], 2), second.text_embeds


class CaptionBank:
    """Conditioning of several paraphrases of every example, encoded once and kept in half precision."""

    def __init__(self, towers: Towers, tokenizer: Any, captions: list[str], batch: int = 256) -> None:
        unique = list(dict.fromkeys(captions))
        tokens, pooled = [], []
        for start in range(0, len(unique), batch):
            t, p = embed(towers, tokens_of(tokenizer, unique[start : start + batch]))
            tokens.append(t.half())
            pooled.append(p.half())
        self.tokens, self.pooled = torch.cat(tokens), torch.cat(pooled)
        place = {c: i for i, c in enumerate(unique)}
        self.index = torch.tensor([place[c] for c in captions])

    def to(self, device: str) -> CaptionBank:
        self.tokens, self.pooled = self.tokens.to(device), self.pooled.to(device)
        return self


def caption_bank(
    towers: Towers,
    tokenizer: Any,
    cache: LatentCache,
    examples: ExampleSet,
    seed: int,
    each: int,
    *,
    brief: bool = False,
) -> CaptionBank:
    """``each`` captions a cached sample (with ``brief`` one more, a brief one), sample 0's, then sample 1's, …"""
    captions = []
    for n in range(len(cache)):
        row, draw = int(cache.row[n]), random.Random(f"caption-{seed}-{n}")
        for _ in range(each):
            if cache.empty[n]:
                captions.append(background_caption(examples.tables[row], draw))
            else:
                captions.append(paraphrase(examples.attributes[row], draw))
        if brief:
            captions.append(captions[-1] if cache.empty[n] else brief_caption(examples.attributes[row], draw))
    return CaptionBank(towers, tokenizer, captions)


def alphas_cumprod() -> Tensor:
    """ᾱ of the miniature's noise schedule, (1000,)."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(SCHEDULER)  # type: ignore[no-untyped-call]
    values: Tensor = scheduler.alphas_cumprod
    return values


def train_unet(
    recipe: Recipe,
    cache: LatentCache,
    bank: CaptionBank,
    folder: Path,
    *,
    device: str = "cpu",
    minutes: float | None = None,
    bf16: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
) -> Any | None:
    """Velocity prediction (Salimans & Ho 2022) on cached latents; returns the U-Net with EMA weights, or None."""
    torch.manual_seed(recipe.seed)
    unet = build_unet(recipe).to(device).to(memory_format=torch.channels_last)
    bank = bank.to(device)
    target, masked = cache.target.to(device), cache.masked.to(device)
    mask = cache.mask.to(device)
    each = len(bank.index) // len(cache)
    bar = alphas_cumprod().to(device)
    batch = share(recipe.unet.batch)

    def loss(step: int, generator: Generator) -> Tensor:
        rows = torch.randint(len(cache), (batch,), generator=generator)
        which = bank.index[rows * each + torch.randint(each, (batch,), generator=generator)].to(device)
        # Stratified timesteps: one in each of ``batch`` equal slices, which lowers the gradient's variance.
        t = ((torch.arange(batch) + torch.rand(batch, generator=generator)) / batch * 1000).long().clamp_max(999)
        noise = torch.randn((batch, *target.shape[1:]), generator=generator).to(device)
        keep = (torch.rand(batch, generator=generator) >= recipe.unet.text_dropout).float().to(device)
        # Sizes carry no information here; drawn at random, they teach the U-Net to work at any of them.
        sizes = (torch.rand(batch, 2, generator=generator) * 10 + 2).round() * 32
        ids = torch.cat([sizes, torch.zeros(batch, 2), sizes], 1).to(device)
        rows, t = rows.to(device), t.to(device)
        z = target[rows].float()
        a, s = bar[t].sqrt()[:, None, None, None], (1 - bar[t]).sqrt()[:, None, None, None]
        x = torch.cat([a * z + s * noise, mask[rows].float(), masked[rows].float()], 1)
        predicted = unet(
            x.contiguous(memory_format=torch.channels_last),
            t,
            encoder_hidden_states=bank.tokens[which].float() * keep[:, None, None],
            added_cond_kwargs={"text_embeds": bank.pooled[which].float() * keep[:, None], "time_ids": ids},
        ).sample
        return nn.functional.mse_loss(predicted.float(), a * noise - s * z)

    config = LoopConfig(
        "unet", recipe.unet.images, recipe.unet.batch, recipe.unet.learning_rate, recipe.seed,
        warmup=6_000, ema_half_life=recipe.unet.ema_half_life, minutes=minutes, bf16=bf16,
    )  # fmt: skip
    return unet if train(unet, loss, config, folder, report) else None
