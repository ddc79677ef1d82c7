"""Training of the instruction model: source latents beside the noisy ones, words and source dropped now and then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from intarsia.backbones import Backbone
from intarsia.conditioning import Conditioning, empty_conditioning
from intarsia.sampling import make_scheduler
from intarsia.training.instruct_recipe import InstructRecipe
from intarsia.training.loop import LoopConfig, share, train
from intarsia.training.pair_cache import PairBatch, PairBatches


def draw_dropout(share_of_each: float, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Which samples keep their words and which their source, (count,) bool each, by one uniform number r of a sample:
    with p the share, words are dropped for r < 2p and sources for p <= r < 3p (InstructPix2Pix), so p lose the words
    alone, p both, and p the source alone."""
    r = torch.rand(count, generator=generator)
    return r >= 2 * share_of_each, (r < share_of_each) | (r >= 3 * share_of_each)


def freeze(unet: Any, recipe: InstructRecipe) -> list[str]:
    """Make all parameters trainable but those of ``recipe.frozen``; returns the names of those that are."""
    trained = []
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(not name.startswith(recipe.frozen))
        if parameter.requires_grad:
            trained.append(name)
    return trained


def train_instruct(
    recipe: InstructRecipe,
    unet: Any,
    pairs: PairBatches,
    base: Backbone,
    folder: Path,
    *,
    minutes: float | None = None,
    bf16: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
) -> bool:
    """Train an eight-channel U-Net (see ``start_instructions``) in place on the base's noise schedule and prediction;
    False when the minutes ran out. The same call goes on where it stopped, with the same result."""
    from accelerate import PartialState

    device, process = base.device, PartialState().process_index
    unet.to(device=device, dtype=torch.float32, memory_format=torch.channels_last)
    freeze(unet, recipe)
    null = empty_conditioning(base)
    bar = make_scheduler(base, "ddpm").alphas_cumprod.to(device)
    velocity = base.scheduler_config.get("prediction_type", "epsilon") == "v_prediction"
    count = share(recipe.batch)
    side = recipe.side or base.native_size
    ids = _Sizes(recipe, base, side)

    def loss(step: int, generator: Generator) -> Tensor:
        given = pairs.batch(step, generator, count, process)
        # Stratified timesteps, see train_unet.
        t = (torch.arange(count) + torch.rand(count, generator=generator)) / count * len(bar)
        t = t.long().clamp_max(len(bar) - 1).to(device)
        noise = torch.randn(given.target.shape, generator=generator).to(device)
        words, image = (keep.to(device) for keep in draw_dropout(recipe.dropout, count, generator))
        text = _kept(given.words, null, words)
        sizes = ids.draw(count, generator)
        limit = recipe.micro_batch or count
        total: Tensor | None = None
        for start in range(0, count, limit):
            rows = slice(start, start + limit)
            value = _error(unet, given, text, sizes, t, noise, image, bar, velocity, recipe.object_weight, rows)
            value = value * (len(t[rows]) / count)
            if total is not None:
                total.backward()  # type: ignore[no-untyped-call]
                value = value + total.detach()
            total = value
        assert total is not None
        return total

    config = LoopConfig(
        "instruct", recipe.images, recipe.batch, recipe.learning_rate, recipe.seed,
        warmup=recipe.warmup, floor=recipe.floor, ema_half_life=recipe.ema_half_life, clip=recipe.clip,
        minutes=minutes, bf16=bf16,
    )  # fmt: skip
    return train(unet, loss, config, folder, report)


def _error(
    unet: Any,
    given: PairBatch,
    text: Conditioning,
    sizes: Tensor | None,
    t: Tensor,
    noise: Tensor,
    image: Tensor,
    bar: Tensor,
    velocity: bool,
    object_weight: float,
    rows: slice,
) -> Tensor:
    """Mean squared error of some rows; where the pictures differ it counts ``object_weight`` times."""
    a, s = bar[t[rows]].sqrt()[:, None, None, None], (1 - bar[t[rows]]).sqrt()[:, None, None, None]
    z, noise = given.target[rows], noise[rows]
    x = torch.cat([a * z + s * noise, given.source[rows] * image[rows, None, None, None]], 1)
    added = None if sizes is None else {"text_embeds": text.pooled[rows], "time_ids": sizes[rows]}
    predicted = unet(
        x.contiguous(memory_format=torch.channels_last),
        t[rows],
        encoder_hidden_states=text.tokens[rows],
        added_cond_kwargs=added,
    ).sample
    error = nn.functional.mse_loss(predicted.float(), a * noise - s * z if velocity else noise, reduction="none")
    weight = (1 + (object_weight - 1) * given.mask[rows]).expand_as(error)
    return (weight * error).sum() / weight.sum()


def _kept(words: Conditioning, null: Conditioning, keep: Tensor) -> Conditioning:
    tokens = torch.where(keep[:, None, None], words.tokens, null.tokens.to(words.tokens))
    return Conditioning(tokens, torch.where(keep[:, None], words.pooled, null.pooled.to(words.pooled)))


class _Sizes:
    """SDXL's size conditioning of a batch, None for a U-Net without it."""

    def __init__(self, recipe: InstructRecipe, base: Backbone, side: int) -> None:
        self.wanted, self.random = base.has_size_conditioning, recipe.random_sizes
        self.side, self.device = side, base.device

    def draw(self, count: int, generator: Generator) -> Tensor | None:
        if not self.wanted:
            return None
        sizes = torch.full((count, 2), float(self.side))
        if self.random:
            # As the miniature's training draws them: one to six times the side, by halves.
            sizes = (torch.rand(count, 2, generator=generator) * 10 + 2).round() * (self.side / 2)
        return torch.cat([sizes, torch.zeros(count, 2), sizes], 1).to(self.device)
