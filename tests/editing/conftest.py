"""One tiny studio for all tests of the room, and pictures."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest_tiny import save_tiny, tiny_backbone

from intarsia.backbones import Backbone
from intarsia.editing import Studio
from intarsia.imaging import Picture
from intarsia.learning import Subject


@lru_cache(maxsize=1)
def tiny_studio() -> Studio:
    return Studio(tiny_backbone())


def noise_picture(
    height: int = 72, width: int = 96, channels: int = 3, dtype: Any = np.uint8, seed: int = 0
) -> Picture:
    top = np.iinfo(dtype).max
    values = np.random.default_rng(seed).integers(0, top, (height, width, channels), endpoint=True, dtype=dtype)
    return Picture.from_array(values)


@pytest.fixture
def studio() -> Studio:
    return tiny_studio()


@pytest.fixture
def scene() -> Picture:
    return noise_picture()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(tiny_backbone(), folder)
    return folder


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "masks").mkdir()
    mask = np.zeros((72, 72), np.uint8)
    mask[16:56, 20:52] = 255
    for number in range(2):
        noise_picture(72, 72, seed=number).save(folder / f"{number}.png")
        Picture.from_array(mask).save(folder / "masks" / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def subject(photo_folder: Path) -> Subject:
    """Learned in a few steps; its dictionary is written by hand, so that tests know it."""
    names = photo_folder / "names.yaml"
    names.write_text("colour: [red]\nmaterial: [clay]\n")
    return tiny_studio().learn(
        photo_folder, "duck", preset="smoke", namer=f"yaml:{names}", regular_images=0, learning_rate=0.05
    )


@pytest.fixture(scope="session")
def reference_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for references, for the tiny backbone; they take two."""
    folder = tmp_path_factory.mktemp("adapters") / "reference"
    save_random_reference(folder)
    return folder


def save_random_reference(folder: Path, backbone: Backbone | None = None, *, refine: bool = True) -> None:
    import torch

    from intarsia.adapters import Assign, AssignConfig, Refine, RefineConfig, save_reference

    backbone = tiny_backbone() if backbone is None else backbone
    config = AssignConfig(
        feature_width=16, cross_attention_width=40, tokens=3, width=8, depth=1, heads=2, head_width=4, max_references=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assign = Assign.from_unet(backbone.unet, config)
        detail = Refine.from_unet(backbone.unet, RefineConfig(feature_width=16), torch.randn(1, 24))
    save_reference(folder, assign, detail if refine else None, backbone.hash)


def thing(seed: int = 7, side: int = 40) -> Picture:
    """A photo of a thing that transparency cuts out."""
    pixels = noise_picture(side, side, 4, seed=seed).pixels.copy()
    pixels[..., 3] = 0
    pixels[8:30, 10:34, 3] = 255
    return Picture.from_array(pixels)
