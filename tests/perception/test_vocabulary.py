from __future__ import annotations

from pathlib import Path

import pytest

from intarsia.perception import KINDS, Vocabulary, VocabularyError, describe, subject_phrase
from intarsia.tabletop import LEVELS

VOCABULARY = Vocabulary.load()


def named(text: str) -> list[tuple[str, str]]:
    return [(mention.kind, mention.value) for mention in VOCABULARY.mentions(text)]


def test_the_shipped_vocabulary_speaks_of_the_whole_tabletop_world() -> None:
    world = LEVELS["full"]
    assert set(world.colours) <= set(VOCABULARY.values("colour"))
    assert set(world.materials) <= set(VOCABULARY.values("material"))
    for pattern in world.patterns:
        assert VOCABULARY.canonical("pattern", pattern) in VOCABULARY.values("pattern")
    assert set(world.accessories) <= set(VOCABULARY.values("accessories"))
    assert set(VOCABULARY.named) | set(VOCABULARY.recognised) == set(KINDS)


def test_synonyms_and_longest_words_count_and_parts_of_words_do_not() -> None:
    assert named("A Crimson mug in SHINY  plastic") == [("colour", "red"), ("material", "glossy")]
    assert named("a bored teapot with a hatch") == []
    assert named("a red-hot mug") == []


@pytest.mark.parametrize(
    ("text", "body", "bound"),
    [
        ("a sks duck with blue stripes", [], ["blue"]),
        ("a red duck wearing a bright blue top hat", ["red"], ["blue"]),
        ("a red striped duck", ["red"], []),
        ("a duck made of red clay and white dots", ["red"], ["white"]),
        ("metal duck in red", ["red"], []),
    ],
)
def test_adjectives_belong_to_what_follows_them(text: str, body: list[str], bound: list[str]) -> None:
    mentions = VOCABULARY.mentions(text.replace("bright ", ""))
    assert [mention.value for mention in mentions if mention.kind == "colour"] == body
    assert [q.value for mention in mentions for q in mention.qualifiers] == bound


def test_a_thing_that_is_not_there_is_not_named() -> None:
    assert ("accessories", "hat") not in named("a duck without a hat")
    assert ("accessories", "hat") in named("a duck with a hat")
    assert ("accessories", "none") in named("a duck without accessories")


@pytest.mark.parametrize(
    ("text", "noun", "phrase"),
    [
        ("a red duck on a blue table", "duck", "a red duck "),
        ("on a blue table stands a red duck", "duck", "on a blue table stands a red duck"),
        ("next to a mug, beside a red duck", "duck", "beside a red duck"),
        ("a red thing under a lamp", "duck", "a red thing "),
        ("", None, ""),
    ],
)
def test_the_place_is_not_the_subject(text: str, noun: str | None, phrase: str) -> None:
    start, end = subject_phrase(text, noun)
    assert text[start:end] == phrase


def test_a_vocabulary_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.yaml"
    path.write_text("named:\n  colour: {mauve: [lilac]}\n")
    own = Vocabulary.load(path)
    assert own.values("colour") == ("mauve",) and own.canonical("colour", "Lilac") == "mauve"
    assert own.mentions("a red mug") == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("named: [red]", "malformed"),
        ("named:\n  colour: {red: [], blue: [red]}", "listed twice"),
        ("named:\n  mood: {sad: []}", "'mood'"),
        ("other: {}", "sections"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_bad_vocabulary_says_why(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "vocabulary.yaml"
    path.write_text(text)
    with pytest.raises(VocabularyError, match=complaint):
        Vocabulary.load(path)


def test_captions_have_the_words_in_the_miniatures_order() -> None:
    attributes = {"accessories": "blue hat", "pattern": "white stripes", "material": "clay", "colour": "red"}
    assert describe("duck", attributes, token="sks") == (
        "a photo of a sks red clay duck with white stripes wearing a blue hat"
    )
    assert describe("duck", {"pattern": "plain", "accessories": "none"}) == "a photo of a plain duck"
