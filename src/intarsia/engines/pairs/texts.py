"""Instructions as texts: articles, templates, and the check that each one passes before it is written down."""

from __future__ import annotations

import re

from intarsia.engines.quadruplets.words import says
from intarsia.perception import InstructionError, parse_instruction

VERBS = ("add", "put", "place", "insert", "include", "draw")
MOST_WORDS = 25
_ARTICLE = re.compile(r"^(?:a|an|the|some|two|three|four|five|several|many|one|another)\s", re.I)
_DOUBLED = re.compile(r"\b(a|an|the)\s+(?:(?:a|an|the)\s+)+", re.I)
_REFUSAL = re.compile(r"\b(?:i cannot|i can't|sorry|as an ai|language model)\b", re.I)
_SOUNDS_LIKE_YOU = re.compile(r"^(?:uni(?:[^nm]|$)|use|usual|euro|ewe|one\b|once|u[- ])", re.I)
_SILENT = re.compile(r"^(?:hour|honest|honou?r|heir)", re.I)
_PLURAL = ("scissors", "skis", "pants", "jeans", "glasses", "sunglasses", "trousers", "shorts", "goggles", "pliers")
_SIDE = re.compile(
    r"^(?:the\s+)?(?P<side>(?:far\s+|very\s+)?(?:left|right|middle|center|centre|top|bottom|front|back))"
    r"(?:most|\s+most|\s+side)?\s+(?P<rest>.+)$",
    re.I,
)
_PLACES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}


def with_article(noun: str) -> str:
    """ "mug" -> "a mug", "umbrella" -> "an umbrella", "the mug" and "scissors" as they are."""
    words = " ".join(noun.split())
    if not words or _ARTICLE.match(words) or words.lower().split()[-1] in _PLURAL:
        return words
    vowel = words[0].lower() in "aeiou" and not _SOUNDS_LIKE_YOU.match(words)
    return f"{'an' if vowel or _SILENT.match(words) else 'a'} {words}"


def class_instruction(class_name: str) -> str:
    """ "add a CLASS"."""
    return f"add {with_article(class_name)}"


def expression_instruction(expression: str) -> str:
    """A referring expression as an instruction: "right horse" -> "add a horse on the right"."""
    words = " ".join(expression.split()).strip(" .")
    place = _SIDE.match(words)
    if place is None:
        return f"add {with_article(words)}"
    side = place["side"].lower().split()[-1]
    where = _PLACES.get(side, f"in the {'middle' if side in ('center', 'centre') else side}")
    return f"add {with_article(place['rest'])} {where}"


def tidy(text: str) -> str:
    """One line without doubled articles, in lower case at its beginning, without quotes and a full stop."""
    words = " ".join(text.split()).strip(" .\"'`")
    words = _DOUBLED.sub(lambda found: found[0].split()[-1] + " ", words)
    return words[:1].lower() + words[1:]


def fault_of(text: str, class_name: str | None, *, placed: bool = True) -> str | None:
    """What is wrong with an instruction, or None: it starts with a verb that adds, asks for nothing else, names the
    class or another word for it (``class_name`` None: need not), has at most 25 words and no doubled article, and
    without ``placed`` does not say where in the picture."""
    words = text.split()
    if not words or words[0].lower() not in VERBS:
        return "does not start with a verb"
    if len(words) < 2:
        return "names nothing"
    if len(words) > MOST_WORDS:
        return f"has more than {MOST_WORDS} words"
    if _REFUSAL.search(text):
        return "is no instruction"
    if _DOUBLED.search(text):
        return "has a doubled article"
    if class_name is not None and not any(says(text, noun) for noun in (class_name, class_name.split()[-1])):
        return "does not name the class"
    try:
        parsed = parse_instruction(text)
    except InstructionError:
        return "asks for something else, or names nothing"
    return "says where" if parsed.place is not None and not placed else None
