"""Recombining attributes into prompts for regular images, each value about equally often (DreamMix's ADM)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from types import MappingProxyType

from intarsia.learning.dictionary import AttributeDictionary, head_and_adjectives
from intarsia.learning.errors import LearnConfigError
from intarsia.perception import ABSENT, RegularPrompt, Vocabulary, describe

# Kinds that every regular prompt may speak of; shape and parts only where the dictionary has them.
_COMMON = ("colour", "material", "pattern", "accessories")


def recombine(
    dictionary: AttributeDictionary,
    class_noun: str,
    count: int,
    seed: int,
    *,
    vocabulary: Vocabulary | None = None,
    token: str | None = None,
) -> list[RegularPrompt]:
    """`count` prompts "a photo of a [token] {attributes} {class} …" with one value per kind.

    The values of a kind are the dictionary's and the vocabulary's, so regular images also show what the
    subject is *not*. Within a kind the counts of any two values differ by at most one; the dictionary's
    come first, so with `count` at least their number each of them is used. Patterns and accessories get a
    colour other than the body's unless they name their own.
    """
    if count < 0:
        raise LearnConfigError(f"{count} regular prompts cannot be made: use 0 or more")
    words = Vocabulary.load() if vocabulary is None else vocabulary
    draw = random.Random(f"recombine-{seed}")
    columns: dict[str, list[str]] = {}
    for kind in dict.fromkeys((*_COMMON, *dictionary.kinds)):
        pool = _pool(dictionary.kinds.get(kind, ()), words, kind)
        if pool:
            columns[kind] = _balanced(*pool, count, draw)
    accents = {kind: _cycle(words.values("colour"), draw) for kind in ABSENT}
    prompts = []
    for index in range(count):
        attributes = {kind: column[index] for kind, column in columns.items()}
        for kind, colours in accents.items():
            value = attributes.get(kind)
            if value in words.values(kind) and value != ABSENT[kind] and colours is not None:
                attributes[kind] = f"{_other(colours, attributes.get('colour'))} {value}"
        text = describe(class_noun, attributes, token=token)
        prompts.append(RegularPrompt(text, MappingProxyType(attributes)))
    return prompts


def _pool(own: Sequence[str], words: Vocabulary, kind: str) -> tuple[list[str], list[str]] | None:
    """The dictionary's values of a kind, and the vocabulary's others."""
    canonical = {head_and_adjectives(value, kind, words)[0] for value in own}
    others = [value for value in words.values(kind) if value not in canonical]
    return (list(own), others) if own or others else None


def _balanced(first: list[str], others: list[str], count: int, draw: random.Random) -> list[str]:
    """`count` values in random order, counts differing by at most one; those of `first` before the others."""
    values: list[str] = []
    while len(values) < count:
        values += draw.sample(first, len(first)) + draw.sample(others, len(others))
    return draw.sample(values[:count], count)


def _cycle(colours: Sequence[str], draw: random.Random) -> Iterator[str] | None:
    if len(colours) < 2:
        return None

    def endless() -> Iterator[str]:
        while True:
            yield from draw.sample(colours, len(colours))

    return endless()


def _other(colours: Iterator[str], body: str | None) -> str:
    return next(colour for colour in colours if colour != body)
