"""Text and image towers, trained contrastively (CLIP, Radford et al. 2021) with attribute heads as a helper loss."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from intarsia.tabletop import ATTRIBUTE_KINDS, Level, level, paraphrase, vocabulary_words
from intarsia.training.examples import ExampleSet
from intarsia.training.loop import LoopConfig, share, train
from intarsia.training.recipe import Recipe
from intarsia.training.tokenizer import build_tokenizer

TOWER_SIDE = 64


def object_crops(
    examples: ExampleSet,
    rows: Sequence[int],
    generator: Generator | None = None,
    *,
    margin: tuple[float, float] = (1.1, 1.7),
    side: int = TOWER_SIDE,
    flip: bool = True,
) -> Tensor:
    """Square crops (B, 3, side, side) in [-1, 1] around the target's visible mask.

    ``margin``: how much wider than the object's longer side the crop is; drawn per crop, with a little jitter, when
    a generator is given, else its mean and centred.
    """
    n = len(rows)
    noise = torch.rand(n, 4, generator=generator) if generator is not None else torch.full((n, 4), 0.5)
    height, width = examples.silhouette.shape[1:]
    theta = torch.zeros(n, 2, 3)
    for i, row in enumerate(rows):
        mask = examples.silhouette[row]
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, bottom, left, right = ys[0], ys[-1] + 1, xs[0], xs[-1] + 1
        wide = margin[0] + (margin[1] - margin[0]) * float(noise[i, 0])
        box = max(bottom - top, right - left)
        jitter = (noise[i, 1:3] - 0.5) * (wide - 1.0) * 0.8
        theta[i, 0, 0] = box * wide / width * (-1 if flip and generator is not None and noise[i, 3] < 0.5 else 1)
        theta[i, 1, 1] = box * wide / height
        theta[i, 0, 2] = (left + right + 2 * float(jitter[0]) * box) / width - 1
        theta[i, 1, 2] = (top + bottom + 2 * float(jitter[1]) * box) / height - 1
    pictures = np.ascontiguousarray(examples.present[list(rows)].transpose(0, 3, 1, 2))
    x = torch.from_numpy(pictures).float().div_(127.5).sub_(1)
    grid = functional.affine_grid(theta, [n, 3, side, side], align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def attribute_targets(attributes: Sequence[dict[str, str]], world: Level) -> Tensor:
    """Class indices (B, 7) of each kind, then second and accessory colour; -100 where a picture has none."""
    rows = []
    for a in attributes:
        row = [world.values(kind).index(a[kind]) for kind in ATTRIBUTE_KINDS]
        row += [world.colours.index(a[k]) if k in a else -100 for k in ("second_colour", "accessory_colour")]
        rows.append(row)
    return torch.tensor(rows)


def head_sizes(world: Level) -> list[int]:
    """How many values each of the seven attribute heads tells apart."""
    return [len(world.values(kind)) for kind in ATTRIBUTE_KINDS] + [len(world.colours)] * 2


class AttributeHeads(nn.Module):
    """One linear classifier per attribute kind on an embedding."""

    def __init__(self, width: int, world: Level) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, n) for n in head_sizes(world))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [head(x) for head in self.heads]

    def loss(self, x: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over the kinds; absent attributes do not count."""
        terms = [
            functional.cross_entropy(y, targets[:, i]) for i, y in enumerate(self(x)) if (targets[:, i] >= 0).any()
        ]
        return torch.stack(terms).mean()


def text_config(recipe: Recipe, tower: int, tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig

    t = recipe.towers
    width = t.widths[tower]
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 4,
        num_hidden_layers=t.text_layers[tower] + 1,
        num_attention_heads=max(1, width // 32),
        max_position_embeddings=t.context,
        projection_dim=t.projection,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )


def vision_config(recipe: Recipe, patch: int, layers: int) -> Any:
    from transformers import CLIPVisionConfig

    t = recipe.towers
    return CLIPVisionConfig(
        hidden_size=t.vision_width,
        intermediate_size=t.vision_width * 3,
        num_hidden_layers=layers,
        num_attention_heads=max(1, t.vision_width // 32),
        image_size=TOWER_SIDE,
        patch_size=patch,
        projection_dim=t.projection,
        hidden_act="gelu",
    )


class Towers(nn.Module):
    """Both text towers with their image towers. The first image tower only serves training and is not shipped."""

    def __init__(self, recipe: Recipe, tokenizer: Any, world: Level) -> None:
        super().__init__()
        from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

        t = recipe.towers
        self.text = nn.ModuleList(CLIPTextModelWithProjection(text_config(recipe, i, tokenizer)) for i in (0, 1))
        self.vision = nn.ModuleList(
            [
                CLIPVisionModelWithProjection(vision_config(recipe, 2 * t.patch, max(1, t.vision_layers // 2))),
                CLIPVisionModelWithProjection(vision_config(recipe, t.patch, t.vision_layers)),
            ]
        )
        self.scale = nn.Parameter(torch.full((2,), 2.3))
        self.image_heads = nn.ModuleList(AttributeHeads(t.projection, world) for _ in (0, 1))
        self.text_heads = nn.ModuleList(AttributeHeads(t.projection, world) for _ in (0, 1))

    def loss(self, images: Tensor, tokens: Tensor, targets: Tensor) -> Tensor:
        """Symmetric contrastive loss of both tower pairs plus the attribute heads on both sides."""
        total = torch.zeros(())
        same = torch.arange(len(images))
        for i in (0, 1):
            picture = self.vision[i](pixel_values=images).image_embeds
            words = self.text[i](input_ids=tokens, attention_mask=None).text_embeds
            image_heads: Any = self.image_heads[i]
            text_heads: Any = self.text_heads[i]
            total = total + image_heads.loss(picture, targets) + 0.5 * text_heads.loss(words, targets)
            a, b = functional.normalize(picture, dim=1), functional.normalize(words, dim=1)
            logits = a @ b.T * self.scale[i].exp().clamp_max(60)
            total = total + 0.5 * (functional.cross_entropy(logits, same) + functional.cross_entropy(logits.T, same))
        return total


def tokens_of(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Token ids (B, L) padded to the tokenizer's window."""
    ids: Tensor = tokenizer(
        list(captions),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return ids


def train_towers(
    recipe: Recipe,
    examples: ExampleSet,
    folder: Path,
    *,
    name: str = "towers",
    seed_offset: int = 0,
    minutes: float | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> tuple[Towers, Any] | None:
    """Train towers on object crops and paraphrased captions; returns (towers, tokenizer), or None when out of time."""
    world = level(recipe.level)
    tokenizer = build_tokenizer(vocabulary_words(), recipe.towers.context)
    torch.manual_seed(recipe.seed + seed_offset)
    towers = Towers(recipe, tokenizer, world)
    batch = share(recipe.towers.batch)

    def loss(step: int, generator: Generator) -> Tensor:
        rows = torch.randint(len(examples), (batch,), generator=generator).tolist()
        draw = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        chosen = [examples.attributes[r] for r in rows]
        captions = [paraphrase(a, draw) for a in chosen]
        images = object_crops(examples, rows, generator)
        return towers.loss(images, tokens_of(tokenizer, captions), attribute_targets(chosen, world))

    config = LoopConfig(
        name, recipe.towers.images, recipe.towers.batch, recipe.towers.learning_rate, recipe.seed + seed_offset,
        warmup=3_000, weight_decay=0.05, minutes=minutes,
    )  # fmt: skip
    finished = train(towers, loss, config, folder, report)
    return (towers, tokenizer) if finished else None


@torch.no_grad()
def zero_shot_accuracy(
    towers: Towers, tokenizer: Any, examples: ExampleSet, world: Level, tower: int = 1
) -> dict[str, float]:
    """Share of pictures whose attribute is named right by nearest text, per kind (held-out examples)."""
    images = torch.cat(
        [
            functional.normalize(
                towers.vision[tower](
                    pixel_values=object_crops(examples, list(range(s, min(s + 64, len(examples)))))
                ).image_embeds,
                dim=1,
            )
            for s in range(0, len(examples), 64)
        ]
    )
    scores: dict[str, float] = {}
    forms = {"class": "a photo of a {}", "colour": "a photo of a {} toy", "material": "a photo of a {} toy"}
    for kind, form in forms.items():
        values = world.values(kind)
        words = towers.text[tower](input_ids=tokens_of(tokenizer, [form.format(v) for v in values])).text_embeds
        best = (images @ functional.normalize(words, dim=1).T).argmax(1).tolist()
        truth = [a[kind] for a in examples.attributes]
        scores[kind] = sum(values[b] == t for b, t in zip(best, truth, strict=True)) / len(truth)
    return scores
