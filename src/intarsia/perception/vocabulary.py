"""Attribute words: which values each kind has, their synonyms, and where a text mentions them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from intarsia.perception.errors import VocabularyError

if TYPE_CHECKING:
    from intarsia.backbones import Backbone

KINDS = ("colour", "material", "pattern", "shape", "parts", "accessories")
ABSENT = MappingProxyType({"pattern": "plain", "accessories": "none"})
"""The values that say: there is no such thing on the subject."""

_BEARERS = frozenset({"pattern", "parts", "accessories"})
_ADJECTIVES = frozenset({"colour", "material", "shape"})
_LINKS = re.compile(r"(?:\b(?:with|wearing|has|having|and|in|of)|,)\s*(?:\b(?:a|an|the|its|some)\s*)?$", re.I)
# From such a word on, a prompt speaks of the place, not of the subject.
_PLACES = re.compile(
    r"\b(?:on|onto|at|near|beside|behind|under|beneath|below|above|over|against|inside|between|next to"
    r"|in front of|in (?:a|an|the)|standing|sitting|lying|placed)\b",
    re.I,
)

Words = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Mention:
    """`text[start:end]` names `value` (canonical) of `kind`; `qualifiers` are the adjectives bound to it
    ("red" in "wearing a red hat"), which then say nothing about the subject itself."""

    kind: str
    value: str
    start: int
    end: int
    qualifiers: tuple[Mention, ...] = ()


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """`named`: kind -> value -> synonyms, to choose from; `recognised`: the same, but never chosen."""

    named: Words
    recognised: Words

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for kind, value, words in self._entries():
            if kind not in KINDS:
                raise VocabularyError(f"kind {kind!r} of the vocabulary is unknown: use {', '.join(KINDS)}")
            for word in (value, *words):
                if word in seen:
                    raise VocabularyError(
                        f"{word!r} is listed twice in the vocabulary ({seen[word]}, {kind}/{value}): keep one of them"
                    )
                seen[word] = f"{kind}/{value}"

    @classmethod
    def load(cls, path: str | Path | None = None) -> Vocabulary:
        """Read a vocabulary file (YAML, see `vocabulary.yaml` of this package, which is the default).

        Raises:
            VocabularyError: unreadable, of another layout, an unknown kind, or a word listed twice.
        """
        import yaml

        source = Path(str(files("intarsia.perception") / "vocabulary.yaml")) if path is None else Path(path)
        try:
            content = yaml.safe_load(source.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise VocabularyError(
                f"the vocabulary {source} cannot be read ({type(error).__name__}): "
                "give YAML with the sections named and recognised"
            ) from error
        if not isinstance(content, dict) or not set(content) <= {"named", "recognised"}:
            raise VocabularyError(f"the vocabulary {source} must have the sections named and recognised only")
        return cls(
            _words(content.get("named"), source),
            _words(content.get("recognised"), source),
        )

    @classmethod
    def for_photos(cls) -> Vocabulary:
        """`photo_vocabulary.yaml` of this package: words for things of the real world."""
        return cls.load(Path(str(files("intarsia.perception") / "photo_vocabulary.yaml")))

    @classmethod
    def of(cls, backbone: Backbone) -> Vocabulary:
        """The model folder's own `vocabulary.yaml` if it has one, else the package's."""
        own = None if backbone.path is None else backbone.path / "vocabulary.yaml"
        return cls.load(own if own is not None and own.is_file() else None)

    def values(self, kind: str) -> tuple[str, ...]:
        """The values of a kind to choose from; () for a kind without any."""
        return tuple(self.named.get(kind, {}))

    def canonical(self, kind: str, word: str) -> str:
        """The value that `word` stands for; an unknown word stands for itself."""
        found = self._lookup.get(" ".join(word.lower().split()))
        return found[1] if found is not None and found[0] == kind else " ".join(word.lower().split())

    def mentions(self, text: str) -> list[Mention]:
        """Every attribute word in `text`, in order; adjectives are bound to what they describe."""
        plain: list[Mention] = []
        for match in self._pattern.finditer(text):
            kind, value = self._lookup[" ".join(match.group().lower().split())]
            plain.append(Mention(kind, value, match.start(), match.end()))
        return _bound(plain, text)

    @cached_property
    def _lookup(self) -> Mapping[str, tuple[str, str]]:
        return {word: (kind, value) for kind, value, words in self._entries() for word in (value, *words)} | _negations(
            self.named, self.recognised
        )

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._lookup, key=lambda word: (-len(word), word))
        words = "|".join(r"\s+".join(map(re.escape, word.split())) for word in longest_first)
        return re.compile(rf"(?<![\w-])(?:{words or '(?!)'})(?![\w-])", re.I)

    def _entries(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        for section in (self.named, self.recognised):
            for kind, values in section.items():
                for value, words in values.items():
                    yield kind, value, words


def subject_phrase(text: str, class_noun: str | None = None) -> tuple[int, int]:
    """[start, end) of the part of a prompt that speaks of the subject rather than of its place.

    Text is cut at words of place ("on a red table"); the part with the class noun counts, else the first one.
    """
    edges = [0, *(match.start() for match in _PLACES.finditer(text)), len(text)]
    parts = [(start, end) for start, end in pairwise(edges) if text[start:end].strip()]
    if class_noun is not None:
        pattern = re.compile(rf"(?<!\w){re.escape(class_noun)}(?!\w)", re.I)
        for start, end in parts:
            if pattern.search(text[start:end]):
                return start, end
    return parts[0] if parts else (0, len(text))


def _bound(plain: Sequence[Mention], text: str) -> list[Mention]:
    result: list[Mention] = []
    for mention in plain:
        qualifiers: list[Mention] = []
        if mention.kind in _BEARERS:
            at = mention.start
            while (
                len(qualifiers) < len(result)
                and (last := result[-1 - len(qualifiers)]).kind in _ADJECTIVES
                and not text[last.end : at].strip()
            ):
                qualifiers.insert(0, last)
                at = last.start
            if qualifiers and _LINKS.search(text[:at]):
                del result[-len(qualifiers) :]
            else:
                qualifiers = []
        result.append(Mention(mention.kind, mention.value, mention.start, mention.end, tuple(qualifiers)))
    return result


def _negations(named: Words, recognised: Words) -> dict[str, tuple[str, str]]:
    """ "without a hat" names no hat: such phrases stand for themselves and so contradict nothing."""
    words = {
        word: kind
        for section in (named, recognised)
        for kind in _BEARERS & set(section)
        for value, synonyms in section[kind].items()
        for word in (value, *synonyms)
        if value != ABSENT.get(kind)
    }
    return {
        f"{start} {word}": ("", f"no {word}")
        for word in words
        for start in ("without", "without a", "without the", "without any", "no")
    }


def _words(section: Any, source: Path) -> Words:
    if section is None:
        return {}
    result: dict[str, Mapping[str, tuple[str, ...]]] = {}
    try:
        for kind, values in section.items():
            result[str(kind)] = MappingProxyType(
                {str(value).lower(): tuple(str(word).lower() for word in words) for value, words in values.items()}
            )
    except (AttributeError, TypeError) as error:
        raise VocabularyError(f"the vocabulary {source} is malformed: write kind: {{value: [synonym, …]}}") from error
    return MappingProxyType(result)
