from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from intarsia.errors import KnobError
from intarsia.learning import PRESETS, LearnConfig, LearnConfigError


def test_presets_differ_as_they_say() -> None:
    paper, default, smoke = (LearnConfig.preset(name) for name in ("paper", "default", "smoke"))
    assert (paper.weight_object, paper.weight_background, paper.beta, paper.rank, paper.alpha) == (1.5, 0.7, 0.4, 4, 4)
    assert paper.targets == default.targets == ("to_k", "to_v") and paper.loss_space == "epsilon"
    assert paper.regular_prompts_with_token and not default.regular_prompts_with_token
    assert smoke.steps < default.steps < paper.steps and default == LearnConfig()
    assert set(PRESETS) == {"paper", "default", "smoke"}
    assert LearnConfig.preset("paper", steps=7).steps == 7 and paper.preset_name == "paper"


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"beta": -1.0},
        {"beta": math.nan},
        {"learning_rate": math.inf},
        {"zoom": (0.9, 0.3)},
        {"zoom": (0.0, 0.3)},
        {"mask_shapes": ()},
        {"mask_shapes": ("star",)},
        {"prior": "both"},
        {"loss_space": "sample"},
        {"token": "two words"},
        {"templates": ("a {token}",)},
        {"templates": ("a {token} {class_noun} {place}",)},
        {"named_share": 1.5},
    ],
)
def test_settings_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(LearnConfigError, match=next(iter(wrong))) as caught:
        LearnConfig.preset("default", **wrong)
    assert isinstance(caught.value, KnobError) and "\n" not in str(caught.value)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(LearnConfigError, match="default, paper, smoke"):
        LearnConfig.preset("best")
    with pytest.raises(LearnConfigError, match=r"stepz.*steps"):
        LearnConfig.preset("default", stepz=3)


def test_the_share_has_the_expected_ratio_beta() -> None:
    share = LearnConfig(beta=0.4).regular_share
    assert share / (1 - share) == pytest.approx(0.4)


def test_the_fingerprint_changes_with_what_changes_a_step() -> None:
    base = LearnConfig()
    assert dataclasses.replace(base, steps=7, checkpoint_every=3, resume=False).fingerprint == base.fingerprint
    for changed in ({"seed": 1}, {"beta": 0.3}, {"zoom": (0.3, 0.9)}, {"schedule": "cosine"}):
        assert dataclasses.replace(base, **changed).fingerprint != base.fingerprint  # type: ignore[arg-type]
    cosine = dataclasses.replace(base, schedule="cosine")
    assert dataclasses.replace(cosine, steps=7).fingerprint != cosine.fingerprint


def test_learning_rates() -> None:
    config = LearnConfig(learning_rate=1.0, warmup=3, steps=10)
    assert [config.learning_rate_at(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    cosine = LearnConfig(learning_rate=1.0, warmup=0, steps=10, schedule="cosine")
    assert cosine.learning_rate_at(0) == 1 and cosine.learning_rate_at(5) == pytest.approx(0.5)
    assert cosine.learning_rate_at(9) > 0


def test_lists_become_tuples() -> None:
    assert LearnConfig(zoom=[0.4, 0.8], targets=["to_k"]).zoom == (0.4, 0.8)  # type: ignore[arg-type]
