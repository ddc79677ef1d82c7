"""Instructions as texts: articles, templates, and the check that each one passes before it is written down."""

from __future__ import annotations

import re

from intarsia.engines.quadruplets.words import says, synonyms
from intarsia.perception import InstructionError, parse_instruction

VERBS = ("add", "put", "place", "insert", "include", "draw")
MOST_WORDS = 25
_ARTICLE = re.compile(r"^(?:a|an|the|some|two|three|four|five|several|many|one|another)\s", re.I)
_DOUBLED = re.compile(r"\b(a|an|the)\s+(?:(?:a|an|the)\s+)+", re.I)
_REFUSAL = re.compile(r"\b(?:i cannot|i can't|sorry|as an ai|language model)\b", re.I)
_SOUNDS_LIKE_YOU = re.compile(r"^(?:uni(?:[^nm]|$)|use|usual|euro|ewe|one\b|once|u[- ])", re.I)
_SILENT = re.compile(r"^(?:hour|honest|honou?r|heir)", re.I)
_PLURAL = frozenset(
    re.findall(
        r"\w+",
        "scissors skis pants jeans glasses sunglasses eyeglasses spectacles trousers shorts goggles pliers binoculars "
        "tongs tweezers shears tights leggings overalls pajamas pyjamas suspenders headphones earphones handcuffs "
        "fries clothes people men women children kids feet teeth geese mice",
    )
)
_FEW = ("few", "couple", "pair", "dozen", "group", "bunch", "lot", "set", "hundred", "thousand")
_NO_HEAD = re.compile(
    r"\s(?:in|on|at|of|with|without|from|by|to|near|behind|beside|next|under|over|above|below|between|and|or|who|"
    r"that|which|for|\w+ing)(?=\s).*$",
    re.I,
)
_BRACKETS = re.compile(r"(?<=\S)\s*\(.*$")
_DENIAL = re.compile(r"(?<![\w-])(?:not|\w+n['\u2019]t)(?![\w-])", re.I)
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        "a an the some another other others one ones it this that these those and or of in on at to from near by very "
        "far left right leftmost rightmost top bottom topmost bottommost upper lower middle center centre front back "
        "side corner edge end most half first second third fourth fifth last next",
    )
)
_SIDE = re.compile(
    r"^(?:the\s+)?(?P<side>(?:far\s+|very\s+)?(?:left|right|middle|center|centre|top|bottom|front|back))"
    r"(?:most|\s+most|\s+side)?\s+(?P<rest>.+)$",
    re.I,
)
_PLACES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}


def spoken(class_name: str) -> str:
    """A class as one says it, without what brackets explain: "bow (decorative ribbons)" -> "bow"."""
    words = " ".join(class_name.split())
    return _BRACKETS.sub("", words).strip("() ") or words


def with_article(noun: str) -> str:
    """ "mug" -> "a mug", "umbrella" -> "an umbrella", "the mug", "scissors" and "people in red" as they are."""
    words = " ".join(noun.split())
    if not words or _ARTICLE.match(words) or _is_plural(words):
        return words
    vowel = words[0].lower() in "aeiou" and not _SOUNDS_LIKE_YOU.match(words)
    return f"{'an' if vowel or _SILENT.match(words) else 'a'} {words}"


def class_instruction(class_name: str) -> str:
    """ "add a CLASS", the class as `spoken`."""
    return f"add {with_article(spoken(class_name))}"


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
    """What is wrong with an instruction, or None: it starts with a verb that adds, asks for nothing else, names more
    than a place, and the class or another word for it (``class_name`` None: need not), does not say what the thing is
    not, has at most 25 words, no doubled article and no singular one before a plural, and without ``placed`` does not
    say where in the picture."""
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
    if _DENIAL.search(text):
        return "says what the thing is not"
    if class_name is not None and not _names(text, spoken(class_name)):
        return "does not name the class"
    try:
        parsed = parse_instruction(text)
    except InstructionError:
        return "asks for something else, or names nothing"
    if not set(re.findall(r"[^\W_]+", parsed.thing.lower())) - _EMPTY:
        return "names nothing but a place"
    if parsed.article in ("a", "an") and _is_plural(parsed.thing):
        return "has the article of one thing for several"
    return "says where" if parsed.place is not None and not placed else None


def _names(text: str, noun: str) -> bool:
    return any(says(text, one) for one in (noun, *noun.split()[-1:]))


def _is_plural(words: str) -> bool:
    """Whether a thing's noun has no singular, is a known irregular plural, or a known noun's plural."""
    noun = _NO_HEAD.sub("", words.lower()).split()
    if not noun or noun[0] in _FEW:
        return False
    last = noun[-1].strip(".,;:")
    return last in _PLURAL or any(last.endswith(end) and last.removesuffix(end) in synonyms() for end in ("s", "es"))
