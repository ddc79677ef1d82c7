"""The identity token in a prompt: it stands before the class noun and the adjectives that belong to it."""

from __future__ import annotations

import re

_STARTS = frozenset(
    {"a", "an", "the", "my", "your", "his", "her", "its", "our", "their", "this", "that", "these", "those"}
    | {"one", "some", "of", "with", "and", "or", "on", "in", "at", "by", "for", "from", "to", "wearing"}
    | {"near", "beside", "behind", "under", "over"}
)
_MOST_ADJECTIVES = 6


def prompt_with_token(prompt: str, token: str, class_noun: str) -> str:
    """`prompt` with the identity token in it, once: "a red duck" -> "a sks red duck".

    A prompt that holds the token stays as it is. The token goes before the first class noun and the
    adjectives in front of it (back to an article, a preposition, "and", or punctuation). Without the class
    noun the prompt is prefixed: "on the beach" -> "a sks duck on the beach"; an empty one becomes "a photo
    of a sks duck".
    """
    text = " ".join(prompt.split())
    if re.search(rf"(?<!\w){re.escape(token)}(?!\w)", text, re.IGNORECASE):
        return text
    if not text:
        return f"a photo of a {token} {class_noun}"
    noun = r"\s+".join(map(re.escape, class_noun.split()))
    found = re.search(rf"(?<!\w){noun}(?!\w)", text, re.IGNORECASE)
    if found is None:
        first = text.split()[0].lower()
        comma = "," if first in {"a", "an", "the", "one", "photo", "picture"} else ""
        return f"a {token} {class_noun}{comma} {text}"
    words = text[: found.start()].split()
    start = len(words)
    while start > 0 and len(words) - start < _MOST_ADJECTIVES:
        word = words[start - 1]
        if word.lower() in _STARTS or not word[-1].isalnum():
            break
        start -= 1
    if len(words) - start == _MOST_ADJECTIVES:
        start = len(words)
    before, adjectives = words[:start], words[start:]
    if before and before[-1].lower() == "an" and token[0].lower() not in "aeiou":
        before[-1] = before[-1][0]
    return " ".join([*before, token, *adjectives, text[found.start() :]])
