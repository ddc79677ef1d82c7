"""Scoring results: of every picture its values and features, in parts that a scoring which was stopped, or gets more
results, need not measure again."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import intarsia
from intarsia.evaluation.bench.encoders import EncoderSet, encoder_set
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark, Row
from intarsia.evaluation.bench.reference_pictures import Progress, reference_features, reference_pictures
from intarsia.evaluation.bench.results_folder import read_results, read_run
from intarsia.evaluation.bench.row_scorer import SCORER_VERSION, RowScorer, Scored, read_rgb
from intarsia.evaluation.bench.scores_folder import (
    ENCODERS,
    FEATURES,
    FORMAT,
    LEFT_OUT,
    PARTS,
    REFERENCE,
    SCORES,
    TRUTH,
    Features,
    Score,
    read_arrays,
    write_arrays,
    write_features,
    write_json,
    write_scores,
)
from intarsia.evaluation.bench.subject_crops import Pixels

_CHUNK = 32


@dataclass(frozen=True)
class _Made:
    """A picture of a row, or why there is none."""

    row: Row
    file: Path | None
    sha256: str | None
    error: str | None = None


def score(
    benchmark: Benchmark,
    results: str | Path,
    *,
    encoders: EncoderSet | str = "tabletop",
    models: Mapping[str, str | None] | None = None,
    methods: Sequence[str] | None = None,
    reference: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Measure what methods made of a benchmark; returns `scores/ENCODERS/` in the folder of results.

    It holds `scores.jsonl`, `features/METHOD.npz` (and `reference.npz`), `encoders.json` and `left_out.json`; the same
    results give the same bytes. Pictures that cannot be used are left out and listed. Where rows have truth, its
    renders are scored as the method ``truth``, and are what FID and KID compare with, unless a folder of pictures is
    given as ``reference``. ``methods``: only these; the files tell of these only. ``models``, ``device``: see
    `encoder_set`.

    Raises:
        BenchError: no results, or results of another benchmark; no such method or encoders; no usable reference.
        HelperError, JudgesError: an encoder cannot be loaded.
    """
    results = Path(results)
    run = read_run(results)
    if run.get("manifest_sha256") != benchmark.manifest_sha256:
        raise BenchError(
            f"{results} holds results of another benchmark than {benchmark.folder} (their manifests differ): name the "
            "one that was run"
        )
    made = _made(benchmark, results, methods)
    found = reference_pictures(reference)
    used = encoder_set(encoders, models, device) if isinstance(encoders, str) else encoders
    folder = results / SCORES / used.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FEATURES).mkdir(exist_ok=True)
    todo = _Parts(benchmark, used, folder / PARTS)
    parts: dict[str, list[_Part]] = {method: [] for method in made}
    done, count = 0, sum(len(rows) for rows in made.values())
    # All methods' pictures of some rows, then of the next: so that each scene is read once.
    for number, start in enumerate(range(0, len(benchmark.rows), _CHUNK)):
        for method, rows in made.items():
            wanted = [rows[row.id] for row in benchmark.rows[start : start + _CHUNK] if row.id in rows]
            if wanted:
                parts[method].append(todo.scored(method, number, wanted))
                done += len(wanted)
                if progress is not None:
                    progress(done, count, method)
    scores: list[Score] = []
    left: list[dict[str, str]] = []
    written = set()
    for method in sorted(parts):
        kept = [
            (row, values) for part in parts[method] for row, values in zip(part.rows, part.scored.values, strict=True)
        ]
        scores += [Score(row, method, values) for row, values in kept]
        left += [{"row": row, "method": method, "reason": why} for part in parts[method] for row, why in part.left]
        if used.features is not None and kept:
            full = [part.scored for part in parts[method] if part.rows]
            features = Features(
                tuple(row for row, _ in kept),
                np.concatenate([scored.crop for scored in full]),
                np.concatenate([scored.whole for scored in full]),
            )
            names = [method, REFERENCE] if method == TRUTH and found is None else [method]
            for name in names:
                write_features(folder, name, features)
            written.update(names)
    if found is not None and used.features is not None:
        write_features(folder, REFERENCE, reference_features(found, used.features, folder / PARTS, progress))
        written.add(REFERENCE)
    for path in (folder / FEATURES).glob("*.npz"):
        if path.name.removesuffix(".npz") not in written:
            path.unlink()
    write_json(folder / LEFT_OUT, _told(benchmark, left))
    write_json(
        folder / ENCODERS,
        {
            "format": FORMAT,
            "encoders": used.name,
            "metrics": used.of_metrics(),
            "judges": None if used.judges is None else used.judges.hash,
            "reference": None if found is None else Path(str(reference)).name,
            "manifest_sha256": benchmark.manifest_sha256,
            "intarsia": intarsia.__version__,
        },
    )
    write_scores(folder, scores)
    return folder


def _made(benchmark: Benchmark, results: Path, methods: Sequence[str] | None) -> dict[str, dict[str, _Made]]:
    """Method -> row -> picture, of the benchmark's usable rows. Raises BenchError: a method is not there."""
    rows = {row.id: row for row in benchmark.rows}
    made: dict[str, dict[str, _Made]] = {}
    for result in read_results(results):
        if result.row not in rows or not result.method or Path(result.method).name != result.method:
            continue
        file = None if result.picture is None else results / result.picture
        if file is not None and not file.resolve().is_relative_to(results.resolve()):
            file = None
        error = result.error or (None if file else "no picture in the results' folder")
        one = _Made(rows[result.row], file, result.picture_sha256, error)
        made.setdefault(result.method, {})[result.row] = one
    if TRUTH in made or REFERENCE in made:
        raise BenchError(f"a method is called {TRUTH!r} or {REFERENCE!r}, which stand for something else: rename it")
    if methods is not None:
        missing = [method for method in methods if method not in made and method != TRUTH]
        if missing:
            there = ", ".join(sorted(made)) or "none"
            raise BenchError(f"{results} holds no results of {missing[0]!r}: score one of these: {there}")
        made = {method: made[method] for method in methods if method != TRUTH}
    true = {
        row.id: _Made(row, benchmark.folder / row.truth.present, row.truth.present_sha256)
        for row in benchmark.rows
        if row.truth is not None
    }
    return {**made, TRUTH: true} if true else made


@dataclass(frozen=True, eq=False)
class _Part:
    """``left``: (row, reason)."""

    rows: Sequence[str]
    left: Sequence[tuple[str, str]]
    scored: Scored


class _Parts:
    """Pieces of the scoring on disk, each under a key of everything that it depends on."""

    def __init__(self, benchmark: Benchmark, encoders: EncoderSet, folder: Path) -> None:
        self.benchmark, self.encoders, self.folder = benchmark, encoders, folder
        self._scorer: RowScorer | None = None

    def scored(self, method: str, number: int, made: Sequence[_Made]) -> _Part:
        """The values of a method's pictures, measured if they are not there."""
        read = [_read(one) for one in made]
        key = self._key(made, [digest for digest, _ in read])
        path = self.folder / method / f"{number:05d}.npz"
        arrays = read_arrays(path)
        if arrays is not None and "key" in arrays and str(arrays["key"]) == key:
            told = json.loads(str(arrays["told"]))
            left = [(row, reason) for row, reason in told["left"]]
            return _Part(told["rows"], left, Scored(told["values"], arrays["crop"], arrays["whole"]))
        part = self._measured(made, [data for _, data in read])
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

    def _measured(self, made: Sequence[_Made], data: Sequence[bytes | None]) -> _Part:
        if self._scorer is None:
            self._scorer = RowScorer(self.benchmark, self.encoders)
        rows: list[Row] = []
        pictures: list[Pixels] = []
        left: list[tuple[str, str]] = []
        for one, content in zip(made, data, strict=True):
            picture = _usable(one, content, self._scorer.scene(one.row)[0].shape)
            if isinstance(picture, str):
                left.append((one.row.id, picture))
            else:
                rows.append(one.row)
                pictures.append(picture)
        empty = np.zeros((0, 0), np.float32)
        scored = self._scorer.score(rows, pictures) if rows else Scored([], empty, empty)
        return _Part([row.id for row in rows], left, scored)

    def _key(self, made: Sequence[_Made], digests: Sequence[str | None]) -> str:
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


def _read(one: _Made) -> tuple[str | None, bytes | None]:
    """Hash and bytes of a file; None where there is none."""
    try:
        data = None if one.file is None else one.file.read_bytes()
    except OSError:
        data = None
    return (None if data is None else hashlib.sha256(data).hexdigest()), data


def _usable(one: _Made, data: bytes | None, shape: tuple[int, ...]) -> Pixels | str:
    """The picture, or why it is left out."""
    if one.error is not None:
        return f"failed: {one.error}"
    if data is None:
        return "picture missing"
    if hashlib.sha256(data).hexdigest() != one.sha256:
        return "picture changed: its hash is not the one listed"
    try:
        pixels = read_rgb(io.BytesIO(data))
    except (OSError, ValueError) as error:
        return f"picture unreadable: {str(error).splitlines()[0]}"
    if pixels.shape != shape:
        return f"other size: {pixels.shape[1]}x{pixels.shape[0]}, its scene {shape[1]}x{shape[0]}"
    return pixels


def _told(benchmark: Benchmark, left: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for one in left:
        kind = one["reason"].split(":")[0]
        counts[kind] = counts.get(kind, 0) + 1
    faults = [{"row": fault.row, "reason": fault.reason} for fault in benchmark.faults]
    return {"results": list(left), "counts": counts, "benchmark": faults, "benchmark_counts": benchmark.left_out}
