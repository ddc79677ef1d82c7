"""What it takes to repeat a report's numbers, and what is not in them."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import intarsia
from intarsia.evaluation.bench.cells import FRECHET_DRAWS, KERNEL_DRAWS, NUMBERS, SEED, Cells
from intarsia.evaluation.bench.manifest import ABOUT, Benchmark
from intarsia.evaluation.bench.measures import title_of
from intarsia.evaluation.bench.results_folder import Result
from intarsia.evaluation.bench.scores_folder import TRUTH


def describe(cells: Cells, run: Mapping[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    """Plain values, for the files and the page; the same scores give the same."""
    benchmark, scores = cells.benchmark, cells.scores
    seeds = sorted({row.seed for row in benchmark.rows})
    return {
        "benchmark": benchmark.name,
        "manifest_sha256": benchmark.manifest_sha256,
        "rows": len(benchmark.rows),
        "subjects": len({row.subject for row in benchmark.rows}),
        "settings": dict(benchmark.settings),
        "seeds": {"least": seeds[0], "most": seeds[-1], "distinct": len(seeds)} if seeds else None,
        "model": run.get("model"),
        "model_hash": run.get("model_hash"),
        "commit": run.get("commit"),
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
        "results": _per_method(cells, results, titles_of(run)),
        "left_out": _left_out(cells, run),
    }


def methods_of(run: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What a run tells of its methods, by name."""
    methods = run.get("methods")
    told = methods.items() if isinstance(methods, Mapping) else ()
    return {str(name): one for name, one in told if isinstance(one, Mapping)}


def titles_of(run: Mapping[str, Any]) -> dict[str, str]:
    """Methods' titles, as far as the run has any."""
    return {name: str(one["title"]) for name, one in methods_of(run).items() if one.get("title")}


def _per_method(cells: Cells, results: Sequence[Result], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Of each method: how many pictures and errors, rows without a score, and the median time of a picture."""
    rows = {row.id for row in cells.benchmark.rows}
    found = []
    for method in [*cells.scores.methods, *sorted({one.method for one in results} - set(cells.scores.methods))]:
        own = [one for one in results if one.method == method and one.row in rows]
        made = [one for one in own if one.error is None and one.picture is not None]
        reasons = Counter(one.error for one in own if one.error is not None)
        scored = rows & cells.scores.values.get(method, {}).keys()
        found.append(
            {
                "method": method,
                "title": title_of(method, titles),
                "pictures": None if method == TRUTH else len(made),
                "errors": sum(reasons.values()),
                "commonest_error": reasons.most_common(1)[0][0] if reasons else None,
                "scored": len(scored),
                "not_scored": len(rows) - len(scored),
                "median_seconds": round(statistics.median(one.seconds for one in made), 2) if made else None,
            }
        )
    return found


def _left_out(cells: Cells, run: Mapping[str, Any]) -> dict[str, Any]:
    scores, rows = cells.scores, {row.id for row in cells.benchmark.rows}
    strange = {row for one in scores.values.values() for row in one} - rows
    return {
        "building": _built(cells.benchmark),
        "reading": cells.benchmark.left_out,
        "running": run.get("left_out") or {},
        "scoring": dict(scores.left_out),
        "score_lines_broken": scores.broken,
        "scored_rows_not_in_benchmark": len(strange),
        "nulls": {f"{method}: {metric}": count for (method, metric), count in sorted(scores.nulls.items())},
    }


def _built(benchmark: Benchmark) -> dict[str, Any]:
    try:
        left_out = json.loads((benchmark.folder / ABOUT).read_text(encoding="utf-8")).get("left_out")
    except (OSError, ValueError, AttributeError):
        return {}
    return left_out if isinstance(left_out, dict) else {}
