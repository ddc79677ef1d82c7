"""Words for what a picture shows: natural captions with paraphrases and synonyms, and captions of emptiness."""

from __future__ import annotations

import random
from collections.abc import Mapping

from intarsia.tabletop.vocabulary import (
    ACCESSORIES,
    CLASSES,
    COLOURS,
    EVEN_PATTERNS,
    IDENTITY_TOKEN,
    MATERIALS,
    PATTERNS,
    TABLES,
)

_OPENINGS = ("a photo of a", "a picture of a", "a", "one", "a photo of one", "there is a", "a small")
_EMPTY = (
    "an empty {table}",
    "a photo of an empty {table}",
    "nothing on the {table}",
    "only the {table}, nothing on it",
    "the {table} and the wall",
)


def colour_is_right(attributes: Mapping[str, str], seen: str) -> bool:
    """Whether a colour is a true answer to "what colour is it?": of an even pattern, either of its two is."""
    right = {attributes["colour"]}
    if attributes["pattern"] in EVEN_PATTERNS:
        right.add(attributes["second_colour"])
    return seen in right


def caption(attributes: Mapping[str, str]) -> str:
    """The canonical caption: every attribute, canonical words, one fixed form. Used for measurements."""
    words = f"a photo of a {attributes['colour']} {attributes['material']} {attributes['class']}"
    if "second_colour" in attributes:
        words += f" with {attributes['second_colour']} {PATTERNS[attributes['pattern']][0]}"
    if "accessory_colour" in attributes:
        words += f" wearing a {attributes['accessory_colour']} {attributes['accessory']}"
    return words


def paraphrase(attributes: Mapping[str, str], draw: random.Random, identity: float = 0.1) -> str:
    """A caption in other words. Attributes are sometimes left out; ``identity`` is how often the rare token appears."""
    noun = draw.choice(CLASSES[attributes["class"]])
    colour = attributes["colour"]
    material = draw.choice(MATERIALS[attributes["material"]])
    token = f"{IDENTITY_TOKEN} " if draw.random() < identity else ""
    say_material, say_colour = draw.random() < 0.88, draw.random() < 0.94
    form = draw.random()
    if form < 0.12 and say_material and say_colour:
        body = f"{token}{noun} made of {colour} {material}"
    elif form < 0.22 and say_material and say_colour:
        body = f"{material} {token}{noun} in {colour}"
    elif form < 0.30 and say_material and say_colour:
        body = f"{material} {colour} {token}{noun}"
    else:
        words = [token.strip()] if token else []
        words += [colour] if say_colour else []
        words += [material] if say_material else []
        body = " ".join([*words, noun])
    if "second_colour" in attributes:
        if draw.random() < 0.93:
            pattern = draw.choice(PATTERNS[attributes["pattern"]])
            body += f" {draw.choice(('with', 'with', 'and'))} {attributes['second_colour']} {pattern}"
    elif draw.random() < 0.15:
        body = f"plain {body}"
    if "accessory_colour" in attributes:
        if draw.random() < 0.93:
            worn = f"{attributes['accessory_colour']} {draw.choice(ACCESSORIES[attributes['accessory']])}"
            body += draw.choice(
                (f" wearing a {worn}", f" with a {worn}", f" and a {worn}", f", wearing a {worn}")
            )
    elif draw.random() < 0.08:
        body += " without accessories"
    return f"{draw.choice(_OPENINGS)} {body}"


def brief_caption(attributes: Mapping[str, str], draw: random.Random) -> str:
    """The noun, and about every other time one more attribute: what a user writes who also shows a picture."""
    noun = draw.choice(CLASSES[attributes["class"]])
    ways = ["", "", f"{attributes['colour']} ", f"{draw.choice(MATERIALS[attributes['material']])} "]
    body = draw.choice(ways) + noun
    if "accessory_colour" in attributes and draw.random() < 0.4:
        body = f"{noun} wearing a {attributes['accessory_colour']} {draw.choice(ACCESSORIES[attributes['accessory']])}"
    elif "second_colour" in attributes and draw.random() < 0.3:
        body = f"{noun} with {attributes['second_colour']} {draw.choice(PATTERNS[attributes['pattern']])}"
    return f"{draw.choice(_OPENINGS)} {body}"


def background_caption(table: str, draw: random.Random | None = None) -> str:
    """What to say of a place where nothing stands; without ``draw`` the canonical "an empty table"."""
    if draw is None:
        return "an empty table"
    return draw.choice(_EMPTY).format(table=draw.choice(TABLES[table]))


def vocabulary_words() -> list[str]:
    """Every word that captions, namers and prompts of this world use; the tokenizer gives each a token of its own."""
    text = [
        *COLOURS,
        *CLASSES,
        *MATERIALS,
        *PATTERNS,
        *ACCESSORIES,
        *TABLES,
        *_OPENINGS,
        *_EMPTY,
        IDENTITY_TOKEN,
    ]
    for table in (CLASSES, PATTERNS, MATERIALS, ACCESSORIES, TABLES):
        for synonyms in table.values():
            text += synonyms
    text += [
        "with and in on of the an a made wearing without accessories plain small big large round tall wide thin",
        "photo picture image object toy table wall background scene grey gray gold silver dark light bright",
        "shape colour color material pattern accessory parts left right red subject style it is no not only",
    ]
    words = {w.strip("{},.") for line in text for w in line.lower().split()}
    return sorted(w for w in words if w)
