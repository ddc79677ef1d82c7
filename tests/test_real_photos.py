"""On real photos the contracts hold as well: learn a little, insert, and nothing else has changed."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from tests.conftest_tiny import tiny_backbone

from intarsia.editing import Studio
from intarsia.imaging import Picture

DATA = Path(os.environ.get("INTARSIA_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
WEIGHTS = Path(str(files("intarsia"))) / "weights" / "miniature" / "model_index.json"

pytestmark = [
    pytest.mark.photos,
    pytest.mark.skipif(
        not (DATA / "scenes").is_dir(), reason=f"no real photos at {DATA} (set INTARSIA_DATA to their folder)"
    ),
    pytest.mark.filterwarnings("ignore::intarsia.errors.IntarsiaWarning"),
]


@pytest.fixture(scope="module", params=["tiny", "miniature"])
def studio(request: pytest.FixtureRequest) -> Studio:
    if request.param == "tiny":
        return Studio(tiny_backbone())
    if not WEIGHTS.is_file():
        pytest.skip("the miniature's weights are not part of this checkout")
    return Studio.load("miniature", device="cpu")


@pytest.mark.parametrize(("name", "noun", "scene"), [("duck_toy", "duck", "table"), ("teapot", "teapot", "desk")])
def test_learn_and_insert_on_real_photos(studio: Studio, tmp_path: Path, name: str, noun: str, scene: str) -> None:
    file = tmp_path / "subject.safetensors"
    subject = studio.learn(
        DATA / "subjects" / name, noun, file, preset="smoke", steps=2, regular_images=1, windows_per_photo=1
    )
    assert subject.steps_done == 2 and len(subject.photo_hashes) >= 4
    path = DATA / "scenes" / f"{scene}.jpg"
    result = studio.insert(
        path, mask=DATA / "scenes" / f"{scene}_mask.png", prompt=f"a blue {noun}", subject=file, steps=4
    )
    source = Picture.load(path)
    assert result.picture.size == source.size and result.picture.mode == source.mode
    outside = ~result.support
    assert outside.mean() > 0.3
    assert np.array_equal(result.picture.pixels[outside], source.pixels[outside])
    assert (result.picture.pixels[result.support] != source.pixels[result.support]).any()
    saved = result.save(tmp_path / "out.png")
    assert studio.replay(saved).save(tmp_path / "again.png").read_bytes() == saved.read_bytes()
