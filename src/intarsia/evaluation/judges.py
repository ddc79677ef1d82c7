"""The held-out judges as they ship: what a picture shows inside a mask, and whose portrait it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from intarsia.errors import IntarsiaError
from intarsia.evaluation.image_judge import ImageJudge
from intarsia.tabletop import ATTRIBUTE_KINDS, Level, level
from intarsia.training import JUDGE_SIDE, AttributeJudge, InstanceJudge

Rgb = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
HEADS = (*ATTRIBUTE_KINDS, "second_colour", "accessory_colour")


class JudgesError(IntarsiaError):
    """The judges' weights are missing or belong to another version."""


def crop_around(rgb: Rgb, mask: Bools, margin: float = 1.15) -> Tensor:
    """A square (3, 64, 64) in [-1, 1] around the mask's bounding box; beyond the picture its border repeats."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    top, bottom, left, right = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    side = max(bottom - top, right - left) * margin
    theta = torch.tensor(
        [[[side / width, 0, (left + right) / width - 1], [0, side / height, (top + bottom) / height - 1]]],
        dtype=torch.float32,
    )
    x = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None].float() * 2 - 1
    # Enlarging first by the exact factor would alias when the crop is larger than the judge's side, so blur then.
    shrink = int(side // JUDGE_SIDE)
    if shrink > 1:
        x = functional.avg_pool2d(x, shrink, ceil_mode=True)
    grid = functional.affine_grid(theta, [1, 3, JUDGE_SIDE, JUDGE_SIDE], align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)[0]


@dataclass(frozen=True)
class Judges:
    """Networks that measure results and never condition them; ``hash`` is the SHA-256 of their weights' files, the
    image judge aside. That one is loaded from ``folder`` when first asked for."""

    attributes: AttributeJudge
    instances: InstanceJudge
    level: Level
    hash: str
    folder: Path | None = None

    @staticmethod
    def load(folder: Path | None = None) -> Judges:
        """The judges of the package, or of a run's ``weights/judges`` folder."""
        from safetensors.torch import load_file

        folder = Path(str(files("intarsia") / "weights" / "judges")) if folder is None else folder
        path = folder / "config.json"
        if not path.exists():
            raise JudgesError(f"no judges in {folder}; train them with: python -m intarsia.training --stage judges")
        recipe: dict[str, Any] = json.loads(path.read_text())["recipe"]
        world, sizes = level(recipe["level"]), recipe["evaluators"]
        attributes = AttributeJudge(sizes["width"], world)
        instances = InstanceJudge(sizes["width"], sizes["embedding"])
        digest = hashlib.sha256()
        for name, module in (("attributes", attributes), ("instances", instances)):
            file = folder / f"{name}.safetensors"
            weights = load_file(file)
            module.load_state_dict({k: v.float() for k, v in weights.items()})
            module.eval().requires_grad_(False)
            digest.update(file.read_bytes())
        return Judges(attributes, instances, world, digest.hexdigest(), folder)

    def named(self, pictures: Sequence[Rgb], masks: Sequence[Bools], margin: float = 1.15) -> list[dict[str, str]]:
        """What each picture shows inside its mask, per head of :data:`HEADS`."""
        crops = torch.stack([crop_around(p, m, margin) for p, m in zip(pictures, masks, strict=True)])
        values = [self.level.values(kind) for kind in ATTRIBUTE_KINDS] + [self.level.colours] * 2
        return [
            {head: values[i][int(row[i])] for i, head in enumerate(HEADS)} for row in self.attributes.predict(crops)
        ]

    def portraits(self, pictures: Sequence[Rgb], masks: Sequence[Bools], margin: float = 1.15) -> Tensor:
        """Instance embeddings (N, D), unit length."""
        crops = torch.stack([crop_around(p, m, margin) for p, m in zip(pictures, masks, strict=True)])
        with torch.no_grad():
            embedded: Tensor = self.instances(crops)
        return embedded

    @cached_property
    def image(self) -> ImageJudge:
        """The held-out image tower. Raises ImageJudgeError."""
        if self.folder is None:
            raise JudgesError("these judges were not loaded from a folder, so there is no image judge: use Judges.load")
        return ImageJudge.load(self.folder / "image.safetensors")

    def looks(self, pictures: Sequence[Rgb], masks: Sequence[Bools], margin: float = 1.15) -> Tensor:
        """The image judge's embeddings (N, D), unit length. Raises ImageJudgeError."""
        return self.image.embed([crop_around(p, m, margin) for p, m in zip(pictures, masks, strict=True)])
