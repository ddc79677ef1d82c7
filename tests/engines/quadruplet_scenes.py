"""Small drawn scenes with their truth, and a scorer that looks at pixels only: for tests of the quadruplet engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from intarsia.perception import Truth, TruthObject, truth_path

SIDE = 96
COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (40, 70, 220), "yellow": (230, 210, 40)}
NOUNS = ("ball", "box", "duck", "vase")
WORDS = {"nouns": NOUNS, "colour": tuple(COLOURS), "material": (), "pattern": (), "accessories": ("hat", "scarf")}
THRESHOLDS = {
    "box_score": (0.4, None),
    "side": (10.0, None),
    "predicted_iou": (0.86, None),
    "mask_box_iou": (0.75, None),
    "mask_stability": (0.7, None),
    "edge_ratio": (1.2, None),
    "overlap": (None, 0.3),
    "twin_iou": (None, 0.7),
    "noun_agrees": (1.0, None),
    "captions_agree": (0.99, None),
    "second_tag": (0.3, None),
    "caption_score": (0.5, None),
    "colour_margin": (0.0, None),
}


def draw_scene(folder: Path, name: str, seed: int) -> Truth:
    """Two or three discs and boxes of different colours apart from each other; the ball's hat is a word only."""
    draw = np.random.default_rng(seed)
    rgb = np.full((SIDE, SIDE, 3), 150, np.uint8) + draw.integers(0, 12, (SIDE, SIDE, 1), np.uint8)
    ys, xs = np.indices((SIDE, SIDE))
    things = []
    colours, nouns = draw.permutation(list(COLOURS)), draw.permutation(NOUNS)
    for number in range(int(draw.integers(2, 4))):
        w, h = (int(side) for side in draw.integers(20, 28, 2))
        x, y = 2 + 31 * number + int(draw.integers(0, 30 - w + 1)), int(draw.integers(4, SIDE - h - 4))
        mask = (xs >= x) & (xs < x + w) & (ys >= y) & (ys < y + h)
        if number % 2:
            mask &= ((xs + 0.5 - x - w / 2) / (w / 2)) ** 2 + ((ys + 0.5 - y - h / 2) / (h / 2)) ** 2 <= 1
        colour = str(colours[number])
        rgb[mask] = COLOURS[colour]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
        attributes = {"colour": colour} | ({"accessories": "white hat"} if number == 2 else {})
        things.append(TruthObject((str(nouns[number]),), attributes, (colour,), box, mask))
    truth = Truth((SIDE, SIDE), tuple(things), ("table", "wall"), WORDS)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    truth_path(path).write_text(truth.to_json())
    return truth


def draw_scenes(folder: Path, count: int) -> Path:
    for number in range(count):
        draw_scene(folder, f"{number:03d}.png", number)
    return folder


class PixelScorer:
    """Says how near the middle pixels are to the colour that a text names; knows nothing else."""

    name = "pixels"

    def similarity(self, crops: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        rows = []
        for pixels in crops:
            height, width = pixels.shape[:2]
            middle = pixels[height // 3 : -(height // 3), width // 3 : -(width // 3)].reshape(-1, 3).mean(axis=0)
            rows.append([0.3 - self._distance(middle, text) / 1000 for text in texts])
        return np.array(rows, np.float32)

    def _distance(self, middle: np.ndarray, text: str) -> float:
        named = [np.array(COLOURS[word]) for word in text.split() if word in COLOURS]
        return float(np.abs(middle - named[0]).max()) if named else 100.0
