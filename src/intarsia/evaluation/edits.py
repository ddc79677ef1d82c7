"""Edits of a subject in words: one attribute changed, the prompt that asks for it, and when it came out right."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from intarsia.tabletop import Level, Subject, colour_is_right

EDIT_KINDS = ("colour", "material", "accessory")


@dataclass(frozen=True)
class Edit:
    """``changes``: the subject's fields that it sets; equal edits change any subject alike."""

    kind: str
    changes: tuple[tuple[str, str], ...]
    prompt: str = field(compare=False)

    def apply(self, subject: Subject) -> Subject:
        """A subject as it truly looks after the edit."""
        return replace(subject, **dict(self.changes))  # type: ignore[arg-type]


def edits_of(subject: Subject, world: Level, draw: random.Random, token: str = "") -> list[Edit]:
    """A colour, a material and an accessory edit of a subject; ``token`` stands before its noun's words."""
    colour = draw.choice([c for c in world.colours if c not in (subject.colour, subject.second_colour)])
    material = draw.choice([m for m in world.materials if m != subject.material])
    worn = draw.choice([a for a in world.accessories if a not in ("none", subject.accessory)])
    shade = draw.choice([c for c in world.colours if c not in (subject.colour, subject.second_colour)])
    start = f"a photo of a {token} " if token else "a photo of a "
    return [
        Edit("colour", (("colour", colour),), f"{start}{colour} {subject.name}"),
        Edit("material", (("material", material),), f"{start}{material} {subject.name}"),
        Edit(
            "accessory",
            (("accessory", worn), ("accessory_colour", shade)),
            f"{start}{subject.name} wearing a {shade} {worn}",
        ),
    ]


def is_right(kind: str, seen: Mapping[str, str], truth: Mapping[str, str]) -> bool:
    """Whether the judge saw what is true; of an even pattern (stripes) either colour is a right answer."""
    return colour_is_right(truth, seen["colour"]) if kind == "colour" else seen[kind] == truth[kind]
