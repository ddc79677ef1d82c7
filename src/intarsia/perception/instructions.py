"""Instructions to add something, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from intarsia.perception.errors import PerceptionError
from intarsia.perception.places import PLACE, PLACES, cell_number, cell_of

_EXAMPLE = 'for example "add a red mug at the left"'
_NUMBERS = {
    **{"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6},
    **{"seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12},
}
_DETERMINERS = ("a", "an", "the", "some", "another", "my", "his", "her", "their", *_NUMBERS)
_SEVERAL = r"(?:several|many|multiple|numerous|a few|a couple of|a pair of|a bunch of|a dozen)"
_NAMELESS = set(
    re.findall(
        r"\w+",
        "it this that these those them something anything thing things stuff object objects item items more one some "
        "another else new here there and or to in on at the a an",
    )
)
_POLITE = re.compile(
    r"^(?:(?:please|kindly|now|then|also|and|so|just|ok|okay|hey|hi|(?:can|could|would|will) you|let'?s|let us|"
    r"(?:i|we) (?:want|would like|should|need)(?: you)?(?: to)?|(?:i|we)'d like(?: you)?(?: to)?|you should)\b[\s,]*)+",
    re.I,
)
_THANKS = re.compile(r"[\s,]*\b(?:please|thanks|thank you|for me)[\s.!]*$", re.I)
_REMOVE = r"remove|delete|erase|eliminate|get\s+rid|(?:take|put)\s+(?:[\w']+\s+){0,4}?(?:away|out|off)"
# Words that are nouns as well ("a change purse", "clear glass") ask for an edit where a thing that is known follows.
_KNOWN = r"(?:the|this|that|these|those|it|them|all|everything|everyone|every|my|his|her|their|its)"
_OTHER_EDITS = (
    r"clear|replace|substitute|swap|exchange|change|turn|transform|convert|recolou?r|colou?r|make|move|hide|cover|rotate|"
    r"flip|blur|sharpen|resize|crop|darken|brighten|paint|draw over|get"
)
_QUOTED = re.compile(
    r"\b(?:says?|saying|reads?|reading|written|labell?ed|titled|named|called)\b.*$|[\"“][^\"”]*[\"”]", re.I
)
_FORBIDDEN = re.compile(
    rf"(?<!\ba )(?<!\ban )(?<!\bthe )\b(?P<verb>{_REMOVE})\b|"
    rf"(?:^|[,;.:]\s*|\b(?:and|then|but)\s+)(?P<other>{_OTHER_EDITS})\s+{_KNOWN}\b|"
    rf"^(?P<swapped>replace|substitute|exchange|swap)\b",
    re.I,
)
_NEGATED = re.compile(r"^(?:don'?t|do not|never)\b|^(?:\w+\s+)?(?:nothing|none|no|not)\b", re.I)
_DOUBLED = re.compile(r"\b(?:a|an|the)\s+(?=(?:a|an|the)\b)", re.I)
_VERB = re.compile(r"^(add|put|place|insert|draw|include)\b:?(?:\s+in(?=\s+(?:a|an|some|one)\b))?\s*", re.I)
_OTHER_VERB = re.compile(
    r"^(?:create|paint|make|render|generate|set|drop|stick|show|have|give)(?:\s+(?:me|us))?\s+"
    rf"(?=(?:a|an|some|another|several|{'|'.join(_NUMBERS)}|\d+)\b)",
    re.I,
)
_RELATION = re.compile(
    r"\s*,?\s*\b(?:(?:just|right|directly|immediately|close|far)\s+)?"
    r"(?:next\s+to|beside|besides|near|behind|in\s+front|in\s+between|on|onto|under|underneath|below|above|over|"
    r"between|among|to|into|against|inside|around|at|by\s+the|(?:left|right)\s+of|"
    r"in\s+(?:the|this|that|his|her|their|its|my))\b(?!-).*$",
    re.I,
)
_BEFORE = r"^(?P<where>(?:on|in|at|to|next|near|behind|under|above|beside|between)\b.*?)[\s,]+"
_BEFORE_VERB = re.compile(rf"{_BEFORE}(?P<what>(?:add|put|place|insert|draw|include)\b.+)$", re.I)
_BEFORE_THING = re.compile(rf"{_BEFORE}(?P<what>(?:a|an|some|another|{'|'.join(_NUMBERS)})\s.+)$", re.I)
_WORN = re.compile(r"\b(?:with|wearing|holding|carrying)\b.*$", re.I)
_PLURAL = re.compile(r"[^\W\d_]{2,}(?<![su])s$", re.I)


class InstructionError(PerceptionError):
    """An instruction that does not say what to add, or asks for something else."""


@dataclass(frozen=True)
class Instruction:
    """`words`: the whole instruction, with a verb. `verb`, `article` ("" where there is none), `thing`: what is added,
    without where it is ("red mug"). `place`: one of `PLACES`, or None where no such place is named. `relation`: where
    it is, beside other things ("next to the teapot"), or "".
    """

    verb: str
    article: str
    thing: str
    place: str | None
    words: str
    relation: str = ""

    @property
    def prompt(self) -> str:
        """The thing as a caption would call it: "a red mug"."""
        if self.article in ("a", "an", "some", *_NUMBERS) or self.article.isdigit():
            return f"{self.article} {self.thing}"
        if self.article in ("", "the") and self.count > 1:
            return self.thing
        return f"{'an' if self.thing[:1].lower() in 'aeiou' else 'a'} {self.thing}"

    @property
    def count(self) -> int:
        """How many things are named, at least: "two mugs", "some mugs", "a mug and a duck" are two; what a thing wears
        or holds is a part of it."""
        own = _WORN.sub("", self.thing).strip()
        joined = re.findall(rf"\b(?:and|plus)\s+(a|an|another|{'|'.join(_NUMBERS)})\b", own, re.I)
        number = int(self.article) if self.article.isdigit() else _NUMBERS.get(self.article, 1)
        first = re.split(r"\b(?:and|plus|of)\b", own, maxsplit=1)[0].strip()
        many = re.match(rf"{_SEVERAL}\b", f"{self.article} {own}".strip(), re.I) or (
            self.article in ("", "some", "the", "my", "his", "her", "their") and _PLURAL.search(first)
        )
        return max(number, 2 if many else 1) + sum(_NUMBERS.get(word.lower(), 1) for word in joined)

    @property
    def told(self) -> str:
        """What an instruction model is told: "add", the thing, and where it is in the words of `PLACES`, which such
        models are trained with; relations to other things as they are said."""
        where = self.relation or ("" if self.place is None else f"at {self.place}")
        return " ".join(f"add {self.article} {self.thing} {where}".split())

    def at(self, place: str) -> str:
        """What it is told with this place (one of `PLACES`) instead of its own: "add a red mug at the left"."""
        return " ".join(f"add {self.article} {self.thing} at {PLACES[cell_of(place)]}".split())


def parse_instruction(text: str) -> Instruction:
    """The parts of an instruction in English: "add a red mug at the left", "put two ducks on the table", "a mug".

    Relations to other things ("next to the teapot") are no part of the thing. Words of politeness are left out.

    Raises:
        InstructionError: it is empty, asks for another kind of edit, or names nothing.
    """
    given = " ".join(str(text).split())
    if not given:
        raise InstructionError(f"the instruction is empty; say what to add, {_EXAMPLE}")
    plain = _THANKS.sub("", _DOUBLED.sub("", _POLITE.sub("", given)).rstrip(" .!?,;")).rstrip(" .!?,;")
    _refuse_other_edits(plain, given)
    plain = _OTHER_VERB.sub("add ", plain)
    first = PLACE.match(plain)
    where = None if first is None else PLACES[cell_number(first)]
    rest = _turned(_BEFORE_VERB, plain if first is None else plain[first.end() :].lstrip(" ,"))
    found = _VERB.match(rest)
    verb = found[1].lower() if found else "add"
    place, rest = _without_place(rest[found.end() :] if found else rest)
    rest = _turned(_BEFORE_THING, rest)
    related = _RELATION.search(rest)
    relation = "" if related is None else related[0].strip(" ,.;:")
    article, thing = _article_of(_RELATION.sub("", rest).strip(" .,;:"))
    said = {word for word in re.findall(r"\w+", thing.lower()) if re.search(r"[^\W\d_]", word)}
    if not said - _NAMELESS:
        raise InstructionError(f"the instruction {given!r} names nothing to add; say what, {_EXAMPLE}")
    words = plain if _VERB.match(plain) else f"add {plain}"
    return Instruction(verb, article, thing, place or where, words, relation)


def _refuse_other_edits(plain: str, given: str) -> None:
    asked = _QUOTED.sub("", plain)
    other = _FORBIDDEN.search(asked)
    if other is not None:
        verb = (other["verb"] or other["other"] or other["swapped"]).lower().split()[0]
        advice = "use remove with a mask" if re.match("remove|delete|erase|elim|take|put|get|clear|hide", verb) else (
            "use insert"
        )  # fmt: skip
        raise InstructionError(
            f"the instruction {given!r} asks to {verb} something, which adding cannot do; {advice}, or say what to "
            f"add, {_EXAMPLE}"
        )
    if _NEGATED.search(asked):
        raise InstructionError(f"the instruction {given!r} says what not to add; say what to add, {_EXAMPLE}")


def _turned(before: re.Pattern[str], text: str) -> str:
    """Where it is said before the rest, it is said behind it."""
    found = before.match(text)
    return text if found is None else f"{found['what']} {found['where']}"


def _without_place(text: str) -> tuple[str | None, str]:
    found = PLACE.search(text)
    if found is None:
        return None, text
    return PLACES[cell_number(found)], f"{text[: found.start()]} {text[found.end() :]}".strip()


def _article_of(text: str) -> tuple[str, str]:
    """(article, thing)."""
    article = ""
    while True:
        head, _, tail = text.partition(" ")
        if head.lower() not in _DETERMINERS and not (head.isdecimal() and tail):
            return article, " ".join(text.split())
        article, text = head.lower(), tail.strip()
