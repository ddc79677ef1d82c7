"""Results are scenes: after any number of edits only what some edit painted differs from the first scene."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.editing.conftest import noise_picture, thing, tiny_studio

from intarsia.editing import Studio
from intarsia.imaging import Picture
from intarsia.result import EditResult


def chain(studio: Studio, first: Picture, edits: list[dict[str, Any]]) -> tuple[EditResult, np.ndarray]:
    """The last result, and where any edit may have painted."""
    given: Any = first
    touched = np.zeros(first.size, bool)
    for edit in edits:
        verb = edit.pop("verb")
        given = getattr(studio, verb)(given, **edit)
        touched |= given.support
    return given, touched


@st.composite
def many_edits(draw: st.DrawFn) -> list[dict[str, Any]]:
    edits: list[dict[str, Any]] = []
    for seed in range(10):
        box = (draw(st.integers(0, 60)), draw(st.integers(0, 40)), draw(st.integers(1, 20)), draw(st.integers(1, 20)))
        edit: dict[str, Any] = {"verb": draw(st.sampled_from(["insert", "remove"])), "box": box}
        edit |= {"seed": seed, "steps": 1, "feather": draw(st.integers(0, 3)), "growth": draw(st.integers(0, 2))}
        edits.append(edit | ({"prompt": "a mug"} if edit["verb"] == "insert" else {}))
    return edits


@given(edits=many_edits(), channels=st.sampled_from([1, 3, 4]), dtype=st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=3, deadline=None)
def test_ten_edits_leave_every_other_byte(edits: list[dict[str, Any]], channels: int, dtype: Any) -> None:
    first = replace(noise_picture(72, 96, channels, dtype), icc_profile=b"profile")
    last, touched = chain(tiny_studio(), first, edits)
    assert not touched.all() and touched.any()
    assert np.array_equal(last.picture.pixels[~touched], first.pixels[~touched])
    assert (last.picture.mode, last.picture.icc_profile) == (first.mode, b"profile")


def test_chains_of_references_words_and_removals(studio: Studio, scene: Picture, reference_folder: Path) -> None:
    shown = {"reference": thing(), "reference_model": str(reference_folder)}
    edits: list[dict[str, Any]] = [
        {"verb": "insert", "box": (5, 5, 16, 16), "steps": 1, **shown},
        {"verb": "insert", "box": (60, 40, 16, 16), "steps": 1, "prompt": "a mug", **shown},
        {"verb": "remove", "box": (8, 8, 20, 12), "steps": 1},
    ]
    last, touched = chain(studio, scene, edits)
    assert np.array_equal(last.picture.pixels[~touched], scene.pixels[~touched])


def test_a_result_can_be_the_reference_of_the_next_edit(studio: Studio, scene: Picture, reference_folder: Path) -> None:
    first = studio.insert(scene, box=(30, 20, 24, 24), prompt="a mug", steps=1)
    options: dict[str, Any] = {"box": (2, 2, 20, 20), "steps": 1, "reference_model": str(reference_folder)}
    second = studio.insert(scene, reference=first, reference_mask="30,20,24,24", **options)
    again = studio.insert(scene, reference=first.picture, reference_mask="30,20,24,24", **options)
    assert second.picture.sha256 == again.picture.sha256


def test_a_saved_chain_repeats_link_by_link(studio: Studio, tmp_path: Path) -> None:
    noise_picture().save(tmp_path / "0.png")
    for number in (1, 2):
        source = tmp_path / f"{number - 1}.png"
        studio.insert(source, box=(10 * number, 20, 24, 24), prompt="a mug", steps=1).save(tmp_path / f"{number}.png")
    assert studio.replay(tmp_path / "2.png").picture.sha256 == Picture.load(tmp_path / "2.png").sha256


def test_a_saved_chain_of_photos_and_a_wider_canvas_repeats(
    studio: Studio, reference_folder: Path, tmp_path: Path
) -> None:
    noise_picture().save(tmp_path / "0.png")
    thing().save(tmp_path / "mug.png")
    shown = {"reference": tmp_path / "mug.png", "reference_model": str(reference_folder), "steps": 1}
    studio.insert(tmp_path / "0.png", box=(10, 20, 24, 24), **shown).save(tmp_path / "1.png")
    studio.outpaint(tmp_path / "1.png", right=16, steps=1).save(tmp_path / "2.png")
    studio.insert(tmp_path / "2.png", box=(80, 20, 24, 24), prompt="a mug", **shown).save(tmp_path / "3.png")
    for link in ("1.png", "2.png", "3.png"):
        assert studio.replay(tmp_path / link).picture.sha256 == Picture.load(tmp_path / link).sha256


@pytest.mark.parametrize("verb", ["insert", "remove"])
def test_a_result_paints_as_its_picture_does(studio: Studio, scene: Picture, verb: str) -> None:
    first = studio.remove(scene, box=(30, 20, 24, 24), steps=1)
    options: dict[str, Any] = {"box": (5, 5, 12, 12), "steps": 1, "prompt": "a mug"}
    from_result = getattr(studio, verb)(first, **options)
    assert from_result.picture.sha256 == getattr(studio, verb)(first.picture, **options).picture.sha256
