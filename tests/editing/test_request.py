from __future__ import annotations

from typing import Any

import pytest

from intarsia.request import PRESETS, EditRequest, RequestError

GIVEN: dict[str, Any] = {"verb": "insert", "scene": "a.png", "box": "1,2,3,4", "prompt": "a mug"}


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_request_holds_every_value_of_its_preset(preset: str) -> None:
    request = EditRequest(**GIVEN, preset=preset)
    assert {name: getattr(request, name) for name in PRESETS[preset]} == dict(PRESETS[preset])


def test_presets_name_the_same_fields_and_differ() -> None:
    assert set(PRESETS["paper"]) == set(PRESETS["default"]) <= set(EditRequest.model_fields)
    assert (PRESETS["paper"]["lam"], PRESETS["default"]["lam"]) == (0.7, 1.0)
    assert PRESETS["paper"]["keep_detail"] is False and PRESETS["default"]["keep_detail"] is True


def test_given_fields_win_over_the_preset_and_over_removals_own() -> None:
    request = EditRequest(**GIVEN, preset="paper", feather=2, local_share=0.5)
    assert (request.feather, request.local_share, request.steps) == (2, 0.5, PRESETS["paper"]["steps"])
    removal = EditRequest(verb="remove", scene="a.png", box="1,2,3,4")
    assert removal.growth > 0 and removal.remove_attributes == "none"
    assert EditRequest(verb="remove", scene="a.png", box="1,2,3,4", growth=0).growth == 0


def test_round_trip_through_json() -> None:
    request = EditRequest(**GIVEN, remove_attributes=["red", "clay"], context_share=None, seed=2**40)
    assert EditRequest.from_json(request.to_json()) == request
    assert request.remove_attributes == ("red", "clay")


def test_requests_are_frozen_and_replaced_with_validation() -> None:
    request = EditRequest(**GIVEN)
    with pytest.raises(ValueError, match="frozen"):
        request.seed = 3  # type: ignore[misc]
    assert request.replace(seed=3).seed == 3 and request.seed == 0
    with pytest.raises(RequestError, match="seed -1"):
        request.replace(seed=-1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lam": 1.5}, "lam 1.5"),
        ({"lam": float("nan")}, "lam nan"),
        ({"steps": 0}, "steps 0"),
        ({"steps": "many"}, "steps 'many'"),
        ({"preset": "best"}, "preset 'best'"),
        ({"verb": "move"}, "verb 'move'"),
        ({"mask_from": "grey"}, "mask_from 'grey'"),
        ({"feather": -1}, "feather -1"),
        ({"strength": 1}, "strength is no field"),
        ({"mask": "m.png"}, "mask and box are both given"),
        ({"box": None}, "mask is missing"),
        ({"scene": None}, "scene is missing"),
        ({"prompt": "  "}, "prompt is empty"),
        ({"remove_attributes": [" "]}, "blank attribute"),
        ({"verb": "remove", "subject": "d.safetensors"}, "no part in a removal"),
    ],
)
def test_faults_are_one_line_that_names_field_and_value(changes: dict[str, Any], words: str) -> None:
    for make in (lambda data: EditRequest(**data), EditRequest.model_validate):
        with pytest.raises(RequestError) as caught:
            make({**GIVEN, **changes})
        assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"verb": "insert"', "{}"])
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        EditRequest.from_json(text)
