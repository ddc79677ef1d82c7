"""Instructions to add something, as words and as parts; and places in words, of a grid of three by three cells."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from intarsia.perception.errors import PerceptionError
from intarsia.perception.helpers import BoolArray, Box

PLACES = (
    "the top left",
    "the top",
    "the top right",
    "the left",
    "the center",
    "the right",
    "the bottom left",
    "the bottom",
    "the bottom right",
)
"""What the cells of the grid are called, row by row; said after "at"."""

_EXAMPLE = 'for example "add a red mug at the left"'
_ROWS = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}
_COLUMNS = {"left": 0, "right": 2}
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_DETERMINERS = ("a", "an", "the", "some", "another", "my", "his", "her", "their", *_NUMBERS)
_NAMELESS = set(
    re.findall(
        r"\w+",
        "it this that these those them something anything thing things stuff object objects item items more one some "
        "another else new here there and or to in on at the a an",
    )
)
_POLITE = re.compile(
    r"^(?:(?:please|kindly|now|then|also|and|(?:can|could|would|will) you|(?:i|we) (?:want|would like)(?: you)? to)\b"
    r"[\s,]*)+",
    re.I,
)
_OTHER_EDITS = (
    r"remove|delete|erase|eliminate|take\s+(?:\w+\s+){0,4}?(?:away|out|off)|get\s+rid|clear|replace|substitute|swap|"
    r"exchange|change|turn|transform|convert|recolou?r|make|move"
)
_FORBIDDEN = re.compile(rf"(?:^|[,;.]\s*|\b(?:and|then)\s+)(?P<verb>{_OTHER_EDITS})\b", re.I)
_DOUBLED = re.compile(r"\b(?:a|an|the)\s+(?=(?:a|an|the)\b)", re.I)
_VERB = re.compile(r"^(add|put|place|insert|draw|include)\b(?:\s+in(?=\s+(?:a|an|some|one)\b))?\s*", re.I)
_PLACE = re.compile(
    r"[\s,]*\b(?:at(?:\s+the)?|(?:on|in|to|into|towards?|near)\s+the)\s+(?:very\s+|far\s+|extreme\s+)?"
    r"(?P<one>top|upper|bottom|lower|left|right|cent(?:er|re)|middle)"
    r"(?:[\s-]+(?P<two>left|right|cent(?:er|re)|middle))?(?:[\s-]+hand)?"
    r"(?:\s+(?:side|corner|edge|part|half|third|area|end))?"
    r"(?:\s+of\s+(?:the|this)\s+(?:picture|image|photo|scene|frame|canvas|table|desk|room|floor))?"
    r"(?=\s*$|\s*[,.;!?]|\s+(?:and|with|wearing|on|in|next|near|behind|a|an|one|two|some)\b)",
    re.I,
)
_RELATION = re.compile(
    r"\s*,?\s*\b(?:next\s+to|beside|besides|near|behind|in\s+front|in\s+between|on|onto|under|underneath|below|above|over|"
    r"between|among|to|into|against|inside|around|at|by\s+the|(?:left|right)\s+of|"
    r"in\s+(?:the|this|that|his|her|their|its|my))\b.*$",
    re.I,
)
_LEADING = re.compile(
    rf"^(?P<where>(?:on|in|at|to|next|near|behind|under|above|beside|between)\b.*?)[\s,]+"
    rf"(?P<what>(?:a|an|some|another|{'|'.join(_NUMBERS)})\s.+)$",
    re.I,
)


class InstructionError(PerceptionError):
    """An instruction that does not say what to add, or asks for something else."""


@dataclass(frozen=True)
class Instruction:
    """`words`: the whole instruction, with a verb. `verb`, `article` ("" where there is none), `thing`: what is added,
    without where it is ("red mug"). `place`: one of `PLACES`, or None where no such place is named.
    """

    verb: str
    article: str
    thing: str
    place: str | None
    words: str

    @property
    def prompt(self) -> str:
        """The thing as a caption would call it: "a red mug"."""
        indefinite = self.article in ("a", "an", "some", *_NUMBERS)
        return f"{self.article if indefinite else 'a'} {self.thing}"

    @property
    def count(self) -> int:
        """How many things are named: "two mugs" and "a mug and a duck" are two."""
        joined = re.findall(r"\band\s+(?:a|an|one|another)\b", self.thing, re.I)
        return _NUMBERS.get(self.article, 1) + len(joined)

    def at(self, place: str) -> str:
        """The words with this place (one of `PLACES`) instead of their own: "add a red mug at the left"."""
        cell_of(place)
        return " ".join(f"{self.verb} {self.article} {self.thing} at {place}".split())


def parse_instruction(text: str) -> Instruction:
    """The parts of an instruction in English: "add a red mug at the left", "put two ducks on the table", "a mug".

    Relations to other things ("next to the teapot") stay in `words` and are no part of the thing. Words of
    politeness are left out.

    Raises:
        InstructionError: it is empty, asks for another kind of edit, or names nothing.
    """
    given = " ".join(str(text).split())
    if not given:
        raise InstructionError(f"the instruction is empty; say what to add, {_EXAMPLE}")
    plain = _DOUBLED.sub("", _POLITE.sub("", given)).rstrip(" .!?,;")
    other = _FORBIDDEN.search(plain)
    if other is not None:
        verb = " ".join(other["verb"].lower().split()[:1])
        advice = "use remove with a mask" if re.match("remove|delete|erase|elim|take|get|clear", verb) else "use insert"
        raise InstructionError(
            f"the instruction {given!r} asks to {verb} something, which adding cannot do; {advice}, or say what to "
            f"add, {_EXAMPLE}"
        )
    found = _VERB.match(plain)
    verb, rest = (found[1].lower(), plain[found.end() :]) if found else ("add", plain)
    verb_and_rest = plain if found else f"add {plain}"
    place, rest = _without_place(rest)
    leading = _LEADING.match(rest)
    if leading is not None:
        rest = f"{leading['what']} {leading['where']}"
    rest = _RELATION.sub("", rest).strip(" .,;:")
    article, thing = _article_of(rest)
    words = {word for word in re.findall(r"\w+", thing.lower()) if re.search(r"[^\W\d_]", word)}
    if not words - _NAMELESS:
        raise InstructionError(f"the instruction {given!r} names nothing to add; say what, {_EXAMPLE}")
    return Instruction(verb, article, thing, place, verb_and_rest)


def place_of(mask: BoolArray) -> str:
    """Which of `PLACES` the middle (centroid) of a mask (H, W) is in.

    Raises:
        PerceptionError: an empty mask.
    """
    ys, xs = np.nonzero(mask)
    if not len(ys):
        raise PerceptionError("an empty mask is nowhere; give one that marks something")
    row = int((ys.mean() + 0.5) * 3 / mask.shape[0])
    return PLACES[3 * row + int((xs.mean() + 0.5) * 3 / mask.shape[1])]


def place_box(phrase: str, size: tuple[int, int]) -> Box:
    """The cell (x, y, w, h) of a place in words in a picture of ``size`` (height, width), both at least 3.

    Raises:
        InstructionError: no such place, or a picture without so many pixels.
    """
    row, column = divmod(cell_of(phrase), 3)
    if min(size) < 3:
        raise InstructionError(f"a picture of {size[1]}x{size[0]} px has no nine places; use a larger one")
    (top, bottom), (left, right) = (
        (index * side // 3, (index + 1) * side // 3) for index, side in ((row, size[0]), (column, size[1]))
    )
    return left, top, right - left, bottom - top


def cell_of(phrase: str) -> int:
    """The number in `PLACES` of a place in words, like "the left", "at the upper right corner", "top-left"."""
    found = _PLACE.match("at " + re.sub(r"^\s*(?:(?:at|on|in|to)\s+)?(?:the\s+)?", "", phrase.lower()).strip())
    if found is None:
        raise InstructionError(f"{phrase!r} is no place; use one of {', '.join(PLACES)}")
    return _cell(found)


def _cell(found: re.Match[str]) -> int:
    words = [word.lower() for word in (found["one"], found["two"]) if word]
    row = next((_ROWS[word] for word in words if word in _ROWS), 1)
    return 3 * row + next((_COLUMNS[word] for word in words if word in _COLUMNS), 1)


def _without_place(text: str) -> tuple[str | None, str]:
    found = _PLACE.search(text)
    if found is None:
        return None, text
    return PLACES[_cell(found)], f"{text[: found.start()]} {text[found.end() :]}".strip()


def _article_of(text: str) -> tuple[str, str]:
    """(article, thing)."""
    article = ""
    while True:
        head, _, tail = text.partition(" ")
        if head.lower() not in _DETERMINERS:
            return article, " ".join(text.split())
        article, text = head.lower(), tail.strip()
