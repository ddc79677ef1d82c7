"""The commands that give a report's numbers again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from intarsia.evaluation.bench.manifest import Benchmark, Row
from intarsia.evaluation.bench.score_set import ScoreSet

_BENCHMARK, _RESULTS = "BENCHMARK", "RESULTS"
_KINDS = {"clip": "clip_t_crop", "dino": "dino_crop", "dinov2": "dinov2_crop"}
_OPTIONAL = {"inception": "fid_whole", "lpips": "lpips_outside"}
"""Option of scoring -> a metric that its encoder measures."""


def commands(benchmark: Benchmark, run: Mapping[str, Any], rows: Mapping[str, Sequence[Row]], scores: ScoreSet) -> str:
    """Build, run (methods that have other rows apart, so variants as well), score and report, as lines for a shell.

    ``rows``: of each method, those that it was run on. What no command can tell is a comment above it.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for method in sorted(rows, key=lambda name: "@" in name):
        groups.setdefault(tuple(row.id for row in rows[method]), []).append(method)
    lines = [_build(benchmark)]
    given = {"model": run.get("model"), "device": run.get("device"), "dtype": run.get("dtype")}
    given |= {"learn-steps": _object(run.get("budget")).get("steps")}
    for ids, methods in groups.items():
        comment, part = _part(benchmark, set(ids))
        several = [("method", method) for method in methods]
        line = _line(["run", _BENCHMARK, "--output", _RESULTS], [*given.items(), *part, *several])
        lines += [comment, line] if comment else [line]
    lines.append(_line(["score", _BENCHMARK, _RESULTS], _score(scores)))
    lines.append(_line(["report", _BENCHMARK, _RESULTS], [("encoders", scores.encoders)]))
    return "\n".join(lines)


def _build(benchmark: Benchmark) -> str:
    told = benchmark.settings
    if benchmark.name == "tabletop":
        given = {name: told.get(name.replace("-", "_")) for name in ("seed", "subjects", "per-subject", "side")}
        return _line(["build", "tabletop", "--output", _BENCHMARK], given.items())
    if benchmark.name != "coco":
        return "# this benchmark was not built by `bench build`: its settings are below"
    wanted = _object(told.get("filter"))
    shares = [wanted.get("least_share"), wanted.get("greatest_share")]
    masks = any(shot.mask is not None for subject in benchmark.subjects.values() for shot in subject.photos)
    prompts = told.get("prompts_sha256")
    given = {
        "annotations": _object(told.get("annotations")).get("file"),
        "pictures": "PICTURES",
        "photos": "PHOTOS",
        "masks": "MASKS" if masks else None,
        "prompts": "PROMPTS" if isinstance(prompts, list) and len(prompts) > 1 else None,
        "subjects": ",".join(benchmark.subjects),
        "per-subject": told.get("per_subject"),
        "seed": told.get("seed"),
        "shapes": _listed(told.get("shapes")),
        "sizes": _listed(wanted.get("sizes")),
        "least-picture": wanted.get("least_picture_side"),
        "least-box": wanted.get("least_box_side"),
        "share": None if None in shares else _listed(shares),
    }
    return _line(["build", "coco", "--output", _BENCHMARK], given.items())


def _part(benchmark: Benchmark, ids: set[str]) -> tuple[str, list[tuple[str, int]]]:
    """A comment, where one is needed, and the options that paint a part of the rows."""
    rows = benchmark.rows
    if len(ids) == len(rows):
        return "", []
    if ids == {row.id for row in rows[: len(ids)]}:
        return "", [("limit", len(ids))]
    own = [row.subject for row in rows if row.id in ids]
    subjects, each = len(set(own)), max(own.count(name) for name in set(own))
    if ids == {row.id for row in benchmark.thinned(subjects, each).rows}:
        return "", [("subjects", subjects), ("per-subject", each)]
    return f"# on {len(ids)} of {len(rows)} rows; this paints all:", []


def _score(scores: ScoreSet) -> list[tuple[str, Any]]:
    given: dict[str, Any] = {"encoders": scores.encoders}
    metrics = _object(scores.about.get("metrics"))
    if scores.encoders == "real" and metrics:
        given |= {kind: _object(metrics.get(metric)).get("encoder") for kind, metric in _KINDS.items()}
        given |= {kind: None if metric in metrics else "none" for kind, metric in _OPTIONAL.items()}
    return [*given.items(), ("reference", scores.about.get("reference"))]


def _line(command: Sequence[str], options: Iterable[tuple[str, Any]]) -> str:
    """One command, quoted, with those options that are numbers or texts; a long one has each in a line of its own."""
    parts = [shlex.join(["intarsia", "bench", *command])]
    for name, value in options:
        if isinstance(value, str | int | float):
            text = str(value)
            parts.append(shlex.join([f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]))
    line = " ".join(parts)
    return line if len(line) <= 100 else " \\\n    ".join(parts)


def _listed(values: Any) -> str | None:
    return ",".join(map(str, values)) if isinstance(values, list) else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
