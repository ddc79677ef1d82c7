"""Tabletop's judges as a line-up and as towers of pictures and texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intarsia.evaluation import Judges
from intarsia.evaluation.bench import lineup
from intarsia.evaluation.bench.subject_crops import square_crop
from intarsia.evaluation.bench.tabletop_encoders import tabletop_encoders
from intarsia.evaluation.cases import as_float, photos_of
from intarsia.tabletop import Subject, caption, level, split_seed

ENCODERS = tabletop_encoders()


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three, seen once each: rendering is slow."""
    for name, value in (("GALLERY", 3), ("VIEWS", 1), ("EDITED_VIEWS", 1)):
        monkeypatch.setattr(lineup, name, value)


def test_a_subject_is_found_among_others_with_the_same_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, judges = level("small"), Judges.load()
    seeds = {f"s{n}": split_seed("test", 40 + n) for n in range(4)}  # one more than there are candidates
    there = lineup.Lineup(judges, seeds, world, tmp_path / "galleries")
    changes = {"colour": "purple"}
    found = []
    for name, seed in seeds.items():
        shown = replace(Subject.sample(seed, world), **changes)  # type: ignore[arg-type]
        pixels, mask = photos_of([shown], world, 1, side=96, seed=5)[0][0]
        portrait = judges.portraits([as_float(pixels)], [mask])[0]
        found.append(there.found(name, changes, portrait))
        other = next(key for key in reversed(seeds) if key != name)
        assert not (found[-1] and there.found(other, changes, portrait) and other != "s3")
    assert sum(found) >= 3
    monkeypatch.setattr(lineup, "portraits_of", lambda *_: pytest.fail("rendered again"))
    again = lineup.Lineup(judges, seeds, world, tmp_path / "galleries")
    assert again.found("s3", changes, portrait) == found[3]


def test_the_judges_towers_put_captions_beside_their_pictures() -> None:
    world = level("small")
    subjects = [Subject.sample(split_seed("test", 60 + n), world) for n in range(6)]
    shots = [photos_of([subject], world, 1, side=96)[0][0] for subject in subjects]
    crops = [square_crop(pixels, mask) for pixels, mask in shots]
    words = ENCODERS.clip.texts([caption(subject.attributes) for subject in subjects])
    similar = unit(ENCODERS.clip.images(crops)) @ unit(words).T
    assert (similar.argmax(1) == np.arange(6)).sum() >= 4
    portraits = Judges.load().portraits([as_float(p) for p, _ in shots], [m for _, m in shots]).numpy()
    assert ((unit(ENCODERS.dino.images(crops)) * portraits).sum(1) > 0.97).all()


def unit(values: Any) -> Any:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)
