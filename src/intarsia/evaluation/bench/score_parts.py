"""Scoring in parts that are kept: the pictures of a few rows, and what was measured of them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import intarsia
from intarsia.evaluation.bench.encoders import EncoderSet
from intarsia.evaluation.bench.manifest import Benchmark, Row
from intarsia.evaluation.bench.picture_files import Pixels, read_rgb
from intarsia.evaluation.bench.row_scorer import SCORER_VERSION, RowScorer, Scored, first_line
from intarsia.evaluation.bench.scores_folder import read_arrays, write_arrays


@dataclass(frozen=True)
class Made:
    """A picture of a row, or why there is none."""

    row: Row
    file: Path | None
    sha256: str | None
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """``left``: (row, reason)."""

    rows: Sequence[str]
    left: Sequence[tuple[str, str]]
    scored: Scored


class Parts:
    """Pieces of the scoring on disk, each under a key of everything that it depends on."""

    def __init__(self, benchmark: Benchmark, encoders: EncoderSet, folder: Path) -> None:
        self.benchmark, self.encoders, self.folder = benchmark, encoders, folder
        self._scorer: RowScorer | None = None

    def scored(self, method: str, number: int, made: Sequence[Made]) -> Part:
        """The values of a method's pictures, measured if they are not there."""
        read = [_read(one) for one in made]
        key = self._key(made, [digest for digest, _ in read])
        path = self.folder / method / f"{number:05d}.npz"
        arrays = read_arrays(path)
        if arrays is not None and "key" in arrays and str(arrays["key"]) == key:
            told = json.loads(str(arrays["told"]))
            left = [(row, reason) for row, reason in told["left"]]
            return Part(told["rows"], left, Scored(told["values"], arrays["crop"], arrays["whole"]))
        part, whole = self._measured(made, [data for _, data in read])
        if not whole:
            return part
        kept = {"rows": list(part.rows), "left": list(part.left), "values": list(part.scored.values)}
        write_arrays(
            path,
            {
                "key": np.array(key),
                "told": np.array(json.dumps(kept, sort_keys=True)),
                "crop": part.scored.crop,
                "whole": part.scored.whole,
            },
        )
        return part

    def _measured(self, made: Sequence[Made], data: Sequence[bytes | None]) -> tuple[Part, bool]:
        """And whether it is worth keeping: not where an encoder failed, which may have been the machine's fault."""
        if self._scorer is None:
            self._scorer = RowScorer(self.benchmark, self.encoders)
        rows: list[Row] = []
        pictures: list[Pixels] = []
        left: list[tuple[str, str]] = []
        for one, content in zip(made, data, strict=True):
            fault = self._scorer.fault(one.row)
            picture = fault or _usable(one, content, self._scorer.scene(one.row)[0].shape)
            if isinstance(picture, str):
                left.append((one.row.id, picture))
            else:
                rows.append(one.row)
                pictures.append(picture)
        if not rows:
            return Part([], left, _nothing()), True
        try:
            return Part([row.id for row in rows], left, self._scorer.score(rows, pictures)), True
        except Exception as error:
            return self._one_by_one(rows, pictures, left, error), False

    def _one_by_one(
        self, rows: Sequence[Row], pictures: Sequence[Pixels], left: Sequence[tuple[str, str]], error: Exception
    ) -> Part:
        """After an error: what can be measured alone is. An error with all pictures is no picture's, and raised."""
        assert self._scorer is not None
        good: list[tuple[Row, Scored]] = []
        bad: list[tuple[str, str]] = []
        for row, picture in zip(rows, pictures, strict=True):
            try:
                good.append((row, self._scorer.score([row], [picture])))
            except Exception as own:
                bad.append((row.id, f"cannot be measured: {first_line(own)}"))
        if not good and len(rows) > 1:
            raise error
        if not good:
            return Part([], [*left, *bad], _nothing())
        crop, whole = (np.concatenate([getattr(one, end) for _, one in good]) for end in ("crop", "whole"))
        values = [one.values[0] for _, one in good]
        return Part([row.id for row, _ in good], [*left, *bad], Scored(values, crop, whole))

    def _key(self, made: Sequence[Made], digests: Sequence[str | None]) -> str:
        subjects = sorted({one.row.subject for one in made})
        depends: list[Any] = [
            SCORER_VERSION,
            intarsia.__version__,
            self.encoders.of_metrics(),
            self.encoders.cut_out,
            [[one.row.to_json(), one.sha256, digest, one.error] for one, digest in zip(made, digests, strict=True)],
            [asdict(self.benchmark.subjects[subject]) for subject in subjects],
            [self.benchmark.settings.get(name) for name in ("level", "subject_seeds")],
        ]
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def _nothing() -> Scored:
    empty = np.zeros((0, 0), np.float32)
    return Scored([], empty, empty)


def _read(one: Made) -> tuple[str | None, bytes | None]:
    """Hash and bytes of a file; None where there is none."""
    try:
        data = None if one.file is None else one.file.read_bytes()
    except OSError:
        data = None
    return (None if data is None else hashlib.sha256(data).hexdigest()), data


def _usable(one: Made, data: bytes | None, shape: tuple[int, ...]) -> Pixels | str:
    """The picture, or why it is left out."""
    if one.error is not None:
        return f"failed: {one.error}"
    if data is None:
        return "picture missing"
    if hashlib.sha256(data).hexdigest() != one.sha256:
        return "picture changed: its hash is not the one listed"
    try:
        pixels = read_rgb(io.BytesIO(data))
    except Exception as error:  # decoders raise almost anything on hostile bytes
        return f"picture unreadable: {first_line(error)}"
    if pixels.shape != shape:
        return f"other size: {pixels.shape[1]}x{pixels.shape[0]}, its scene {shape[1]}x{shape[0]}"
    return pixels
