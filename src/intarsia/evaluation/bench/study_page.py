"""The page of a blind study: what it holds, and in which order each participant sees it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

FORMAT = 1
PAGE, PICTURES = "page", "pictures"
ASK = "In which picture does the thing from the photos, as the words describe it, look better put into the scene?"
NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
"""What a participant may be called."""
_WORD = 0xFFFFFFFF
_MARK = '<script type="application/json" id="study">'
_TIME = 1_000_000_000
Item = TypeVar("Item")


@dataclass(frozen=True)
class Card:
    """One question as the page knows it. Pictures are file names without suffix; ``size`` is (width, height).

    ``options`` are in the order of their names, which come of the pixels: nothing here depends on who made which.
    """

    id: str
    scene: str
    photos: tuple[str, ...]
    prompt: str
    options: tuple[str, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Shown:
    """A question as one participant sees it, options from left to right."""

    id: str
    options: tuple[str, ...]


def study_hash(cards: Sequence[Card], participants: int | None, ask: str) -> str:
    """Which page answers belong to: 16 hex digits of the SHA-256 of everything on it."""
    told = json.dumps([FORMAT, participants, ask, [asdict(card) for card in cards]], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def write_page(folder: Path, cards: Sequence[Card], participants: int | None, ask: str) -> str:
    """Write `index.html` with its style and script beside the pictures, which are there already, set all times of
    files to one moment, and return the study's hash."""
    study = study_hash(cards, participants, ask)
    data = {
        "format": FORMAT,
        "study": study,
        "participants": participants,
        "ask": ask,
        "questions": [asdict(card) for card in cards],
    }
    told = json.dumps(data, sort_keys=True, ensure_ascii=False).replace("<", "\\u003c")
    (folder / "index.html").write_text(_template("html").replace("STUDY_DATA", told), encoding="utf-8", newline="\n")
    for kind in ("css", "js"):
        (folder / f"study.{kind}").write_text(_template(kind), encoding="utf-8", newline="\n")
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (_TIME, _TIME))
    return study


def is_page(folder: Path) -> bool:
    """Whether a folder is one that `write_page` wrote, of any version."""
    try:
        text = (folder / "index.html").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return _MARK in text and (folder / "study.js").is_file()


def order_for(
    study: str, participant: str, questions: Sequence[tuple[str, tuple[str, ...]]], participants: int | None
) -> list[Shown]:
    """What one participant sees, given (id, options) of the page's questions in its order; `study_page.js` computes
    the same.

    Options are turned round by a shuffled list of 0, 1, …, K - 1, 0, 1, …: each place is used equally often. Where
    participants are numbered, 2k sees the reverse of what 2k - 1 sees, so that over both every option is on every side
    equally often (for two options).
    """
    number = int(participant) if participants is not None else 0
    pair = f"pair {(number + 1) // 2}" if participants is not None else participant
    width = len(questions[0][1])
    turns = shuffled([at % width for at in range(len(questions))], f"{study} sides {pair}")
    sides = [options[turn:] + options[:turn] for (_, options), turn in zip(questions, turns, strict=True)]
    if number and number % 2 == 0:
        sides = [options[::-1] for options in sides]
    seen = [Shown(name, options) for (name, _), options in zip(questions, sides, strict=True)]
    return shuffled(seen, f"{study} order {participant}")


def shuffled(items: Sequence[Item], seed: str) -> list[Item]:
    """Fisher and Yates's shuffle (Knuth, TAOCP 2, 3.4.2, algorithm P) by the words that `random_words` draws."""
    mixed, words = list(items), random_words(seed)
    for last in range(len(mixed) - 1, 0, -1):
        other = next(words) * (last + 1) >> 32
        mixed[last], mixed[other] = mixed[other], mixed[last]
    return mixed


def random_words(seed: str) -> Iterator[int]:
    """32-bit words of Mulberry32 (T. Ettinger 2017), started from the FNV-1a hash of the text; both fit JavaScript's
    integers."""
    state = 0x811C9DC5
    for byte in seed.encode():
        state = (state ^ byte) * 0x01000193 & _WORD
    while True:
        state = state + 0x6D2B79F5 & _WORD
        word = (state ^ state >> 15) * (state | 1) & _WORD
        word ^= word + ((word ^ word >> 7) * (word | 61) & _WORD) & _WORD
        yield (word ^ word >> 14) & _WORD


def _template(kind: str) -> str:
    return files("intarsia.evaluation.bench").joinpath(f"study_page.{kind}").read_text(encoding="utf-8")
