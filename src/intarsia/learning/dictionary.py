"""The attribute dictionary of a subject, and which of its attributes a prompt contradicts (DreamMix's ADM
and TAS).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from intarsia.learning.errors import DictionaryError
from intarsia.perception import (
    KINDS,
    AttributeAdvisor,
    Mention,
    NamerError,
    Vocabulary,
    YamlNamer,
    checked_attributes,
    subject_phrase,
)

ADDITIVE = frozenset({"parts"})
"""Kinds of which a thing has several at once, so that naming one contradicts no other."""


@dataclass(frozen=True)
class AttributeDictionary:
    """kind (colour, material, pattern, shape, parts, accessories) -> values, lower case, in a fixed order.

    A value may carry its own adjective ("white stripes", "red hat"). `class_noun` is never taken for an
    attribute.
    """

    kinds: Mapping[str, tuple[str, ...]]
    class_noun: str | None = None

    def __post_init__(self) -> None:
        try:
            checked = checked_attributes(
                {kind: list(_as_list(values)) for kind, values in self.kinds.items()}, "the dictionary"
            )
        except (NamerError, AttributeError, TypeError) as error:
            raise DictionaryError(str(error)) from error
        ordered = {kind: tuple(checked[kind]) for kind in KINDS if kind in checked}
        object.__setattr__(self, "kinds", MappingProxyType(ordered))

    def __hash__(self) -> int:
        return hash((tuple(self.kinds.items()), self.class_noun))

    @classmethod
    def from_yaml(cls, path: str | Path, class_noun: str | None = None) -> AttributeDictionary:
        """Read a file with one line per kind, such as `colour: [red]`; raises `DictionaryError`."""
        try:
            return cls(_tuples(YamlNamer(path).name((), (), class_noun or "")), class_noun)
        except NamerError as error:
            raise DictionaryError(str(error)) from error

    def to_yaml(self) -> str:
        """The text of a file that `from_yaml` and `YamlNamer` read."""
        import yaml

        text: str = yaml.safe_dump(
            {kind: list(values) for kind, values in self.kinds.items()}, sort_keys=False, allow_unicode=True
        )
        return text

    @classmethod
    def from_json(cls, text: str, class_noun: str | None = None) -> AttributeDictionary:
        """The inverse of `to_json`; raises `DictionaryError`."""
        try:
            return cls(_tuples(checked_attributes(json.loads(text), "the dictionary")), class_noun)
        except (ValueError, NamerError) as error:
            raise DictionaryError(f"the dictionary cannot be read from {text[:60]!r}: {error}") from error

    def to_json(self) -> str:
        """kind -> list of values."""
        return json.dumps({kind: list(values) for kind, values in self.kinds.items()})

    def conflicts(
        self,
        prompt: str,
        *,
        class_noun: str | None = None,
        vocabulary: Vocabulary | None = None,
        advisor: AttributeAdvisor | None = None,
    ) -> list[str]:
        """The values of this dictionary that the prompt contradicts: it names *another* value of the same
        kind.

        Synonyms are the same value ("crimson" does not contradict "red"). Only words about the subject
        count, not those about its place ("on a red table") or its things ("wearing a red hat" says nothing
        of its body). Never a value that the prompt itself contains; of a value such as "white stripes" only
        the words that the prompt does not contain ("with white dots" leaves "stripes"). Parts contradict
        nothing.

        Args:
            class_noun: not taken for an attribute; by default this dictionary's own.
            vocabulary: by default the package's.
            advisor: is asked instead of these rules (the paper's third request); gives whole values, and may
                raise NamerError.
        """
        if advisor is not None:
            return advisor.conflicts(self.kinds, (self.class_noun if class_noun is None else class_noun) or "", prompt)
        words = _default_vocabulary() if vocabulary is None else vocabulary
        noun = self.class_noun if class_noun is None else class_noun
        text = prompt if not noun else _word(noun).sub(lambda found: " " * len(found.group()), prompt)
        start, end = subject_phrase(prompt, noun)
        mentions = words.mentions(text[start:end])
        found: list[str] = []
        for kind, values in self.kinds.items():
            if kind in ADDITIVE:
                continue
            named = [mention for mention in mentions if mention.kind == kind]
            own = {words.canonical(kind, value) for value in values if _word(value).search(text[start:end])}
            if not named and not own:
                continue
            for value in values:
                found += _contradicted(value, kind, named, own, words, prompt)
        return list(dict.fromkeys(found))


def dictionary_from(attributes: Mapping[str, Sequence[str]], class_noun: str) -> AttributeDictionary:
    """What a namer said, without the words that only repeat the class noun."""
    kinds = {
        kind: tuple(value for value in values if value.lower() != class_noun.lower())
        for kind, values in attributes.items()
    }
    return AttributeDictionary(kinds, class_noun)


def _contradicted(
    value: str, kind: str, named: Sequence[Mention], own: set[str], words: Vocabulary, prompt: str
) -> list[str]:
    if _word(value).search(prompt):
        return []
    head, qualifiers = head_and_adjectives(value, kind, words)
    same = [mention for mention in named if mention.value == head]
    if not same and (named or own - {words.canonical(kind, value)}):
        left = [part for part in value.split() if not _word(part).search(prompt)]
        return [" ".join(left)] if left else []
    said = {qualifier.value for mention in same for qualifier in mention.qualifiers}
    return [text for text, canonical in qualifiers if said and canonical not in said and not _word(text).search(prompt)]


def head_and_adjectives(value: str, kind: str, words: Vocabulary) -> tuple[str, list[tuple[str, str]]]:
    """ "white striped" -> the canonical "stripes" and its adjectives as written and canonical."""
    mentions = words.mentions(value)
    heads = [mention for mention in mentions if mention.kind == kind]
    if not heads:
        return words.canonical(kind, value), []
    head = heads[-1]
    before = [*head.qualifiers, *(mention for mention in mentions if mention.end <= head.start)]
    return head.value, [(value[mention.start : mention.end], mention.value) for mention in before]


def _word(text: str) -> re.Pattern[str]:
    parts = r"\s+".join(re.escape(part) for part in text.split())
    return re.compile(rf"(?<!\w){parts or '(?!)'}(?!\w)", re.IGNORECASE)


def _as_list(values: object) -> Sequence[str]:
    if isinstance(values, str):
        return [values]
    return list(values)  # type: ignore[call-overload, no-any-return]


def _tuples(values: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {kind: tuple(words) for kind, words in values.items()}


@cache
def _default_vocabulary() -> Vocabulary:
    return Vocabulary.load()
