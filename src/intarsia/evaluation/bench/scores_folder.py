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
    """Raises BenchError: none there."""
    path = folder / LINES
    try:
        return [Score(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise BenchError(f"{folder} holds no scores ({LINES} is missing): run `intarsia bench score`") from error
    except (ValueError, TypeError) as error:
        raise BenchError(f"{path} is damaged ({error}): run `intarsia bench score` again") from error


def read_left_out(folder: Path) -> dict[str, Any]:
    """What was not scored: ``results`` (row, method, reason) with ``counts`` by reason, and the same of the benchmark's
    rows. Raises BenchError: not there, or damaged."""
    path = folder / LEFT_OUT
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} is missing or damaged: run `intarsia bench score` again") from error
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
