"""Who recombines attributes and finds conflicts: offline code, or a model that is asked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.conftest_tiny import tiny_backbone
from tests.learning.helpers import NoisePainter, SaysRed, some_photos

from intarsia.learning import (
    AttributeAdvisor,
    AttributeDictionary,
    LearnConfig,
    LearnConfigError,
    LearningError,
    OfflineAdvisor,
    RegularPrompt,
    Subject,
    learn_subject,
    recombine,
)
from intarsia.perception import Vocabulary

pytestmark = pytest.mark.filterwarnings("ignore::intarsia.conditioning.PromptTruncatedWarning")

SMOKE = LearnConfig.preset("smoke", gate_margin=-2.0, steps=1, windows_per_photo=1, regular_images=2)
ASKING = dataclasses.replace(SMOKE, regular_prompts="advisor")
DUCK = AttributeDictionary({"colour": ("red",), "material": ("clay",)}, "duck")


class Advises(SaysRed):
    """An advisor that remembers what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = texts, []  # type: ignore[var-annotated]

    def recombine(
        self, dictionary: Mapping[str, Sequence[str]], class_noun: str, count: int, seed: int
    ) -> list[RegularPrompt]:
        self.asked.append(("recombine", dict(dictionary), class_noun, count, seed))
        return [RegularPrompt(text, {"colour": text.split()[1]}) for text in self.texts]

    def conflicts(self, dictionary: Mapping[str, Sequence[str]], class_noun: str, prompt: str) -> list[str]:
        self.asked.append(("conflicts", dict(dictionary), class_noun, prompt))
        return ["red"]

    def release(self) -> None:
        self.asked.append(("release",))


def learn(config: LearnConfig, namer: Any, folder: Path | None = None, painter: Any = None) -> Subject:
    backbone, painter = tiny_backbone(prediction_type="v_prediction"), painter or NoisePainter()
    return learn_subject(backbone, some_photos(), "duck", painter, config, namer=namer, work_folder=folder)


def test_an_advisors_prompts_are_painted_and_it_is_released_before(tmp_path: Path) -> None:
    advisor: Any = Advises("a blue duck", "a green duck")
    painter = NoisePainter(lambda values: (advisor.asked.append(("paint",)), values)[1])
    learn(ASKING, advisor, tmp_path, painter)
    kinds = {"colour": ("red",), "material": ("clay",)}
    assert advisor.asked == [("recombine", kinds, "duck", 2, 0), ("release",), ("paint",), ("paint",)]
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [(line["prompt"], line["attributes"]) for line in lines] == [
        ("a blue duck", {"colour": "blue"}),
        ("a green duck", {"colour": "green"}),
    ]


def test_balanced_asks_nobody_but_releases_all_the_same() -> None:
    advisor, painter = Advises(), NoisePainter()
    learn(SMOKE, advisor, painter=painter)
    assert advisor.asked == [("release",)]
    expected = recombine(DUCK, "duck", 2, 0, vocabulary=Vocabulary.load())
    assert [prompt for prompt, _ in painter.asked] == [prompt.text for prompt in expected]
    advisor = Advises("a blue duck")
    learn(dataclasses.replace(ASKING, regular_images=0), advisor)
    assert advisor.asked == [("release",)]


def test_the_token_is_put_into_an_advisors_prompts_if_wished_and_never_by_chance() -> None:
    painter = NoisePainter()
    learn(
        dataclasses.replace(ASKING, regular_prompts_with_token=True),
        Advises("a blue duck", "a big duck"),
        None,
        painter,
    )
    assert [prompt for prompt, _ in painter.asked] == ["a sks blue duck", "a sks big duck"]
    with pytest.raises(LearningError, match=r"'a SKS duck' holds the identity token 'sks'"):
        learn(ASKING, Advises("a SKS duck"))


def test_a_namer_that_cannot_recombine_is_refused() -> None:
    class NeverNames:
        def name(self, *_: Any) -> Any:
            raise AssertionError("it was asked before it was refused")

    with pytest.raises(LearnConfigError, match="openai:URL#MODEL or vlm:MODEL"):
        learn(ASKING, NeverNames())
    with pytest.raises(LearnConfigError, match="regular_prompts 'both'"):
        LearnConfig(regular_prompts="both")  # type: ignore[arg-type]


def test_a_namers_own_vocabulary_is_recombined() -> None:
    painter, namer = NoisePainter(), SaysRed()
    namer.vocabulary = Vocabulary({"material": {"denim": ()}}, {})  # type: ignore[attr-defined]
    learn(SMOKE, namer, painter=painter)
    assert sorted(prompt for prompt, _ in painter.asked) == [
        "a photo of a red clay duck",
        "a photo of a red denim duck",
    ]


def test_the_offline_advisor_is_what_learning_does_without_one() -> None:
    advisor: AttributeAdvisor = OfflineAdvisor(SaysRed())
    assert advisor.name([], [], "duck") == {"colour": ["red"], "material": ["clay"]}
    assert advisor.recombine(DUCK.kinds, "duck", 5, 3) == recombine(DUCK, "duck", 5, 3)
    assert advisor.conflicts(DUCK.kinds, "duck", "a blue duck") == ["red"] == DUCK.conflicts("a blue duck")


def test_conflicts_may_be_asked_for() -> None:
    advisor = Advises()
    assert DUCK.conflicts("a shiny duck", advisor=advisor) == ["red"]
    subject = learn(SMOKE, SaysRed())
    assert subject.conflicts("a shiny sks duck") == ["clay"]
    assert subject.conflicts("a shiny sks duck", advisor) == ["red"]
    assert [ask[2:] for ask in advisor.asked] == [("duck", "a shiny duck")] * 2, "the token is no word for a model"


def test_who_recombines_is_no_part_of_what_a_run_is_resumed_by() -> None:
    assert SMOKE.fingerprint == ASKING.fingerprint, "the prompts themselves decide"
