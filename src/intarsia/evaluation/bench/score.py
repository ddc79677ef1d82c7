"""Scoring results: of every picture its values and features, in parts that a scoring which was stopped, or gets more
results, need not measure again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import intarsia
from intarsia.evaluation.bench.encoders import EncoderSet, encoder_set
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark
from intarsia.evaluation.bench.reference_pictures import Progress, reference_features, reference_pictures
from intarsia.evaluation.bench.results_folder import broken_lines, read_results, read_run
from intarsia.evaluation.bench.score_parts import Made, Part, Parts
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
    write_features,
    write_json,
    write_scores,
)

_CHUNK = 32


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
    made, passed_over = _made(benchmark, results, methods)
    found = reference_pictures(reference)
    used = encoder_set(encoders, models, device) if isinstance(encoders, str) else encoders
    folder = results / SCORES / used.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FEATURES).mkdir(exist_ok=True)
    todo = Parts(benchmark, used, folder / PARTS)
    parts: dict[str, list[Part]] = {method: [] for method in made}
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
        features, unusable = reference_features(found, used.features, folder / PARTS, progress)
        write_features(folder, REFERENCE, features)
        written.add(REFERENCE)
        left += [{"row": name, "method": REFERENCE, "reason": reason} for name, reason in unusable]
    for path in (folder / FEATURES).glob("*.npz"):
        if path.name.removesuffix(".npz") not in written:
            path.unlink()
    write_json(folder / LEFT_OUT, _told(benchmark, left, passed_over, broken_lines(results)))
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


def _made(
    benchmark: Benchmark, results: Path, methods: Sequence[str] | None
) -> tuple[dict[str, dict[str, Made]], Counter[str]]:
    """Method -> row -> picture, of the benchmark's usable rows, and how many other results were passed over, by reason.
    Raises BenchError: a method is not there."""
    rows = {row.id: row for row in benchmark.rows}
    made: dict[str, dict[str, Made]] = {}
    passed_over = Counter[str]()
    for result in read_results(results):
        if not result.method or Path(result.method).name != result.method or result.method == "..":
            passed_over[f"the method's name {result.method!r} is no folder's"] += 1
            continue
        if result.row not in rows:
            passed_over["the row is none of those that are scored"] += 1
            continue
        file = None if result.picture is None else results / result.picture
        if file is not None and not file.resolve().is_relative_to(results.resolve()):
            file = None
        error = result.error or (None if file else "no picture in the results' folder")
        one = Made(rows[result.row], file, result.picture_sha256, error)
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
        row.id: Made(row, benchmark.folder / row.truth.present, row.truth.present_sha256)
        for row in benchmark.rows
        if row.truth is not None
    }
    return ({**made, TRUTH: true} if true else made), passed_over


def _told(
    benchmark: Benchmark,
    left: Sequence[Mapping[str, str]],
    passed_over: Mapping[str, int],
    broken: Mapping[str, int],
) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for one in left:
        kind = one["reason"].split(":")[0]
        counts[kind] = counts.get(kind, 0) + 1
    faults = [{"row": fault.row, "reason": fault.reason} for fault in benchmark.faults]
    return {
        "results": list(left),
        "counts": counts,
        "passed_over": dict(passed_over),
        "broken_lines": dict(broken),
        "benchmark": faults,
        "benchmark_counts": benchmark.left_out,
    }
