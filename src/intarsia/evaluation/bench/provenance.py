"""What it takes to repeat a report's numbers, and what is not in them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import intarsia
from intarsia.evaluation.bench.cells import FRECHET_DRAWS, KERNEL_DRAWS, NUMBERS, SEED, Cells
from intarsia.evaluation.bench.left_out import LeftOut
from intarsia.evaluation.bench.measures import title_of
from intarsia.evaluation.bench.repeat import commands
from intarsia.evaluation.bench.results_folder import Result
from intarsia.evaluation.bench.scores_folder import TRUTH

UNKNOWN = "not known"


def describe(
    cells: Cells, run: Mapping[str, Any], results: Sequence[Result], left_out: Sequence[LeftOut]
) -> dict[str, Any]:
    """Plain values, for the files and the page; the same scores give the same."""
    benchmark, scores = cells.benchmark, cells.scores
    seeds = sorted({row.seed for row in benchmark.rows})
    ids = {row.id for row in benchmark.rows}
    own = [one for one in results if one.row in ids]
    methods = [*scores.methods, *sorted({one.method for one in own} - set(scores.methods))]
    per_method = [_of_method(cells, name, [one for one in own if one.method == name], run) for name in methods]
    ran = {name: {one.row for one in own if one.method == name} for name in methods}
    rows = {name: [row for row in benchmark.rows if row.id in ran[name]] for name in methods if ran[name]}
    return {
        "benchmark": benchmark.name,
        "manifest_sha256": benchmark.manifest_sha256,
        "rows": len(benchmark.rows),
        "subjects": len({row.subject for row in benchmark.rows}),
        "settings": dict(benchmark.settings),
        "seeds": {"least": seeds[0], "most": seeds[-1], "distinct": len(seeds)} if seeds else None,
        "model": run.get("model"),
        "model_hash": run.get("model_hash"),
        "commits": _commits(one for one in own if one.picture is not None),
        "versions": run.get("versions") or {},
        "budget": run.get("budget") or {},
        "methods": methods_of(run),
        "encoders": scores.encoders,
        "encoders_of": dict(scores.about),
        "reported_by": intarsia.__version__,
        "numbers": NUMBERS,
        "draws": cells.draws,
        "draws_kid": KERNEL_DRAWS,
        "draws_fid": FRECHET_DRAWS,
        "bootstrap_seed": SEED,
        "commands": commands(benchmark, run, rows, scores),
        "results": per_method,
        "left_out": [asdict(one) for one in left_out],
        "nulls": {f"{method}: {metric}": count for (method, metric), count in sorted(scores.nulls.items())},
    }


def methods_of(run: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What a run tells of its methods, by name."""
    methods = run.get("methods")
    told = methods.items() if isinstance(methods, Mapping) else ()
    return {str(name): one for name, one in told if isinstance(one, Mapping)}


def titles_of(run: Mapping[str, Any]) -> dict[str, str]:
    """Methods' titles, as far as the run has any."""
    return {name: str(one["title"]) for name, one in methods_of(run).items() if one.get("title")}


def commit_text(commits: Mapping[str, int]) -> str:
    """One, or several with how many pictures each painted."""
    if len(commits) < 2:
        return next(iter(commits), UNKNOWN)
    return f"several: {', '.join(f'{name} ({count})' for name, count in commits.items())}"


def _commits(results: Iterable[Result]) -> dict[str, int]:
    """Commit -> how many pictures it painted, most first; empty where no line tells one."""
    counts = Counter(one.commit or UNKNOWN for one in results)
    found = dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))
    return {} if list(found) == [UNKNOWN] else found


def _of_method(cells: Cells, method: str, own: Sequence[Result], run: Mapping[str, Any]) -> dict[str, Any]:
    """How many pictures and errors, rows that it was not run on or has no score of, and the median time of a picture.
    ``own``: its results of the benchmark's rows."""
    rows = {row.id for row in cells.benchmark.rows if method != TRUTH or row.truth is not None}
    made = [one for one in own if one.picture is not None]
    scored = rows & cells.scores.values.get(method, {}).keys()
    reasons = Counter(one.error for one in own if one.error is not None)
    expected = rows if method == TRUTH else {one.row for one in made}
    return {
        "method": method,
        "title": title_of(method, titles_of(run)),
        "commits": _commits(made),
        "pictures": None if method == TRUTH else len(made),
        "errors": sum(reasons.values()),
        "commonest_error": reasons.most_common(1)[0][0] if reasons else None,
        "not_run": None if method == TRUTH else len(rows - {one.row for one in own} - scored),
        "scored": len(scored),
        "not_scored": len(expected - scored),
        "median_seconds": round(statistics.median(one.seconds for one in made), 2) if made else None,
    }
