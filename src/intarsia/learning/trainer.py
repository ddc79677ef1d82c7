"""The training loop: LoRA on keys and values, the reweighted loss, one generator per step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.adapters import SubjectLora
from intarsia.learning.bank import Bank, Sample
from intarsia.learning.checkpoint import Checkpoint
from intarsia.learning.config import LearnConfig
from intarsia.learning.errors import LearningError
from intarsia.learning.interruption import watch_for_interruption
from intarsia.learning.loss import Noised, prediction_error, reweighted, total_loss
from intarsia.learning.memory import wants_checkpointing
from intarsia.learning.progress import LearnProgress, Report
from intarsia.learning.views import seed_of
from intarsia.sampling import make_scheduler

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from intarsia.backbones import Backbone

BankOf = Callable[[int], Bank]
"""Epoch -> the samples that its steps draw from; the same epoch gives the same bank."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The LoRA's weights (diffusers' keys) after `steps_done` steps."""

    lora: dict[str, Tensor]
    steps_done: int


def train(
    backbone: Backbone,
    bank_of: BankOf,
    config: LearnConfig,
    *,
    fingerprint: str,
    folder: Path | None,
    report: Report,
) -> Trained:
    """Run the steps that a checkpoint in `folder` has not done yet; the backbone is left bit-identical.

    Ctrl-C stops after the current step; a checkpoint is written then, as at the end and in between.

    Raises:
        LearningError: the loss is not finite, or the model is in float16.
        ResumeError: the folder holds another run's checkpoint.
    """
    import torch

    require_range(backbone)
    found = Checkpoint.load(folder, fingerprint) if folder is not None and config.resume else None
    lora = SubjectLora(config.rank, config.alpha, config.targets, seed=config.seed)
    if found is not None:
        lora = SubjectLora.from_state(found.lora, {"alpha": repr(config.alpha)})
    step = 0 if found is None else found.step
    steps = _Steps(backbone, config)
    wanted = wants_checkpointing(backbone, config)
    with lora.inject(backbone.unet), _checkpointing(backbone.unet, wanted):
        parameters = lora.trainable_parameters()
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        if found is not None:
            optimizer.load_state_dict(found.optimizer)

        def keep() -> None:
            if folder is not None:
                Checkpoint(fingerprint, step, lora.state_dict(), optimizer.state_dict()).save(folder)

        whole = True
        with watch_for_interruption() as interruption:
            try:
                while step < config.steps and not interruption.requested:
                    bank = bank_of(step // config.refresh if config.refresh else 0)
                    whole = False
                    loss = steps.run(bank, step, optimizer, parameters)
                    step, whole = step + 1, True
                    report(LearnProgress("train", step, config.steps, loss))
                    if step % config.checkpoint_every == 0 and step < config.steps:
                        keep()
            except KeyboardInterrupt:
                pass
            if whole:
                keep()
        state = lora.state_dict()
        optimizer.zero_grad(set_to_none=True)
    return Trained(state, step)


def require_range(backbone: Backbone) -> None:
    """`LearningError` for a model in float16."""
    import torch

    if backbone.dtype is torch.float16:
        raise LearningError("float16 loses small gradients: load the model in bfloat16 or float32 to learn a subject")


class _Steps:
    """One optimiser step; every random number of step n comes from a generator seeded with (seed, n)."""

    def __init__(self, backbone: Backbone, config: LearnConfig) -> None:
        scheduler = make_scheduler(backbone, "ddpm")
        self.backbone = backbone
        self.config = config
        self.alphas_cumprod: Tensor = scheduler.alphas_cumprod.to(backbone.device)
        self.prediction_type = str(scheduler.config.get("prediction_type", "epsilon"))

    def run(self, bank: Bank, step: int, optimizer: Any, parameters: Sequence[Tensor]) -> float:
        """Returns the loss (eq. 8)."""
        import torch

        generator = torch.Generator().manual_seed(seed_of(self.config.seed, "step", step))
        samples = self.draw(bank, generator)
        loss = self.loss(bank, samples, generator)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise LearningError(f"the loss is {value} at step {step}: use a lower learning_rate")
        for group in optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, self.config.max_gradient_norm)
        optimizer.step()
        return value

    def draw(self, bank: Bank, generator: Generator) -> list[Sample]:
        """The step's samples: `batch` of the subject and `regular_batch` regular ones, or a mixture."""
        import torch

        config = self.config

        def some(samples: Sequence[Sample], count: int) -> list[Sample]:
            return [samples[int(row)] for row in torch.randint(len(samples), (count,), generator=generator)]

        chosen = some(bank.subject, config.batch)
        if not bank.regular or config.beta == 0:
            return chosen
        if config.prior == "weight":
            return chosen + some(bank.regular, config.regular_batch)
        others = some(bank.regular, config.batch)
        coins = torch.rand(config.batch, generator=generator) < config.regular_share
        return [other if coin else own for own, other, coin in zip(chosen, others, coins.tolist(), strict=True)]

    def loss(self, bank: Bank, samples: Sequence[Sample], generator: Generator) -> Tensor:
        """The total loss (eq. 8) of some samples, whose sizes may differ."""
        import torch

        losses: list[Tensor] = [torch.empty(0)] * len(samples)
        timesteps = self.timesteps(len(samples), generator)
        for rows in _same_size(samples):
            group = [samples[row] for row in rows]
            for row, value in zip(rows, self.losses(bank, group, timesteps[rows], generator), strict=True):
                losses[row] = value
        regular = torch.tensor([sample.regular for sample in samples], device=self.backbone.device)
        beta = self.config.beta if self.config.prior == "weight" else None
        return total_loss(torch.stack(losses), regular, beta)

    def timesteps(self, count: int, generator: Generator) -> Tensor:
        """(count,) in [0, 1000): uniform; or stratified, one in each of `count` equal slices, shuffled."""
        import torch

        limit = len(self.alphas_cumprod)
        share = torch.rand(count, generator=generator)
        if self.config.stratified_timesteps:
            share = (torch.randperm(count, generator=generator) + share) / count
        return (share * limit).long().clamp_max(limit - 1)

    def losses(self, bank: Bank, samples: Sequence[Sample], timesteps: Tensor, generator: Generator) -> Tensor:
        """The reweighted loss (eq. 7) of each of some samples of one size, (B,)."""
        import torch

        backbone, config = self.backbone, self.config
        device, count = backbone.device, len(samples)
        generators, sample = [generator] * count, config.sample_posterior

        def latents(moments: list[Tensor]) -> Tensor:
            return backbone.latents_from_moments(torch.stack(moments), generators, sample=sample).float()

        clean, masked = latents([s.image for s in samples]), latents([s.masked for s in samples])
        mask = torch.stack([s.mask for s in samples])
        noise = torch.randn(clean.shape, generator=generator).to(device)
        choice = torch.rand(count, generator=generator)
        prompts = [s.prompts[int(float(x) * len(s.prompts))] for s, x in zip(samples, choice, strict=True)]
        level = self.alphas_cumprod[timesteps.to(device)].view(-1, 1, 1, 1)
        noised = Noised(clean, noise, level.sqrt(), (1 - level).sqrt())
        text = bank.conditioning
        prediction = backbone.unet(
            backbone.unet_input(noised.x, mask, masked).to(backbone.dtype),
            timesteps.to(device),
            encoder_hidden_states=text.tokens[prompts].to(device, backbone.dtype),
            added_cond_kwargs=backbone.size_conditioning(
                text.pooled[prompts].to(device, backbone.dtype),
                torch.cat([backbone.time_ids(s.size) for s in samples]),
            ),
        ).sample.float()
        error = prediction_error(prediction, noised, self.prediction_type, config.loss_space)
        return reweighted(error, mask, config.weight_object, config.weight_background)


def _same_size(samples: Sequence[Sample]) -> list[list[int]]:
    """Rows of samples whose latents have the same shape."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, sample in enumerate(samples):
        groups.setdefault(tuple(sample.mask.shape), []).append(row)
    return list(groups.values())


@contextmanager
def _checkpointing(unet: Any, wanted: bool) -> Iterator[None]:
    """Gradient checkpointing in the U-Net (less memory, more time) for the duration."""
    before = bool(getattr(unet, "is_gradient_checkpointing", False))
    if wanted and not before:
        unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if wanted and not before:
            unet.disable_gradient_checkpointing()
