"""Training to insert from a reference: Locate + Assign with the whole U-Net, then Refine, or all of it jointly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Generator, Tensor, nn

from intarsia.adapters import Assign, AssignConfig, Refine, RefineConfig
from intarsia.training.latents import LatentCache
from intarsia.training.loop import LoopConfig, share, train
from intarsia.training.recipe import Recipe, ReferenceRecipe
from intarsia.training.references import ReferenceCache
from intarsia.training.unet import CaptionBank, alphas_cumprod

Phase = Literal["assign", "refine", "joint"]


class ZeroShot(nn.Module):
    """One U-Net with Assign and, from the second stage on, Refine, both injected for good."""

    def __init__(self, unet: Any, assign: Assign, refine: Refine | None = None) -> None:
        super().__init__()
        self.unet, self.assign, self.refine = unet, assign, refine
        assign.inject(unet)
        if refine is not None:
            refine.inject(unet)


def build_zero_shot(recipe: Recipe, unet: Any, phase: Phase, null_pooled: Tensor) -> ZeroShot:
    """New adapters for a U-Net, the same at each call, with that trainable which the phase trains."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 3)
        return _build(recipe, unet, phase, null_pooled)


def _build(recipe: Recipe, unet: Any, phase: Phase, null_pooled: Tensor) -> ZeroShot:
    r, width = recipe.reference, recipe.towers.vision_width
    config = AssignConfig(
        width, int(unet.config.cross_attention_dim),
        tokens=r.tokens, width=r.width, depth=r.depth, heads=r.heads, head_width=r.head_width,
    )  # fmt: skip
    assign = Assign.from_unet(unet, config)
    refine = None
    if phase != "assign":
        trains = cast(Literal["cross_attention", "attention", "all"], r.trains)
        refine = Refine.from_unet(unet, RefineConfig(width, trains, clean_timestep=r.clean_timestep), null_pooled)
    model = ZeroShot(unet, assign, refine)
    # Refine shares the frozen part of the U-Net, so that part may not move while Refine learns.
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(phase == "assign" or r.trains == "all" or ".attentions." in name)
    return model


@dataclass(frozen=True)
class Shown:
    """What each sample of a batch sees, (B,) in {0, 1}: words, Assign, Refine; ``clean``: a reference without noise."""

    words: Tensor
    assign: Tensor
    refine: Tensor
    clean: Tensor


def draw_shown(recipe: ReferenceRecipe, empty: Tensor, generator: Generator) -> Shown:
    """Independent and joint dropout; ``empty`` (B,): samples that have no reference, as of an empty place."""
    count = len(empty)
    kind, detail, clean, alone = torch.rand(4, count, generator=generator)
    neither = kind < recipe.neither
    text_only = (kind >= recipe.neither) & (kind < recipe.neither + recipe.text_only)
    reference_only = kind >= 1 - recipe.reference_only
    words = ~(neither | (reference_only & ~empty))
    reference = ~(neither | text_only | empty)
    refine = reference & (detail >= recipe.refine_drop)
    assign = reference & (detail < 1 - recipe.assign_drop)
    only = (alone < recipe.detail_only) & ~empty
    words, assign, refine = words & ~only, assign & ~only, refine | only
    return Shown(words.float(), assign.float(), refine.float(), clean < recipe.clean)


def rates(recipe: ReferenceRecipe) -> Callable[[str], float]:
    """Factors on the learning rate, by the parameter's name: what is new learns faster than what goes on."""

    def rate(name: str) -> float:
        if name.startswith("unet."):
            return 1.0
        copied = name.startswith("refine.reference.") and ".conv_in." not in name
        return recipe.refine_rate if copied else recipe.adapter_rate

    return rate


def train_zero_shot(
    recipe: Recipe,
    model: ZeroShot,
    phase: Phase,
    cache: LatentCache,
    bank: CaptionBank,
    references: ReferenceCache,
    folder: Path,
    *,
    device: str = "cpu",
    minutes: float | None = None,
    bf16: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
) -> bool:
    """Velocity prediction as in ``train_unet``, with references; False when the minutes ran out.

    The last caption of each sample is a brief one; it is only used where a reference says the rest.
    """
    r = recipe.reference
    torch.manual_seed(recipe.seed + 2)
    model.to(device)
    # Faster by a third, but with two U-Nets that share weights its backward pass crashes on CPUs (torch 2.13).
    layout = torch.channels_last if model.refine is None else torch.contiguous_format
    model.unet.to(memory_format=layout)
    bank = bank.to(device)
    data = [t.to(device) for t in (cache.target, cache.mask, cache.masked)]
    target, mask, masked = data
    shown_data = [t.to(device) for t in (references.assign, references.detail, references.latents, references.cells)]
    features, details, subjects, cells = shown_data
    batch = share(r.batch)
    each = len(bank.index) // len(cache)
    # Without Refine, a sample without Assign has no reference at all.
    drops = r if model.refine is not None else replace(r, assign_drop=r.refine_drop, detail_only=0.0)
    hidden = ~references.cells.flatten(1).any(1)
    bar = alphas_cumprod().to(device)
    size = float(recipe.side)

    def noised(z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        level = bar[t][:, None, None, None]
        return level.sqrt() * z + (1 - level).sqrt() * noise

    def loss(step: int, generator: Generator) -> Tensor:
        rows = torch.randint(len(cache), (batch,), generator=generator)
        shown = draw_shown(drops, cache.empty[rows] | hidden[cache.row[rows]], generator)
        brief = (torch.rand(batch, generator=generator) < 0.5) & (shown.assign + shown.refine > 0)
        which = torch.randint(each - 1, (batch,), generator=generator).masked_fill(brief, each - 1)
        # Stratified timesteps, see train_unet.
        t = ((torch.arange(batch) + torch.rand(batch, generator=generator)) / batch * 1000).long().clamp_max(999)
        noise, other = torch.randn((2, batch, *target.shape[1:]), generator=generator).to(device)
        sizes = (torch.rand(batch, 2, generator=generator) * 10 + 2).round() * 32
        ids = torch.cat([sizes, torch.zeros(batch, 2), sizes], 1).to(device)
        caption, example = bank.index[rows * each + which].to(device), cache.row[rows].to(device)
        rows, t = rows.to(device), t.to(device)
        words, with_assign = shown.words.to(device), shown.assign.to(device)
        with_refine, clean = shown.refine.to(device), shown.clean.to(device)
        z = target[rows].float()
        x = torch.cat([noised(z, noise, t), mask[rows].float(), masked[rows].float()], 1)
        tokens = model.assign.embed(features[example].float())
        model.assign.show(tokens, {group: with_assign for group in ("down", "mid", "up")})
        if model.refine is not None:
            subject = subjects[example].float()
            there = torch.where(clean[:, None, None, None], subject, noised(subject, other, t))
            own = ids.new_tensor([[size, size, 0, 0, size, size]]).expand(batch, -1)
            seen = model.refine.bank(there, t.masked_fill(clean, r.clean_timestep), details[example].float(), own)
            model.refine.show(seen, mask=cells[example], strength=with_refine)
        predicted = model.unet(
            x.contiguous(memory_format=layout),
            t,
            encoder_hidden_states=bank.tokens[caption].float() * words[:, None, None],
            added_cond_kwargs={"text_embeds": bank.pooled[caption].float() * words[:, None], "time_ids": ids},
        ).sample
        level = bar[t][:, None, None, None]
        return nn.functional.mse_loss(predicted.float(), level.sqrt() * noise - (1 - level).sqrt() * z)

    images = {
        "assign": r.assign_images, "refine": r.refine_images, "joint": r.assign_images + r.refine_images,
    }[phase]  # fmt: skip
    config = LoopConfig(
        phase, images, r.batch, r.learning_rate, recipe.seed + 2,
        warmup=3_000, ema_half_life=r.ema_half_life, minutes=minutes, bf16=bf16,
    )  # fmt: skip
    finished = train(model, loss, config, folder, report, rate_of=rates(r))
    model.assign.show(None)
    if model.refine is not None:
        model.refine.show(None)
    return finished
