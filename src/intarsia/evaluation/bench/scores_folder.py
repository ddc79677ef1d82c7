"""Scores on disk, `scores/ENCODERS/` in a folder of results."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.bench.errors import BenchError
from intarsia.imaging import write_file_atomically

FORMAT = 1
SCORES, LINES, ENCODERS, LEFT_OUT, FEATURES, PARTS = (
    "scores", "scores.jsonl", "encoders.json", "left_out.json", "features", "parts",
)  # fmt: skip
REFERENCE, TRUTH = "reference", "truth"
_GREATEST = 2**1023
"""Greater integers are no floats."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Score:
    """``values``: by metric; None where it says nothing about the row."""

    row: str
    method: str
    values: Mapping[str, float | None]

    def to_json(self) -> str:
        """One line."""
        return json.dumps({"row": self.row, "method": self.method, "values": dict(self.values)}, sort_keys=True)


@dataclass(frozen=True)
class Features:
    """Of the encoder for FID and KID: ``crop`` and ``whole`` (N, D), one a row.

    Of a reference folder, ``rows`` and ``crop`` are empty.
    """

    rows: tuple[str, ...]
    crop: Floats
    whole: Floats


def read_scores(folder: Path) -> list[Score]:
    """Raises BenchError: none there, or a line that is no score."""
    scores, broken = read_score_lines(folder)
    if broken:
        raise BenchError(f"{folder / LINES} is damaged ({broken} broken lines): run `intarsia bench score` again")
    return scores


def read_score_lines(folder: Path) -> tuple[list[Score], int]:
    """The lines that are scores, and how many are not. Raises BenchError: no such file."""
    try:
        lines = [line for line in (folder / LINES).read_bytes().split(b"\n") if line.strip()]
    except OSError as error:
        raise BenchError(f"{folder} holds no scores ({LINES} is missing): run `intarsia bench score`") from error
    scores = [score for score in map(_score, lines) if score is not None]
    return scores, len(lines) - len(scores)


def _score(line: bytes) -> Score | None:
    try:
        score = Score(**json.loads(line))
    except (ValueError, TypeError):
        return None
    good = isinstance(score.row, str) and isinstance(score.method, str) and isinstance(score.values, dict)
    good = good and all(value is None or isinstance(value, int | float) for value in score.values.values())
    good = good and not any(isinstance(value, int) and abs(value) > _GREATEST for value in score.values.values())
    # A method's features are in a file of its name.
    return score if good and score.method and Path(score.method).name == score.method else None


def read_left_out(folder: Path) -> dict[str, Any]:
    """What was not scored: ``results`` (row, method, reason) with ``counts`` by reason, and the same of the benchmark's
    rows. Raises BenchError: not there, or damaged."""
    return read_json(folder / LEFT_OUT)


def read_json(path: Path) -> dict[str, Any]:
    """An object that `write_json` wrote. Raises BenchError: not there, or damaged."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict):
        raise BenchError(f"{path} is missing or damaged: run `intarsia bench score` again")
    return told


def read_features(folder: Path, method: str) -> Features | None:
    """None where there are none. Raises BenchError: damaged."""
    path = folder / FEATURES / f"{method}.npz"
    arrays = read_arrays(path)
    if arrays is None:
        if path.exists():
            raise BenchError(f"{path} is damaged: run `intarsia bench score` again")
        return None
    return Features(tuple(arrays["rows"].tolist()), arrays["crop"], arrays["whole"])


def write_features(folder: Path, method: str, features: Features) -> None:
    """Equal features are equal bytes."""
    arrays = {"rows": np.array(features.rows, np.str_), "crop": features.crop, "whole": features.whole}
    write_arrays(folder / FEATURES / f"{method}.npz", arrays)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Sorted, indented, whole or not at all."""
    data = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_file_atomically(path, data.encode(), overwrite=True)


def write_scores(folder: Path, scores: Iterable[Score]) -> None:
    """One line each, in the given order."""
    text = "".join(f"{score.to_json()}\n" for score in scores)
    write_file_atomically(folder / LINES, text.encode(), overwrite=True)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """Of an .npz file; None where there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    write_file_atomically(path, buffer.getvalue(), overwrite=True)
