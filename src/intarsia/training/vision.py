"""More training of the image tower that ships: words stay frozen, and every view must also find its own subject."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from intarsia.tabletop import Level, level, paraphrase
from intarsia.training.examples import ExampleSet
from intarsia.training.loop import LoopConfig, share, train
from intarsia.training.recipe import Recipe
from intarsia.training.towers import (
    TOWER_SIDE,
    AttributeHeads,
    Towers,
    attribute_targets,
    object_crops,
    tokens_of,
)


@dataclass(frozen=True)
class Views:
    """``pictures`` (B, 3, s, s) in [-1, 1]: the object on white; ``masks`` (B, 1, s, s) in [0, 1]."""

    pictures: Tensor
    masks: Tensor


def cutout_views(
    examples: ExampleSet,
    rows: Sequence[int],
    *,
    side: int = TOWER_SIDE,
    margin: tuple[float, float] = (1.02, 1.02),
    flip: npt.NDArray[np.bool_] | None = None,
    generator: Generator | None = None,
) -> Views:
    """The visible object of each row, cut out on white, centred in a square ``margin`` times its longer side.

    ``flip``: which rows are mirrored; with a generator the margin is drawn between its two ends.
    """
    n = len(rows)
    height, width = examples.silhouette.shape[1:]
    wide = torch.rand(n, generator=generator) if generator is not None else torch.full((n,), 0.5)
    theta = torch.zeros(n, 2, 3)
    for i, row in enumerate(rows):
        mask = examples.silhouette[row]
        if not mask.any():  # wholly hidden: white
            mask = np.ones_like(mask)
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, bottom, left, right = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
        box = max(bottom - top, right - left) * (margin[0] + (margin[1] - margin[0]) * float(wide[i]))
        theta[i, 0, 0] = box / width * (-1 if flip is not None and flip[i] else 1)
        theta[i, 1, 1] = box / height
        theta[i, 0, 2] = (left + right) / width - 1
        theta[i, 1, 2] = (top + bottom) / height - 1
    pixels = np.ascontiguousarray(examples.present[list(rows)].transpose(0, 3, 1, 2))
    masks = torch.from_numpy(examples.silhouette[list(rows)])[:, None].float()
    white = torch.from_numpy(pixels).float().div_(127.5).sub_(1) * masks + (1 - masks)
    grid = functional.affine_grid(theta, [n, 3, side, side], align_corners=False)
    # Shifted so that white is zero: what lies beyond the picture is then white, too.
    seen = functional.grid_sample(torch.cat([white - 1, masks], 1), grid, align_corners=False)
    return Views(seen[:, :3] + 1, seen[:, 3:])


class ImageTower(nn.Module):
    """The shipped image tower with the heads that only serve its training."""

    def __init__(self, towers: Towers, recipe: Recipe, world: Level) -> None:
        super().__init__()
        self.vision: Any = towers.vision[1]
        self.scale = nn.Parameter(towers.scale.detach()[1:].clone())
        self.heads = AttributeHeads(recipe.towers.projection, world)
        self.heads.load_state_dict(towers.image_heads[1].state_dict())
        self.identity = nn.Linear(recipe.towers.vision_width, 64, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(2.3))

    def loss(self, pictures: Tensor, words: Tensor, targets: Tensor) -> Tensor:
        """Contrastive against frozen words (CLIP), attribute heads, and subject against subject.

        ``pictures`` (2 B, 3, s, s): B subjects, then the same B seen elsewhere; ``words`` (2 B, P) unit length.
        """
        seen = self.vision(pixel_values=pictures)
        total = self.heads.loss(seen.image_embeds, targets)
        logits = functional.normalize(seen.image_embeds, dim=1) @ words.T * self.scale.exp().clamp_max(60)
        same = torch.arange(len(pictures))
        total = total + 0.25 * (functional.cross_entropy(logits, same) + functional.cross_entropy(logits.T, same))
        pooled = self.vision.vision_model.post_layernorm(seen.last_hidden_state[:, 0])
        a, b = functional.normalize(self.identity(pooled), dim=1).chunk(2)
        pairs = a @ b.T * self.sharpness.exp().clamp_max(60)
        same = same[: len(a)]
        return total + 0.5 * (functional.cross_entropy(pairs, same) + functional.cross_entropy(pairs.T, same))


def train_vision(
    recipe: Recipe,
    towers: Towers,
    tokenizer: Any,
    examples: ExampleSet,
    folder: Path,
    *,
    minutes: float | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> bool:
    """Continue ``towers.vision[1]`` in place; half of the views are cut out on white, as references are.

    The text towers do not move, so what was trained on their words stays valid. False when the minutes ran out.
    """
    world = level(recipe.level)
    towers.requires_grad_(False)
    towers.vision[1].requires_grad_(True)
    torch.manual_seed(recipe.seed + 1)
    tower = ImageTower(towers, recipe, world)
    text: Any = towers.text[1]
    text.eval()
    batch = share(recipe.vision.batch)

    def loss(step: int, generator: Generator) -> Tensor:
        drawn: Tensor = torch.randint(len(examples) // 2, (batch // 2,), generator=generator).unique()  # type: ignore[no-untyped-call]
        rows = (2 * drawn).tolist() + (2 * drawn + 1).tolist()
        draw = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        chosen = [examples.attributes[r] for r in rows]
        with torch.no_grad():
            words = text(input_ids=tokens_of(tokenizer, [paraphrase(a, draw) for a in chosen])).text_embeds
        scenes = object_crops(examples, rows, generator, flip=False)
        white = cutout_views(examples, rows, margin=(1.0, 1.3), generator=generator).pictures
        cut = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
        return tower.loss(
            torch.where(cut, white, scenes), functional.normalize(words, dim=1), attribute_targets(chosen, world)
        )

    v = recipe.vision
    config = LoopConfig(
        "vision", v.images, v.batch, v.learning_rate, recipe.seed + 1, warmup=3_000, weight_decay=0.05, minutes=minutes
    )
    return train(tower, loss, config, folder, report)


@torch.no_grad()
def tower_top1(vision: Any, examples: ExampleSet, among: int = 50) -> float:
    """How often a cut-out finds the other view of its subject among ``among`` by mean penultimate patch features.

    A measure of what the frozen tower tells a resampler beyond words.
    """
    features = []
    for start in range(0, len(examples), 64):
        rows = list(range(start, min(start + 64, len(examples))))
        seen = vision(pixel_values=cutout_views(examples, rows).pictures, output_hidden_states=True)
        features.append(functional.normalize(seen.hidden_states[-2][:, 1:].mean(1), dim=1))
    a, b = torch.cat(features)[0::2], torch.cat(features)[1::2]
    right = 0
    for i in range(len(a)):
        pool = [(i + j) % len(b) for j in range(min(among, len(b)))]
        right += int((a[i] @ b[pool].T).argmax() == 0)
    return right / len(a)
