"""Drawn scenes with the truth of removal beside them, and a scorer that sees colours only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tests.engines.quadruplet_scenes import SIDE, draw_scene

from intarsia.engines import pairs
from intarsia.perception import Helpers, Noise, WriterOption

THRESHOLDS = {
    "area": (0.005, None),
    "side": (10.0, None),
    "consensus": (None, 0.3),
    "distance": (None, 0.05),
    "strangeness": (None, 0.1),
    "change": (0.05, None),
    "importance": (None, 0.99999),
}


def draw_pairs(root: Path, count: int) -> tuple[Path, Path]:
    """(scenes with their truth, scenes without each thing)"""
    scenes, without = root / "scenes", root / "without"
    without.mkdir(parents=True)
    for seed in range(count):
        truth = draw_scene(scenes, f"{seed:03d}.png", seed)
        rgb = np.array(Image.open(scenes / f"{seed:03d}.png"))
        draw = np.random.default_rng(seed)
        ground = np.full((SIDE, SIDE, 3), 150, np.uint8) + draw.integers(0, 12, (SIDE, SIDE, 1), np.uint8)
        for number, thing in enumerate(truth.objects):
            removed = np.where(thing.mask[..., None], ground, rgb)
            Image.fromarray(removed).save(pairs.removed_path(without, f"{seed:03d}.png", number))
    return scenes, without


def truth_tools(scenes: Path, without: Path, noise: float = 0.0, seed: int = 0) -> pairs.PairTools:
    chance = Noise(noise, seed)
    return pairs.PairTools(
        Helpers(folder=scenes, noise=chance),
        pairs.RemoverOption(f"truth:{without}", scenes, chance),
        WriterOption("truth", "template", scenes, chance),
    )


class ColourScorer:
    """Embeds a picture as its colours on a coarse grid; a thing is what is colourful in the middle."""

    name = "colours"

    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        cells = [
            np.asarray(Image.fromarray(np.ascontiguousarray(one)).resize((6, 6), Image.Resampling.BOX), np.float32)
            for one in crops
        ]
        return np.stack([one.ravel() / 255 - 0.3 for one in cells])

    def similarity(self, crops: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        colourful = [float(np.ptp(one.reshape(6, 6, 3)[2:4, 2:4], axis=-1).mean()) for one in self.embed(crops)]
        return np.array([[0.25 if "empty" in text else 0.1 + 0.3 * one for text in texts] for one in colourful])
