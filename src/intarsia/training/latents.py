"""Cached training samples of the inpainting U-Net: latents of target and masked picture, mask, and what it shows."""

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
from intarsia.training.masks import Bools, draw_mask
from intarsia.training.vae import to_tensor


@dataclass
class LatentCache:
    """N samples: ``target`` and ``masked`` (N, C, h, w) half precision, ``mask`` (N, 1, h, w) bool, ``row`` (N,) of the
    example each comes from, ``empty`` (N,): the caption speaks of the background (removal)."""

    target: Tensor
    masked: Tensor
    mask: Tensor
    row: Tensor
    empty: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def save(self, path: Path) -> None:
        part = path.with_suffix(".part")
        torch.save(vars(self), part)
        os.replace(part, path)

    @staticmethod
    def load(path: Path) -> LatentCache:
        return LatentCache(**torch.load(path, weights_only=True))


def _insertion(draw: random.Random, silhouette: Bools, fine: bool) -> Bools:
    shape = (
        draw.choices(("silhouette", "scribble"), (3, 2))[0]
        if fine
        else draw.choices(("box", "bulge"), (3, 2))[0]
    )
    return draw_mask(shape, silhouette, draw)


def _removal(draw: random.Random, silhouette: Bools, full: Bools) -> Bools:
    kind = draw.random()
    if kind < 0.4:
        return draw_mask("silhouette", full, draw)
    return draw_mask("box", full if kind < 0.7 else silhouette, draw)


@torch.no_grad()
def cache_latents(
    vae: Any,
    examples: ExampleSet,
    seed: int,
    *,
    device: str = "cpu",
    report: Callable[[int, int], None] | None = None,
) -> LatentCache:
    """Encode three samples an example: two insertions (a coarse and a fine mask) and one removal.

    The target of an insertion shows the object inside the mask and the scene *without* it outside, which is exactly
    what a user's untouched background looks like: no shadow outside the mask betrays the object.
    """
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    targets, maskeds, masks, rows, empties = [], [], [], [], []

    def encode(pictures: list[Any]) -> Tensor:
        x = to_tensor(np.stack(pictures)).to(device)
        mean: Tensor = vae.encode(x).latent_dist.mean
        return mean.contiguous().half().cpu()

    chunk = 16
    for start in range(0, len(examples), chunk):
        shown, hidden, cells = [], [], []
        for row in range(start, min(start + chunk, len(examples))):
            draw = random.Random(f"mask-{seed}-{row}")
            present, absent = examples.present[row], examples.absent[row]
            silhouette, full = examples.silhouette[row], examples.full[row]
            if draw.random() < 0.5:
                present, absent, silhouette, full = (
                    present[:, ::-1],
                    absent[:, ::-1],
                    silhouette[:, ::-1],
                    full[:, ::-1],
                )
            plans = [
                (_insertion(draw, silhouette, False), False),
                (_insertion(draw, silhouette, True), False),
                (_removal(draw, silhouette, full), True),
            ]
            for mask, empty in plans:
                shown.append(absent if empty else np.where(mask[..., None], present, absent))
                # 127.5 would be exact mid-grey; the U-Net sees the hole as exact zero, see below.
                hidden.append(np.where(mask[..., None], np.uint8(0), absent))
                cells.append(mask)
                rows.append(row)
                empties.append(empty)
        hole = torch.from_numpy(np.stack(cells))[:, None]
        targets.append(encode(shown))
        x = to_tensor(np.stack(hidden)).masked_fill(hole, 0.0).to(device)
        maskeds.append(vae.encode(x).latent_dist.mean.contiguous().half().cpu())
        masks.append(functional.max_pool2d(hole.float(), factor) > 0)
        if report is not None:
            report(min(start + chunk, len(examples)), len(examples))
    return LatentCache(
        torch.cat(targets), torch.cat(maskeds), torch.cat(masks), torch.tensor(rows), torch.tensor(empties)
    )
