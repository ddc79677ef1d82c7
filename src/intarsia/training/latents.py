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


def _coarse(draw: random.Random, silhouette: Bools, full: Bools) -> Bools:
    """A box or bulge; about half of them reach over the shadow, as a careful user's would for a removal."""
    around = full if draw.random() < 0.5 else silhouette
    return draw_mask(draw.choices(("box", "bulge"), (3, 2))[0], around, draw)


def _fine(draw: random.Random, silhouette: Bools, full: Bools) -> Bools:
    around = full if draw.random() < 0.3 else silhouette
    return draw_mask(draw.choices(("silhouette", "scribble"), (3, 2))[0], around, draw)


@torch.inference_mode()
def cache_latents(
    vae: Any,
    examples: ExampleSet,
    seed: int,
    *,
    device: str = "cpu",
    batch: int = 8,
    report: Callable[[int, int], None] | None = None,
) -> LatentCache:
    """Encode three samples an example: insertions under a coarse and a fine mask, and a removal under one of them.

    The target of an insertion shows the object inside the mask and the scene *without* it outside, which is exactly
    what a user's untouched background looks like: no shadow outside the mask betrays the object. Examples whose object
    is hidden at this side have no sample.
    """
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    targets, maskeds, masks, rows, empties = [], [], [], [], []

    def encode(x: Tensor) -> Tensor:
        parts: Any = x.split(batch)  # type: ignore[no-untyped-call]
        return torch.cat([vae.encode(part.to(device)).latent_dist.mean.half().cpu() for part in parts])

    chunk = 16
    for start in range(0, len(examples), chunk):
        shown, holes, behind, chosen = [], [], [], []
        count = min(chunk, len(examples) - start)
        kept = [r for r in range(start, start + count) if examples.silhouette[r].any()]
        for row in kept:
            draw = random.Random(f"mask-{seed}-{row}")
            present, absent = examples.present[row], examples.absent[row]
            silhouette, full = examples.silhouette[row], examples.full[row]
            if draw.random() < 0.5:
                present, absent, silhouette, full = (a[:, ::-1] for a in (present, absent, silhouette, full))
            for mask in (_coarse(draw, silhouette, full), _fine(draw, silhouette, full)):
                shown.append(np.where(mask[..., None], present, absent))
                behind.append(absent)
                holes.append(mask)
            shown.append(absent)
            # Removal is asked for under a coarse mask more often than under a fine one.
            chosen.append(0 if draw.random() < 0.65 else 1)
            rows += [row] * 3
            empties += [False, False, True]
        hole = torch.from_numpy(np.stack(holes))[:, None]
        # The U-Net sees the hole as exact zero, mid-grey, as at inference.
        masked = encode(to_tensor(np.stack(behind)).masked_fill(hole, 0.0))
        cells = functional.max_pool2d(hole.float(), factor) > 0
        first = torch.arange(len(kept)) * 2
        order = torch.stack([first, first + 1, first + torch.tensor(chosen)], 1).reshape(-1)
        targets.append(encode(to_tensor(np.stack(shown))))
        maskeds.append(masked[order])
        masks.append(cells[order])
        if report is not None:
            report(start + count, len(examples))
    return LatentCache(
        torch.cat(targets), torch.cat(maskeds), torch.cat(masks), torch.tensor(rows), torch.tensor(empties)
    )
