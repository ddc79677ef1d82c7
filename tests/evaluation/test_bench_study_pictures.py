"""The scene as the blind page shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from intarsia.evaluation.bench.picture_files import upright_size
from intarsia.evaluation.bench.study_pictures import scene_png


def test_the_outline_is_at_the_masks_border_also_at_the_pictures_edge(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "scene.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[20:44, 40:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "shown.png").write_bytes(scene_png(tmp_path / "scene.png", tmp_path / "mask.png"))
    shown = np.asarray(Image.open(tmp_path / "shown.png"))
    white = (shown == 255).all(-1)
    assert white[20:44, 40].all() and white[20:44, 63].all() and white[20, 40:].all()
    assert not white[mask == 0].any() and not white[22:42, 42:62].any()


def test_a_scene_that_lies_on_its_side_is_shown_upright(tmp_path: Path) -> None:
    turned = Image.new("RGB", (40, 60), "red")
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "scene.png", exif=turned.getexif())
    mask = Image.new("L", (60, 40))
    mask.paste(255, (30, 10, 50, 30))
    mask.save(tmp_path / "mask.png")
    assert upright_size(tmp_path / "scene.png") == (60, 40)
    (tmp_path / "shown.png").write_bytes(scene_png(tmp_path / "scene.png", tmp_path / "mask.png"))
    shown = np.asarray(Image.open(tmp_path / "shown.png"))
    assert shown.shape == (40, 60, 3) and (shown[10, 30:50] == 255).all() and (shown[20, 40] == (255, 0, 0)).all()
