"""What a request says about references and outpainting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from intarsia.request import REFERENCE, REFERENCE_AND_WORDS, EditRequest, RequestError
from intarsia.result import Recipe

PLACE: dict[str, Any] = {"verb": "insert", "scene": "a.png", "box": "1,2,3,4"}
MUG: dict[str, Any] = {**PLACE, "reference": ["mug.jpg"]}
WIDER: dict[str, Any] = {"verb": "outpaint", "scene": "a.png", "left": 8}


def test_a_reference_needs_no_words_and_counts_less_beside_them() -> None:
    alone, both = EditRequest(**MUG), EditRequest(**MUG, prompt="a mug")
    assert alone.reference_strength == 1.0 > both.reference_strength
    assert both.reference_strength == REFERENCE_AND_WORDS["default"]["reference_strength"]
    assert EditRequest(**MUG, subject="duck.safetensors").reference_strength == both.reference_strength
    assert EditRequest(**MUG, prompt="a mug", reference_strength=0.9).reference_strength == 0.9


def test_paper_is_what_lar_gen_released() -> None:
    for prompt, strength, shape in (("", 1.0, "drawn"), ("a mug", 0.45, "box")):
        request = EditRequest(**MUG, prompt=prompt, preset="paper")
        assert (request.steps, request.scheduler, request.guidance_scale) == (50, "ddim", 7.5)
        assert (request.guidance_rescale, request.guidance_mode) == (0.5, "joint")
        assert (request.reference_strength, request.mask_shape, request.detail_mode) == (strength, shape, "noised")
        assert not request.detail_guided
    assert EditRequest(**PLACE, prompt="a mug", preset="paper").mask_shape == "drawn"


def test_tables_name_fields_that_exist() -> None:
    for table in (REFERENCE, REFERENCE_AND_WORDS):
        assert set(table) == {"paper", "default"}
        assert all(set(values) <= set(EditRequest.model_fields) for values in table.values())


def test_without_a_reference_nothing_of_it_is_in_the_values() -> None:
    request = EditRequest(**PLACE, prompt="a mug")
    assert (request.guidance_rescale, request.guidance_interval, request.mask_shape) == (0.0, (0.0, 1.0), "drawn")
    assert not request.has_reference and request.reference_hash is None


@pytest.mark.parametrize("data", [MUG, WIDER, {**WIDER, "left": 0, "ratio": 0.75, "anchor": "top-left"}])
def test_round_trip_through_json(data: dict[str, Any]) -> None:
    request = EditRequest(**data)
    assert EditRequest.from_json(request.to_json()) == request


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference_strength": 2.5}, "reference_strength 2.5"),
        ({"reference_strength": -0.1}, "reference_strength -0.1"),
        ({"reference_blocks": (1, 3, 1)}, "reference_blocks 3"),
        ({"reference_blocks": (1, 1)}, "reference_blocks (1, 1) is not 3 numbers; give as many, like (1.0, 1.0, 1.0)"),
        ({"reference_blocks": (1, 1, 1, 1)}, "reference_blocks (1, 1, 1, 1) is not 3 numbers"),
        ({"reference": [], "prompt": "x", "reference_model": "m"}, "reference_model 'm' needs a reference"),
        ({"reference_interval": (0.6, 0.2)}, "reference_interval (0.6, 0.2)"),
        ({"reference_schedule": ()}, "reference_schedule ()"),
        ({"reference_schedule": (1, 1.2)}, "reference_schedule 1.2"),
        ({"guidance_interval": (0.0, 1.5)}, "guidance_interval 1.5"),
        ({"detail_strength": 1.1}, "detail_strength 1.1"),
        ({"detail_mode": "dirty"}, "detail_mode 'dirty'"),
        ({"guidance_mode": "both"}, "guidance_mode 'both'"),
        ({"guidance_rescale": 2}, "guidance_rescale 2"),
        ({"mask_shape": "round"}, "mask_shape 'round'"),
        ({"reference_mask": ["a.png", "b.png"]}, "2 entries for 1 references"),
        ({"reference_sha256": ["0", "1"]}, "1 entries for 2 references"),
        ({"reference": []}, "give a subject or a reference"),
        ({"verb": "remove"}, "reference mug.jpg has no part in a removal"),
        ({"left": 4}, "left 4 is for outpainting only"),
        ({"ratio": 0.7}, "ratio 0.7 is for outpainting only"),
    ],
)
def test_faults_of_insertions(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        EditRequest(**{**MUG, **changes})
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"left": 0}, "nothing to grow"),
        ({"left": 0, "ratio": 1}, "nothing to grow"),
        ({"ratio": 0.7}, "left 8 and ratio 0.7 are both given"),
        ({"left": -1}, "left -1"),
        ({"left": 0, "ratio": 0.3}, "ratio 0.3"),
        ({"left": 0, "ratio": 0.7, "anchor": "middle"}, "anchor 'middle'"),
        ({"rim": -1}, "rim -1"),
        ({"box": "1,2,3,4"}, "no part in an outpainting"),
        ({"reference": ["mug.jpg"]}, "no part in an outpainting"),
        ({"subject": "d.safetensors"}, "no part in an outpainting"),
    ],
)
def test_faults_of_outpaintings(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        EditRequest(**{**WIDER, **changes})
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_recipes_of_the_first_version_still_mean_what_they_meant() -> None:
    """As the first release wrote them: none of the later fields."""
    text = (Path(__file__).parent / "recipe_first_version.json").read_text()
    recipe = Recipe.from_json(text)
    kept = json.loads(text)["request"]
    assert {name: value for name, value in json.loads(recipe.to_json())["request"].items() if name in kept} == kept
    assert (recipe.request.guidance_rescale, recipe.request.mask_shape) == (0.0, "drawn")
    assert not recipe.request.has_reference
