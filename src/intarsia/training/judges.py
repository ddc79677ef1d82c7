"""Held-out judges: networks that only ever measure, trained with another seed than anything that conditions.

``AttributeJudge`` names class, colour, pattern, material, accessory; ``InstanceJudge`` embeds a toy so that other
views of the same one are near.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from intarsia.tabletop import ATTRIBUTE_KINDS, Level, colour_is_right, level
from intarsia.training.examples import ExampleSet
from intarsia.training.loop import LoopConfig, share, train
from intarsia.training.recipe import Recipe
from intarsia.training.towers import TOWER_SIDE, AttributeHeads, attribute_targets, object_crops

MARGIN = (1.05, 1.9)
SEED_OFFSET = 90_001
"""Judges start from another seed than the towers that condition the miniature."""


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm_1 = nn.GroupNorm(8, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm_2 = nn.GroupNorm(8, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.norm_1(self.first(x)))
        return functional.silu(self.norm_2(self.second(y)) + self.skip(x))


class Trunk(nn.Module):
    """Residual convolutions: (B, 3, 64, 64) in [-1, 1] → (B, 6 · width), mean- and max-pooled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2),
            nn.SiLU(),
            _Block(width, 2 * width, 2),
            _Block(2 * width, 3 * width, 2),
            _Block(3 * width, 3 * width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return torch.cat([y.mean((2, 3)), y.amax((2, 3))], 1)


class AttributeJudge(nn.Module):
    """Seven classifiers on one trunk, in the order of :data:`ATTRIBUTE_KINDS`, then second and accessory colour."""

    def __init__(self, width: int, world: Level) -> None:
        super().__init__()
        self.trunk = Trunk(width)
        self.heads = AttributeHeads(6 * width, world)

    def loss(self, x: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = self.heads.loss(self.trunk(x), targets)
        return value

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Most likely value of each of the seven heads: (B, 7) indices."""
        return torch.stack([y.argmax(1) for y in self.heads(self.trunk(x))], 1)


class InstanceJudge(nn.Module):
    """Unit embeddings (B, D) in which pictures of the same subject are near."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.trunk = Trunk(width)
        self.project = nn.Linear(6 * width, embedding)

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.project(self.trunk(x)), dim=1)

    def loss(self, a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
        """Normalised temperature-scaled cross-entropy (Chen et al. 2020) between two views of each subject."""
        logits = self(a) @ self(b).T / temperature
        same = torch.arange(len(a), device=a.device)
        return (functional.cross_entropy(logits, same) + functional.cross_entropy(logits.T, same)) / 2


def _softened(x: Tensor, generator: Generator) -> Tensor:
    """A third of the pictures loses half its resolution: judges must not depend on a renderer's crispness."""
    coarse = functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.33
    return torch.where(chosen, coarse, x)


def train_attribute_judge(
    recipe: Recipe, examples: ExampleSet, folder: Path, *, minutes: float | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> AttributeJudge | None:  # fmt: skip
    """Train the classifier on object crops; None when the minutes ran out."""
    world, e = level(recipe.level), recipe.evaluators
    torch.manual_seed(recipe.seed + SEED_OFFSET)
    judge = AttributeJudge(e.width, world)

    def loss(step: int, generator: Generator) -> Tensor:
        rows = torch.randint(len(examples), (share(e.batch),), generator=generator).tolist()
        x = _softened(object_crops(examples, rows, generator, margin=MARGIN), generator)
        return judge.loss(x, attribute_targets([examples.attributes[r] for r in rows], world))

    config = LoopConfig(
        "judge-attributes", e.attribute_images, e.batch, e.learning_rate, recipe.seed + SEED_OFFSET, minutes=minutes
    )
    return judge if train(judge, loss, config, folder, report) else None


def train_instance_judge(
    recipe: Recipe, examples: ExampleSet, folder: Path, *, minutes: float | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> InstanceJudge | None:  # fmt: skip
    """Train the instance encoder on pairs of scenes that share a subject; None when the minutes ran out."""
    e = recipe.evaluators
    torch.manual_seed(recipe.seed + SEED_OFFSET + 1)
    judge = InstanceJudge(e.width, e.embedding)
    pairs = len(examples) // 2

    def loss(step: int, generator: Generator) -> Tensor:
        drawn = torch.randint(pairs, (share(e.batch) // 2,), generator=generator)
        chosen: Tensor = drawn.unique()  # type: ignore[no-untyped-call]
        x = object_crops(
            examples, (2 * chosen).tolist() + (2 * chosen + 1).tolist(), generator, margin=MARGIN, flip=False
        )
        a, b = _softened(x, generator).chunk(2)
        return judge.loss(a, b)

    config = LoopConfig(
        "judge-instances", e.images, e.batch, e.learning_rate, recipe.seed + SEED_OFFSET + 1, minutes=minutes
    )
    return judge if train(judge, loss, config, folder, report) else None


@torch.no_grad()
def attribute_accuracy(judge: AttributeJudge, examples: ExampleSet, world: Level) -> dict[str, float]:
    """Share right per kind on renders; absent attributes do not count; of an even pattern either colour is right."""
    names = (*ATTRIBUTE_KINDS, "second_colour", "accessory_colour")
    predicted, wanted = [], []
    for start in range(0, len(examples), 64):
        rows = list(range(start, min(start + 64, len(examples))))
        predicted.append(judge.predict(object_crops(examples, rows)))
        wanted.append(attribute_targets([examples.attributes[r] for r in rows], world))
    p, w = torch.cat(predicted), torch.cat(wanted)
    right = p == w
    right[:, 1] = torch.tensor(
        [colour_is_right(a, world.colours[int(c)]) for a, c in zip(examples.attributes, p[:, 1], strict=True)]
    )
    return {
        name: float(right[:, i][w[:, i] >= 0].float().mean()) for i, name in enumerate(names) if (w[:, i] >= 0).any()
    }


@torch.no_grad()
def instance_top1(judge: InstanceJudge, examples: ExampleSet, among: int = 50) -> float:
    """How often one view finds the other view of the same subject among ``among`` subjects."""
    pairs = len(examples) // 2
    embedded = torch.cat(
        [judge(object_crops(examples, list(range(s, min(s + 64, 2 * pairs))))) for s in range(0, 2 * pairs, 64)]
    )
    a, b = embedded[0::2], embedded[1::2]
    right = 0
    for i in range(pairs):
        pool = [(i + j) % pairs for j in range(min(among, pairs))]
        right += int((a[i] @ b[pool].T).argmax() == 0)
    return right / pairs


__all__ = [
    "MARGIN",
    "TOWER_SIDE",
    "AttributeJudge",
    "InstanceJudge",
    "attribute_accuracy",
    "instance_top1",
    "train_attribute_judge",
    "train_instance_judge",
]
