"""Attributes as one caption, in the word order of the captions the miniature was trained on."""

from __future__ import annotations

from collections.abc import Mapping

from intarsia.perception.vocabulary import ABSENT

OPENING = "a photo of a"
# The article stays "a" before vowels too: prompts that differ in one attribute must differ in nothing else.


def describe(
    class_noun: str, attributes: Mapping[str, str], *, token: str | None = None, opening: str = OPENING
) -> str:
    """One value per kind -> "a photo of a [token] red clay duck with white stripes wearing a blue hat".

    The absent values ("plain", "none") are not written, except "plain", which goes in front.
    """
    pattern = attributes.get("pattern")
    words = [opening, "plain" if pattern == ABSENT["pattern"] else "", token or ""]
    words += [attributes.get(kind, "") for kind in ("shape", "colour", "material")]
    words.append(class_noun)
    worn = [attributes[kind] for kind in ("pattern", "parts") if attributes.get(kind) not in (None, ABSENT.get(kind))]
    if worn:
        words.append("with " + " and ".join(worn))
    accessory = attributes.get("accessories")
    if accessory not in (None, ABSENT["accessories"]):
        words.append(f"wearing a {accessory}")
    return " ".join(" ".join(words).split())
