"""The answers of a blind study: files from browsers, of which some cannot be true."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.study import Question, StudyKey
from intarsia.evaluation.bench.study_page import FORMAT, NAME, order_for

FASTEST = 1.0
"""Seconds; whose median answer is quicker cannot have looked."""
_LARGEST = 4 << 20


@dataclass(frozen=True)
class Answer:
    """``place``: of the picture preferred, from the left, 0 first; ``method``: who made it; both None: cannot tell."""

    question: Question
    place: int | None
    method: str | None
    milliseconds: float


@dataclass(frozen=True)
class Sheet:
    """The answers of one participant."""

    file: str
    participant: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class LeftOut:
    """A file that is not counted, and why."""

    file: str
    reason: str


class _Impossible(ValueError):
    """Why a file cannot be answers to this page."""


def read_answers(
    key: StudyKey, paths: Iterable[str | Path], *, fastest: float = FASTEST
) -> tuple[list[Sheet], list[LeftOut]]:
    """The sheets that count, by participant, and the others. A folder stands for its `*.json`.

    Of several files of one participant that with the most answers counts, the first of equals.

    Raises:
        BenchError: not one sheet counts.
    """
    sheets: dict[str, Sheet] = {}
    left_out: list[LeftOut] = []
    seen: dict[str, str] = {}
    for path in _files(paths):
        try:
            data = _bytes(path)
            digest = hashlib.sha256(data).hexdigest()
            if digest in seen:
                raise _Impossible(f"the same file as {seen[digest]}")
            seen[digest] = str(path)
            sheet = _sheet(key, path, data)
            _check_pace(sheet, fastest)
        except _Impossible as error:
            left_out.append(LeftOut(str(path), str(error)))
            continue
        other = sheets.get(sheet.participant)
        if other is None or len(sheet.answers) > len(other.answers):
            sheets[sheet.participant] = sheet
        if other is not None:
            kept, dropped = (sheet, other) if sheets[sheet.participant] is sheet else (other, sheet)
            left_out.append(LeftOut(dropped.file, f"participant {sheet.participant} twice: {kept.file} is counted"))
    if not sheets:
        first = f"; the first: {left_out[0].file}: {left_out[0].reason}" if left_out else ""
        raise BenchError(f"none of {len(left_out)} files of answers counts{first}; name those that the page saved")
    return [sheets[name] for name in sorted(sheets)], left_out


def _files(paths: Iterable[str | Path]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        found += sorted(path.glob("*.json")) if path.is_dir() else [path]
    return found


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST:
            raise _Impossible(f"too large for answers ({path.stat().st_size} bytes)")
        return path.read_bytes()
    except OSError as error:
        raise _Impossible(f"cannot be read ({error.strerror})") from error


def _sheet(key: StudyKey, path: Path, data: bytes) -> Sheet:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Impossible("no JSON, or cut short") from error
    if not isinstance(told, dict) or not isinstance(told.get("answers"), list):
        raise _Impossible("no answers of a study page")
    if told.get("format") != FORMAT:
        raise _Impossible(f"of another version (format {told.get('format')!r})"[:120])
    if told.get("study") != key.study:
        raise _Impossible(f"answers to another page ({str(told.get('study'))[:40]!r}, not {key.study!r})")
    name = _participant(key, told.get("participant"))
    asked = {question.id: question for question in key.questions}
    order = order_for(key.study, name, [(one.id, tuple(one.options)) for one in key.questions], key.participants)
    shown = {one.id: one.options for one in order}
    answers: dict[str, Answer] = {}
    for one in told["answers"]:
        answer = _answer(one, asked, shown)
        if answer.question.id in answers:
            raise _Impossible(f"question {answer.question.id} is answered twice")
        answers[answer.question.id] = answer
    if not answers:
        raise _Impossible("not one question is answered")
    return Sheet(str(path), name, tuple(answers[name] for name in sorted(answers)))


def _participant(key: StudyKey, name: Any) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _Impossible(f"participant {str(name)[:40]!r} is no name that the page takes")
    number = int(name) if name.isascii() and name.isdigit() and name[0] != "0" else 0
    if key.participants is not None and not 1 <= number <= key.participants:
        raise _Impossible(f"participant {name!r} is none of the numbers 1 to {key.participants}")
    return name


def _answer(told: Any, asked: Mapping[str, Question], shown: Mapping[str, Sequence[str]]) -> Answer:
    if not isinstance(told, dict):
        raise _Impossible("an answer is no JSON object")
    name, place, spent = told.get("question"), told.get("choice"), told.get("milliseconds")
    if not isinstance(name, str) or name not in asked:
        raise _Impossible(f"unknown question {str(name)[:40]!r}")
    if told.get("shown") != list(shown[name]):
        raise _Impossible(f"question {name} was not shown so to this participant")
    if place is not None and (type(place) is not int or not 0 <= place < len(shown[name])):
        raise _Impossible(f"question {name} has the impossible choice {str(place)[:40]!r}")
    if isinstance(spent, bool) or not isinstance(spent, int | float) or not 0 <= spent < math.inf:
        raise _Impossible(f"question {name} took the impossible time {str(spent)[:40]!r}")
    method = None if place is None else asked[name].options[shown[name][place]]
    return Answer(asked[name], place, method, float(spent))


def _check_pace(sheet: Sheet, fastest: float) -> None:
    seconds = median(answer.milliseconds for answer in sheet.answers) / 1000
    if seconds < fastest:
        raise _Impossible(f"too fast: a median of {seconds:.2f} s an answer, at least {fastest:g} s is credible")
