"""What captions say: nouns, attributes, and whether two captions speak of the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from intarsia.perception import Mention, Vocabulary

_BEARERS = ("pattern", "parts", "accessories")
Fact = tuple[str, str, tuple[str, ...]]


@cache
def synonyms() -> dict[str, frozenset[str]]:
    """Noun -> all words for the same thing, as `nouns.yaml` of this package groups them."""
    import yaml

    text = (files("intarsia.engines.quadruplets") / "nouns.yaml").read_text(encoding="utf-8")
    groups = [frozenset(str(word).lower() for word in group) for group in yaml.safe_load(text)]
    return {word: group for group in groups for word in group}


@cache
def _pattern(noun: str) -> re.Pattern[str]:
    words = sorted(synonyms().get(noun, frozenset()) | {noun}, key=lambda word: (-len(word), word))
    forms = "|".join(rf"{re.escape(word)}(?:s|es)?" for word in words)
    return re.compile(rf"(?<![\w-])(?:{forms})(?![\w-])", re.I)


def says(text: str, noun: str) -> bool:
    """Whether a text has the noun or another word for it, in the singular or plural."""
    return bool(_pattern(noun).search(text))


def same_thing(one: str, other: str) -> bool:
    """Whether two tags are words for the same thing."""
    return says(one, other) or says(other, one)


@dataclass(frozen=True)
class Statement:
    """A caption taken apart: what it says of the thing itself (colours, materials), and what the thing bears, with
    the colours of that: ("accessories", "hat", ("blue",))."""

    text: str
    mentions: tuple[Mention, ...]

    @classmethod
    def of(cls, text: str, vocabulary: Vocabulary) -> Statement:
        return cls(text, tuple(vocabulary.mentions(text)))

    @property
    def colours(self) -> tuple[str, ...]:
        """Colours of the thing itself."""
        return tuple(mention.value for mention in self.mentions if mention.kind == "colour")

    @property
    def borne(self) -> tuple[Mention, ...]:
        """Patterns, parts and accessories, without those that are denied."""
        return tuple(mention for mention in self.mentions if mention.kind in _BEARERS)

    @property
    def facts(self) -> frozenset[Fact]:
        return frozenset(
            (mention.kind, mention.value, tuple(inner.value for inner in mention.qualifiers))
            for mention in self.mentions
        )

    def body(self, noun: str, colour: str) -> str:
        """A probe for an image-text encoder: only this colour and this noun."""
        return f"a photo of a {colour} {noun}".replace("  ", " ")

    def without(self, mention: Mention) -> str:
        """The caption without one thing that is borne, its adjectives and the word that joins it."""
        start = min((inner.start for inner in mention.qualifiers), default=mention.start)
        before = re.sub(
            r"[\s,]*\b(?:with|wearing|has|having|and)?(?:\s+(?:a|an|the|its|some))?\s*$", "", self.text[:start]
        )
        return " ".join((before + self.text[mention.end :]).split())


def agreement(caption: Statement, other: Statement, noun: str) -> float:
    """Share of three questions on which two captions of one thing agree: both say the noun; they say the same colours
    of it; whatever it bears by the first it bears by the second."""
    nouns = says(caption.text, noun) and says(other.text, noun)
    colours = set(caption.colours) == set(other.colours)
    bears = {fact for fact in caption.facts if fact[0] in _BEARERS} <= other.facts
    return (nouns + colours + bears) / 3


def spoken_of(caption: str, nouns: Sequence[str]) -> list[str]:
    """Those of the nouns that a caption says."""
    return [noun for noun in nouns if says(caption, noun)]
