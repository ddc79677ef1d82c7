from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.learning import AttributeDictionary, DictionaryError
from intarsia.perception import KINDS, Vocabulary, YamlNamer

VOCABULARY = Vocabulary.load()
BLUE = AttributeDictionary({"colour": ("blue",)}, "duck")


@pytest.mark.parametrize(
    ("kinds", "prompt", "conflicts"),
    [
        ({"colour": ("blue",)}, "a red duck", ["blue"]),
        ({"colour": ("blue",)}, "a blue duck", []),
        ({"colour": ("blue",)}, "a red and blue duck", []),
        ({"colour": ("blue",)}, "a duck", []),
        ({"colour": ("blue",)}, "a navy duck", []),
        ({"colour": ("navy",)}, "a blue duck", []),
        ({"colour": ("navy",)}, "a crimson duck", ["navy"]),
        ({"colour": ("blue",)}, "a duck on a red table", []),
        ({"colour": ("blue",)}, "a red duck on a blue table", []),
        ({"colour": ("blue",)}, "a sks duck wearing a red hat", []),
        ({"colour": ("blue",)}, "a sks Red DUCK, made of clay", ["blue"]),
        ({"colour": ("blue", "white")}, "a red duck", ["blue", "white"]),
        ({"colour": ("blue",), "material": ("clay",)}, "a metallic duck", ["clay"]),
        ({"colour": ("blue",), "material": ("porcelain",)}, "a red wooden duck", ["blue", "porcelain"]),
        ({"material": ("porcelain", "bamboo")}, "a bamboo duck", ["porcelain"]),
        ({"pattern": ("white stripes",)}, "a duck with red dots", ["white stripes"]),
        ({"pattern": ("white stripes",)}, "a duck with white dots", ["stripes"]),
        ({"pattern": ("white stripes",)}, "a duck with red stripes", ["white"]),
        ({"pattern": ("white stripes",)}, "a striped duck", []),
        ({"pattern": ("stripes",)}, "a plain duck", ["stripes"]),
        ({"accessories": ("red hat",)}, "a duck wearing a blue scarf", ["red hat"]),
        ({"accessories": ("hat",)}, "a duck without accessories", ["hat"]),
        ({"accessories": ("hat",)}, "a duck without a scarf", []),
        ({"parts": ("handle",)}, "a duck with a lid", []),
        ({"colour": ("blue",)}, "", []),
    ],
)
def test_what_a_prompt_contradicts(kinds: dict[str, tuple[str, ...]], prompt: str, conflicts: list[str]) -> None:
    assert AttributeDictionary(kinds, "duck").conflicts(prompt) == conflicts


def test_the_class_noun_is_no_attribute() -> None:
    assert AttributeDictionary({"accessories": ("scarf",)}).conflicts("a hat") == ["scarf"]
    assert AttributeDictionary({"accessories": ("scarf",)}, "hat").conflicts("a hat") == []
    assert AttributeDictionary({"accessories": ("scarf",)}).conflicts("a hat", class_noun="hat") == []


WORDS = [
    word
    for section in (VOCABULARY.named, VOCABULARY.recognised)
    for kind, values in section.items()
    for value, synonyms in values.items()
    for word in (value, *synonyms)
] + ["a", "duck", "wearing", "with", "on", "and", "table", ","]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(KINDS),
        st.lists(st.lists(st.sampled_from(WORDS[:-8]), min_size=1, max_size=2).map(" ".join), min_size=1, max_size=3),
    ),
    st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join),
)
def test_nothing_that_the_prompt_says_is_taken_from_it(kinds: dict[str, list[str]], prompt: str) -> None:
    dictionary = AttributeDictionary({kind: tuple(values) for kind, values in kinds.items()}, "duck")
    found = dictionary.conflicts(prompt)
    assert len(found) == len(set(found))
    padded = f" {' '.join(prompt.replace(',', ' ').split())} "
    for conflict in found:
        assert f" {conflict} " not in padded
        assert any(set(conflict.split()) <= set(value.split()) for values in kinds.values() for value in values)


def test_files_and_json_come_back_equal(tmp_path: Path) -> None:
    dictionary = AttributeDictionary({"material": ("clay",), "colour": ["Red", "red ", "white"]}, "duck")  # type: ignore[dict-item]
    assert dictionary.kinds == {"colour": ("red", "white"), "material": ("clay",)}
    path = tmp_path / "duck.yaml"
    path.write_text(dictionary.to_yaml())
    assert AttributeDictionary.from_yaml(path, "duck") == dictionary
    assert AttributeDictionary.from_json(dictionary.to_json(), "duck") == dictionary
    assert hash(dictionary) == hash(AttributeDictionary.from_json(dictionary.to_json(), "duck"))
    assert YamlNamer(path).name([], [], "duck") == {"colour": ["red", "white"], "material": ["clay"]}
    with pytest.raises(TypeError):
        dictionary.kinds["colour"] = ()  # type: ignore[index]


@pytest.mark.parametrize("kinds", [{"mood": ("sad",)}, {"colour": (1,)}, {"colour": 3}, None])
def test_bad_dictionaries(kinds: object) -> None:
    with pytest.raises(DictionaryError):
        AttributeDictionary(kinds)  # type: ignore[arg-type]
    for text in ("[", "3", '{"mood": ["sad"]}'):
        with pytest.raises(DictionaryError):
            AttributeDictionary.from_json(text)


def test_an_unknown_file(tmp_path: Path) -> None:
    with pytest.raises(DictionaryError, match=r"no\.yaml"):
        AttributeDictionary.from_yaml(tmp_path / "no.yaml")
