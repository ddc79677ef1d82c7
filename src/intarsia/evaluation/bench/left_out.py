"""What is not in a report's numbers, and why: counted by reason, the first by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intarsia.evaluation.bench.manifest import Benchmark
from intarsia.evaluation.bench.results_folder import Result
from intarsia.evaluation.bench.score_set import ScoreSet
from intarsia.evaluation.bench.scores_folder import LINES
from intarsia.evaluation.bench.tally import NAMED, Tally

BUILT, READ, RUN = "when the benchmark was built", "when the benchmark was read", "when it was run"
SCORED, REPORTED = "when it was scored", "when it was reported"
STAGES = (BUILT, READ, RUN, SCORED, REPORTED)


@dataclass(frozen=True)
class LeftOut:
    """``count`` things, ``names`` the first of them."""

    stage: str
    reason: str
    count: int
    names: tuple[str, ...] = ()

    def told(self, most: int = NAMED) -> str:
        """In a line."""
        more = "; …" if len(self.names) > most or self.count > len(self.names) >= NAMED else ""
        return f"{self.reason}: {self.count}" + (f" ({'; '.join(self.names[:most])}{more})" if self.names else "")


def what_is_left_out(
    benchmark: Benchmark, results: Sequence[Result], broken: Mapping[str, int], scores: ScoreSet
) -> list[LeftOut]:
    """Stage by stage. ``broken``: lines that are no results, by file. Rows that a method was not run on are not left
    out: they are not listed here."""
    ids = {row.id for row in benchmark.rows}
    failed = {(one.row, one.method) for one in results if one.error is not None and one.row in ids}
    read, run, scored, reported = Tally(), Tally(), Tally(), Tally()
    for fault in benchmark.faults:
        _add(read, fault.row, fault.reason)
    for result in results:
        if result.error is not None and result.row in ids:
            _add(run, f"{result.row} by {result.method}", result.error)
    _add_lines(run, "broken line of results", broken)
    passed = scores.left_out.get("results")
    for row, method, reason in _entries(passed, "row", "method", "reason"):
        if (row, method) not in failed:  # these are told of already
            _add(scored, f"{row} by {method}", reason)
    left = {(row, method) for row, method, _ in _entries(passed, "row", "method", "reason")}
    for result in results:
        known = result.row in scores.values.get(result.method, {}) or (result.row, result.method) in left
        if result.picture is not None and result.row in ids and not known:
            reported.add("picture without a score (score again)", f"{result.row} by {result.method}")
    for row in sorted({row for rows in scores.values.values() for row in rows} - ids):
        reported.add("scored row that the benchmark has not", row)
    _add_lines(reported, "broken line of scores", {LINES: scores.broken} if scores.broken else {})
    tallies = ((READ, read), (RUN, run), (SCORED, scored), (REPORTED, reported))
    told = [_of(stage, reason, count, tally.names) for stage, tally in tallies for reason, count in _by_count(tally)]
    return [*_built(benchmark.built_without), *told]


def _built(told: Mapping[str, Any]) -> list[LeftOut]:
    counts, names = told.get("left_out", {}), told.get("left_out_names", {})
    return [_of(BUILT, str(reason), count, names) for reason, count in counts.items() if isinstance(count, int)]


def _of(stage: str, reason: str, count: int, names: Mapping[str, Any]) -> LeftOut:
    listed = names.get(reason)
    own = list(dict.fromkeys(map(str, listed))) if isinstance(listed, list) else []
    return LeftOut(stage, reason, count, tuple(own[:NAMED]))


def _add(tally: Tally, name: str, reason: str) -> None:
    """By what stands before the colon; what stands behind it goes with the name."""
    kind, _, detail = reason.partition(": ")
    tally.add(kind, f"{name}: {detail}" if detail else name)


def _add_lines(tally: Tally, reason: str, files: Mapping[str, int]) -> None:
    if files:
        tally.counts[reason] += sum(files.values())
        tally.names[reason] = [f"{file}: {count}" for file, count in files.items()]


def _by_count(tally: Tally) -> list[tuple[str, int]]:
    return sorted(tally.counts.items(), key=lambda one: (-one[1], one[0]))


def _entries(listed: Any, *keys: str) -> Iterable[tuple[str, ...]]:
    """Of a list of objects that have all these texts."""
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict) and all(isinstance(one.get(key), str) for key in keys):
            yield tuple(one[key] for key in keys)
