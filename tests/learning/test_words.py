"""Recombination of attributes, and the identity token in prompts."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.learning import AttributeDictionary, LearnConfigError, prompt_with_token, recombine
from intarsia.perception import ABSENT, Vocabulary

VOCABULARY = Vocabulary.load()
DUCK = AttributeDictionary({"colour": ("crimson",), "pattern": ("white stripes",), "shape": ("round", "flat")}, "duck")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(0, 5))
def test_every_value_is_used_about_equally_often(count: int, seed: int) -> None:
    prompts = recombine(DUCK, "duck", count, seed)
    assert len(prompts) == count
    for kind, values in (
        ("colour", {"crimson", *VOCABULARY.values("colour")} - {"red"}),
        ("material", set(VOCABULARY.values("material"))),
        ("shape", {"round", "flat"}),
    ):
        counts = Counter(prompt.attributes[kind] for prompt in prompts)
        assert set(counts) <= values
        assert max(counts.values(), default=0) - min(counts[value] for value in values) <= 1
        own = DUCK.kinds.get(kind, ())
        assert count < len(own) or all(counts[value] for value in own)
    patterns = Counter(prompt.attributes["pattern"].split()[-1] for prompt in prompts)
    assert max(patterns.values(), default=0) - min(patterns[v] for v in VOCABULARY.values("pattern")) <= 1


def test_prompts_say_all_their_attributes_and_the_token_only_if_asked() -> None:
    for token in (None, "sks"):
        for prompt in recombine(DUCK, "duck", 20, 3, token=token):
            assert prompt.text.startswith("a photo of a ") and ("sks" in prompt.text.split()) == bool(token)
            assert " duck" in prompt.text
            for kind, value in prompt.attributes.items():
                assert value in prompt.text or value == ABSENT.get(kind)


def test_patterns_and_accessories_get_another_colour_than_the_body() -> None:
    seen = 0
    for prompt in recombine(AttributeDictionary({}), "mug", 60, 0):
        for kind in ABSENT:
            words = prompt.attributes[kind].split()
            if len(words) == 2:
                seen += 1
                assert words[0] in VOCABULARY.values("colour") and words[0] != prompt.attributes["colour"]
    assert seen > 60
    assert any(p.attributes["pattern"] == "white stripes" for p in recombine(DUCK, "duck", 5, 0))


def test_the_seed_decides() -> None:
    assert recombine(DUCK, "duck", 12, 1) == recombine(DUCK, "duck", 12, 1)
    assert recombine(DUCK, "duck", 12, 1) != recombine(DUCK, "duck", 12, 2)
    with pytest.raises(LearnConfigError, match="-1"):
        recombine(DUCK, "duck", -1, 0)


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a red duck", "a sks red duck"),
        ("a duck", "a sks duck"),
        ("Duck", "sks Duck"),
        ("a photo of a shiny red  duck wearing a hat", "a photo of a sks shiny red duck wearing a hat"),
        ("photo of red duck", "photo of sks red duck"),
        ("an orange duck on an old table", "a sks orange duck on an old table"),
        ("a mug, red duck", "a mug, sks red duck"),
        ("a cat and a small duck", "a cat and a sks small duck"),
        ("a sks duck", "a sks duck"),
        ("the SKS red duck", "the SKS red duck"),
        ("a duckling and a duck", "a duckling and a sks duck"),
        ("on the beach", "a sks duck on the beach"),
        ("a toy on a table", "a sks duck, a toy on a table"),
        ("", "a photo of a sks duck"),
        ("  ", "a photo of a sks duck"),
        ("it is so very lovely and then comes duck", "it is so very lovely and sks then comes duck"),
        ("one two three four five six seven duck", "one two three four five six seven sks duck"),
    ],
)
def test_where_the_token_goes(prompt: str, wanted: str) -> None:
    assert prompt_with_token(prompt, "sks", "duck") == wanted
    assert prompt_with_token(wanted, "sks", "duck") == wanted


def test_class_nouns_of_several_words() -> None:
    assert prompt_with_token("a red alarm clock", "sks", "alarm clock") == "a sks red alarm clock"
    assert prompt_with_token("a clock", "sks", "alarm clock") == "a sks alarm clock, a clock"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_the_token_is_put_in_once_and_the_words_stay(prompt: str) -> None:
    once = prompt_with_token(prompt, "sks", "duck")
    assert "sks" in once.lower() and prompt_with_token(once, "sks", "duck") == once
    for word in prompt.split():
        assert word in once.split() or word.lower() == "an" or f"{word}" in once
