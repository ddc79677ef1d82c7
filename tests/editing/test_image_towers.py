"""Models without an image tower of their own see references through the one that lies with the reference weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.adapters.test_ip_adapter import saved, stock_state
from tests.conftest_tiny import tiny_backbone
from tests.editing.conftest import noise_picture, thing

from intarsia.backbones import BackboneError, find_image_tower
from intarsia.editing import ReferenceModelError, Studio

BOX = "24,16,40,32"
REPOSITORY = ("sdxl_models", "models/image_encoder")
"""Where IP-Adapter's own repository keeps weights and image encoder."""


@pytest.fixture
def studio() -> Studio:
    """The tiny model, but without its image tower."""
    return Studio(tiny_backbone(image_encoder=False))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A stock file and the tower it reads, as in IP-Adapter's repository."""
    (tmp_path / "sdxl_models").mkdir()
    tower: Any = tiny_backbone().image_encoder
    tower.save_pretrained(tmp_path / "models" / "image_encoder")
    return saved(stock_state(tiny_backbone().unet), tmp_path / "sdxl_models")


def painted(studio: Studio, weights: Path, **options: Any) -> Any:
    options = {"box": BOX, "steps": 3, "reference_strength": 1.0} | options
    return studio.insert(noise_picture(), reference=thing(), reference_model=str(weights), **options)


def test_the_tower_beside_the_weights_paints_as_a_model_s_own(studio: Studio, weights: Path) -> None:
    result = painted(studio, weights)
    assert studio.backbone.image_encoder is None
    assert not np.array_equal(result.picture.pixels, painted(studio, weights, reference_strength=0.0).picture.pixels)
    owner = tiny_backbone()
    towered = Studio(type(owner)(**{**vars(owner), "image_mean": CLIP[0], "image_std": CLIP[1]}))
    shutil.rmtree(weights.parents[1] / "models")
    own = painted(towered, weights)
    assert np.array_equal(result.picture.pixels, own.picture.pixels)
    assert result.recipe.request.reference_hash != own.recipe.request.reference_hash


CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def test_it_is_found_beside_the_file_or_where_the_repository_has_it(weights: Path, tmp_path: Path) -> None:
    tower = tmp_path / "models" / "image_encoder"
    assert find_image_tower(weights, 16) == tower and find_image_tower(weights, 17) is None
    beside = weights.parent / "image_encoder"
    shutil.copytree(tower, beside)
    assert find_image_tower(weights, 16) == beside
    (beside / "config.json").write_text("{")
    assert find_image_tower(weights, 16) == tower
    (tower / "model.safetensors").unlink()
    assert find_image_tower(weights, 16) is None


def test_no_tower_or_a_broken_one_says_what_to_do(studio: Studio, weights: Path, tmp_path: Path) -> None:
    tower = tmp_path / "models" / "image_encoder"
    (tower / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(BackboneError, match=r"image encoder in .* cannot be loaded .* copy it again"):
        painted(studio, weights)
    shutil.rmtree(tower)
    with pytest.raises(ReferenceModelError, match=r"image encoder 16 wide.*ip-adapter-sdxl"):
        painted(studio, weights)


def test_a_name_of_the_catalog_is_found_or_says_how_to_fetch_it(
    studio: Studio, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTARSIA_MODELS", str(tmp_path / "own"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BackboneError, match="intarsia models fetch ip-adapter-sdxl"):
        painted(studio, Path("ip-adapter-sdxl"))
    with pytest.raises(BackboneError, match="intarsia models fetch sam2"):
        painted(studio, Path("sam2"))
    own = tmp_path / "own" / "ip-adapter-sdxl"
    shutil.copytree(tmp_path / "sdxl_models", own / "sdxl_models")
    shutil.copytree(tmp_path / "models", own / "models")
    weights = next((own / "sdxl_models").iterdir())
    weights.rename(weights.with_name("ip-adapter-plus_sdxl_vit-h.safetensors"))
    # The Hub's cache keeps both adapters, and others, in one folder.
    shutil.copy(next((own / "sdxl_models").iterdir()), own / "models" / "ip-adapter_other.safetensors")
    assert painted(studio, Path("ip-adapter-sdxl")).support.any()


def test_a_policy_refuses_weights_of_unknown_licence(
    studio: Studio, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTARSIA_LICENSE_POLICY", "permissive")
    with pytest.raises(BackboneError, match=r"policy is permissive and .*ip-adapter-plus.* is refused"):
        painted(studio, weights)
    with pytest.raises(BackboneError, match=r"policy is permissive and 'style.safetensors' is refused"):
        studio.insert(noise_picture(), box=BOX, prompt="a mug", lora=("style.safetensors",))
