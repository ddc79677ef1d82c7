"""Small pictures, annotations as COCO has them, and two subjects' photos, made of noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from intarsia.evaluation.bench.build_coco import CocoBuild, build_coco
from intarsia.evaluation.bench.coco import PlaceFilter
from intarsia.evaluation.bench.manifest import Benchmark

SIDE = (96, 120)
"""Height and width of the pictures."""
SMALL = PlaceFilter(least_picture_side=64, least_box_side=6)
BOXES = {"small": [10.2, 20.6, 10.0, 9.0], "medium": [30.0, 30.0, 20.0, 25.0], "large": [50.0, 10.0, 50.0, 40.0]}


def rectangle(box: list[float]) -> list[list[float]]:
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


class World:
    """A folder with COCO's pictures and annotations, and two subjects' photos."""

    def __init__(self, root: Path, pictures: int = 12) -> None:
        self.root, self.pictures, self.photos = root, root / "val2017", root / "dreambooth"
        self.pictures.mkdir()
        self.content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
        for number in range(pictures):
            self.picture(number)
            for box in BOXES.values():
                self.annotation(number, box)
        for name in ("duck_toy", "my_mug2"):
            (self.photos / name).mkdir(parents=True)
            for number in range(3):
                self.noise(number, (60, 40)).save(self.photos / name / f"{number:02d}.jpg")

    def noise(self, seed: int, size: tuple[int, int] = SIDE) -> Image.Image:
        values = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
        return Image.fromarray(values)

    def picture(self, number: int, **entry: Any) -> Path:
        path = self.pictures / f"{number:06d}.jpg"
        self.noise(number).save(path)
        known = {"id": number, "file_name": path.name, "height": SIDE[0], "width": SIDE[1]}
        self.content["images"].append({**known, **entry})
        return path

    def annotation(self, picture: int, box: Any, **more: Any) -> dict[str, Any]:
        number = 100 + len(self.content["annotations"])
        line = {"id": number, "image_id": picture, "category_id": 1, "bbox": box, "iscrowd": 0}
        self.content["annotations"].append({**line, "segmentation": rectangle(box), **more})
        return self.content["annotations"][-1]

    def build(self, name: str = "bench", **options: Any) -> CocoBuild:
        path = self.root / "instances.json"
        path.write_text(json.dumps(self.content))
        given = {"annotations": path, "pictures": self.pictures, "photos": self.photos, "wanted": SMALL}
        return build_coco(self.root / name, **{**given, "per_subject": 8, **options})

    def open(self, name: str = "bench") -> Benchmark:
        return Benchmark.open(self.root / name)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Of every file, by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
