"""What a training step keeps for its backward pass, and whether that fits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from intarsia.adapters import SubjectLora
from intarsia.backbones import bytes_of, count_unet_bytes, free_memory
from intarsia.learning.config import LearnConfig
from intarsia.learning.errors import LearningError

if TYPE_CHECKING:
    import torch

    from intarsia.backbones import Backbone

MARGIN = 1 << 29
"""Kept free beside what is counted, besides a tenth of that: gradients, work spaces, one block's recomputation."""


def count_saved_bytes(
    unet: Any,
    batch: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    targets: Sequence[str] = ("to_k", "to_v"),
    *,
    rank: int = 4,
    checkpointing: bool = False,
    text_tokens: int = 77,
) -> int:
    """Bytes that a forward pass over `batch` latents of `height` x `width` cells keeps for the backward pass of a LoRA
    on `targets`: distinct storages, parameters aside, attention as fused kernels keep it. Counted on a copy without
    numbers; `unet` is only looked at.
    """

    def prepare(copy: Any) -> None:
        SubjectLora(rank, targets=targets).inject(copy)

    counted = count_unet_bytes(
        unet, batch, height, width, dtype, prepare=prepare, checkpointing=checkpointing, text_tokens=text_tokens
    )
    return counted.saved


def wants_checkpointing(backbone: Backbone, config: LearnConfig, free: int | None = None) -> bool:
    """As the config says; where it leaves it open, whether a step's saved activations do not fit into the `free` bytes
    of the device (default: those there are now, with the U-Net in place). Not known: no checkpointing."""
    if config.gradient_checkpointing is not None:
        return config.gradient_checkpointing
    free = free_memory(backbone.device).free if free is None else free
    return free is not None and 1.1 * _saved(backbone, config) + MARGIN > free


def require_room(backbone: Backbone, config: LearnConfig) -> None:
    """That a backbone's whole U-Net can be on its device and be trained there; a CPU takes what it gets.

    Raises:
        LearningError: not even with gradient checkpointing.
    """
    offloaded = backbone.execution_device is not None
    if backbone.device.type == "cpu" and not offloaded:
        return
    free, weights = free_memory(backbone.device).free, bytes_of(backbone.unet)
    there = not offloaded or next(backbone.unet.parameters()).device == backbone.device
    saved = partial(_saved, backbone, config, checkpointing=config.gradient_checkpointing is not False)
    if free is not None and free + (weights if there else 0) < (wanted := weights + saved()):
        instead = "use a smaller batch, a smaller model, or device cpu"
        raise LearningError(
            f"learning needs at least {wanted / 1e9:.1f} GB of {backbone.device.type} memory for the U-Net and one "
            f"step (counted), and {(free + (weights if there else 0)) / 1e9:.1f} GB is there for it: "
            f"{instead if offloaded else f'use memory model, {instead[4:]}'}"
        )


def _saved(backbone: Backbone, config: LearnConfig, *, checkpointing: bool = False) -> int:
    """Of the samples of one step, all of the model's native size."""
    beside = config.prior == "weight" and config.beta > 0 and config.regular_images > 0
    batch, cells = config.batch + (config.regular_batch if beside else 0), int(backbone.unet.config.sample_size)
    return count_saved_bytes(
        backbone.unet,
        batch,
        cells,
        cells,
        backbone.dtype,
        config.targets,
        rank=config.rank,
        checkpointing=checkpointing,
    )
