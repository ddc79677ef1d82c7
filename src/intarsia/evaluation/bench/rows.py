"""What a benchmark consists of: rows, subjects with their photos, and faults."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

Task = Literal["identity", "editing"]
SizeClass = Literal["small", "medium", "large", "huge"]
MaskShape = Literal["box", "silhouette"]
SIZE_CLASSES: Mapping[SizeClass, float] = {"small": 1 / 8, "medium": 1 / 4, "large": 1 / 2, "huge": 1.0}
"""Name -> the greatest share of the scene's longer side that the longer side of the mask's box has."""


@dataclass(frozen=True)
class Truth:
    """What only a rendered world knows: the scene with the subject (edited) in it, and what it then looks like."""

    present: str
    present_sha256: str
    attributes: Mapping[str, str]
    changes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One thing to paint. Paths are relative to the benchmark's folder; hashes are of the files' bytes.

    ``prompt``: without an identity token. ``edit``: what kind of change the words ask for, None for identity rows.
    """

    id: str
    task: Task
    scene: str
    scene_sha256: str
    mask: str
    mask_sha256: str
    subject: str
    class_noun: str
    prompt: str
    seed: int
    size: SizeClass
    shape: MaskShape
    edit: str | None = None
    truth: Truth | None = None

    def to_json(self) -> str:
        """One line, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @staticmethod
    def from_json(line: str) -> Row:
        """Raises ValueError, TypeError or KeyError for anything else than a row."""
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
        truth = values.pop("truth", None)
        row = Row(**values, truth=None if truth is None else Truth(**truth))
        check_row(row)
        return row


@dataclass(frozen=True)
class Shot:
    """One photo of a subject, with the mask of the subject in it where there is one."""

    image: str
    image_sha256: str
    mask: str | None = None
    mask_sha256: str | None = None


@dataclass(frozen=True)
class BenchSubject:
    """``attributes``: what a rendered world knows of its looks."""

    class_noun: str
    photos: tuple[Shot, ...]
    attributes: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Fault:
    """A row, or a line, that is left out, and why."""

    row: str
    reason: str


def size_class(share: float) -> SizeClass:
    """Of the longer side of a mask's box over the scene's longer side."""
    return next(name for name, most in SIZE_CLASSES.items() if share < most or name == "huge")


def check_row(row: Row) -> None:
    """Raise ValueError where a value is not of its kind."""
    for name, kind in (("task", Task), ("size", SizeClass), ("shape", MaskShape)):
        if getattr(row, name) not in get_args(kind):
            raise ValueError(f"{name} {getattr(row, name)!r} is none of {', '.join(get_args(kind))}")
    texts = {name: getattr(row, name) for name in _TEXTS}
    if row.edit is not None:
        texts["edit"] = row.edit
    if row.truth is not None:
        texts |= {"truth.present": row.truth.present, "truth.present_sha256": row.truth.present_sha256}
    for name, value in texts.items():
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(f"{name} {value!r} is no text")
    for words in () if row.truth is None else (row.truth.attributes, row.truth.changes):
        _check_words(words)
    for name in ("id", "subject"):
        check_name(getattr(row, name))
    if not isinstance(row.seed, int) or row.seed < 0:
        raise ValueError(f"seed {row.seed!r} is no number of 0 or more")


def check_name(name: str) -> None:
    """Raise ValueError for a row's or subject's name that cannot name a file."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"the name {name!r} cannot name a file: use letters, digits and _ . , = + @ -")


def _check_words(words: object) -> None:
    if not isinstance(words, Mapping) or not all(isinstance(value, str) for value in words.values()):
        raise ValueError(f"attributes {words!r} are no texts by name")


_TEXTS = ("id", "scene", "scene_sha256", "mask", "mask_sha256", "subject", "class_noun", "prompt")
_NAME = re.compile(r"\w[\w.,=+@ -]*")
