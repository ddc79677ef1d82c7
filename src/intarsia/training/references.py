"""Cached references: each sample's subject as another example shows it, from another side and in another place."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from intarsia.training.examples import ExampleSet
from intarsia.training.vision import cutout_views


@dataclass
class ReferenceCache:
    """By example, not by sample: ``assign`` and ``detail`` (N, T, F) penultimate and last hidden states of the image
    tower, ``latents`` (N, C, h, w) of the cut-out on white, all half precision; ``cells`` (N, 1, h, w): subject."""

    assign: Tensor
    detail: Tensor
    latents: Tensor
    cells: Tensor

    def __len__(self) -> int:
        return len(self.assign)

    def save(self, path: Path) -> None:
        part = path.with_suffix(".part")
        torch.save(vars(self), part)
        os.replace(part, path)

    @staticmethod
    def load(path: Path) -> ReferenceCache:
        return ReferenceCache(**torch.load(path, weights_only=True))


def is_mirrored(seed: int, row: int) -> bool:
    """Whether ``cache_latents`` mirrored the example: the first number of the row's own generator."""
    return random.Random(f"mask-{seed}-{row}").random() < 0.5


@torch.inference_mode()
def cache_references(
    vae: Any,
    vision: Any,
    examples: ExampleSet,
    seed: int,
    side: int,
    *,
    device: str = "cpu",
    batch: int = 32,
    report: Callable[[int, int], None] | None = None,
) -> ReferenceCache:
    """The reference of example n is its partner n ^ 1: the same subject, drawn in another scene.

    A model that sees the very pixels that it must paint learns to copy them; here it cannot. Where a sample's scene is
    mirrored its reference is mirrored too, since markings have a side.
    """
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    parts: dict[str, list[Tensor]] = {"assign": [], "detail": [], "latents": [], "cells": []}
    count = len(examples) - len(examples) % 2
    for start in range(0, count, batch):
        rows = range(start, min(start + batch, count))
        flip = np.array([is_mirrored(seed, row) for row in rows])
        partners = [row ^ 1 for row in rows]
        tower = cutout_views(examples, partners, flip=flip).pictures
        seen = vision(pixel_values=tower.to(device), output_hidden_states=True)
        parts["assign"].append(seen.hidden_states[-2].half().cpu())
        parts["detail"].append(seen.last_hidden_state.half().cpu())
        own = cutout_views(examples, partners, flip=flip, side=side, margin=(1.0, 1.0))
        parts["latents"].append(vae.encode(own.pictures.to(device)).latent_dist.mean.half().cpu())
        parts["cells"].append(functional.max_pool2d(own.masks, factor) > 0.5)
        if report is not None:
            report(rows[-1] + 1, count)
    return ReferenceCache(**{name: torch.cat(values) for name, values in parts.items()})
