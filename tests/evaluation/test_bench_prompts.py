"""The prompts of the real benchmark: the shipped ones, and a user's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.prompts import load_prompts
from intarsia.learning import prompt_with_token

# Written down from DreamBooth's list of its data set: subject -> class.
DREAMBOOTH = {
    **dict.fromkeys(("backpack", "backpack_dog"), "backpack"),
    **dict.fromkeys(("bear_plushie", "grey_sloth_plushie", "wolf_plushie"), "stuffed animal"),
    **dict.fromkeys(("duck_toy", "monster_toy", "poop_emoji", "rc_car", "robot_toy"), "toy"),
    **dict.fromkeys(("dog", "dog2", "dog3", "dog5", "dog6", "dog7", "dog8"), "dog"),
    **dict.fromkeys(("cat", "cat2"), "cat"),
    **dict.fromkeys(("colorful_sneaker", "shiny_sneaker"), "sneaker"),
    **{name: name for name in ("can", "candle", "clock", "teapot", "vase")},
    **{"berry_bowl": "bowl", "fancy_boot": "boot", "pink_sunglasses": "glasses", "red_cartoon": "cartoon"},
}


def test_the_shipped_prompts() -> None:
    book = load_prompts()
    assert {name: book.of(name).class_noun for name in book.subjects} == DREAMBOOTH and len(DREAMBOOTH) == 30
    for name in (*DREAMBOOTH, "someones_parrot", "zeppelin7"):
        asked = book.of(name)
        for task, prompts in asked.prompts.items():
            assert 3 <= len(prompts) <= 5 and len({prompt.text for prompt in prompts}) == len(prompts), (name, task)
            for prompt in prompts:
                with_token = prompt_with_token(prompt.text, "sks", asked.class_noun)
                assert re.search(rf"\bsks (\w+ )*{asked.class_noun}\b", with_token), "the token belongs to the noun"
                assert with_token.replace("sks ", "").split()[1:] == prompt.text.split()[1:]
                assert (prompt.edit is None) == (task == "identity") and "NOUN" not in prompt.text
        assert len({prompt.edit for prompt in asked.prompts["editing"]}) >= 3, name
    assert book.of("parrot").prompts != book.of("zeppelin7").prompts


def test_prompts_of_ones_own_go_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    mug = {"class": "mug", "identity": ["a mug"], "editing": {"colour": ["a red mug"], "size": ["a huge mug"]}}
    path.write_text(yaml.safe_dump({"subjects": {"duck_toy": mug, "thing7": {"class": "espresso cup"}}}))
    book = load_prompts(path)
    assert book.of("duck_toy").class_noun == "mug" and book.of("teapot").class_noun == "teapot"
    assert [prompt.edit for prompt in book.of("duck_toy").prompts["editing"]] == ["colour", "size"]
    assert book.of("thing7").prompts["identity"][0].text == "a photo of the espresso cup"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("subjects: [", "no YAML"),
        ("things: {}", "another layout"),
        ("", "another layout"),
        ("subjects: {x: 3}", "x is wrong"),
        ("subjects: {x: {class: ''}}", "class ''"),
        ("subjects: {x: {class: cup, identity: [a cup]}}", "no editing prompts"),
        ("subjects: {x: {class: cup, identity: a cup, editing: {colour: [a red cup]}}}", "list of texts"),
        ("fallback: {thing: {nouns: [x], identity: [a], editing: {colour: [a]}}}", "leave one without"),
    ],
)
def test_prompts_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(BenchError, match=words) as caught:
        load_prompts(path)
    assert str(path) in str(caught.value)


def test_a_prompt_without_its_noun_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("subjects: {x: {class: cup, identity: [a mug], editing: {colour: [a red cup]}}}")
    with pytest.raises(BenchError, match="'a mug' of x lacks its class noun 'cup'"):
        load_prompts(path).of("x")
    with pytest.raises(BenchError, match="give its class"):
        load_prompts().of("1234")
