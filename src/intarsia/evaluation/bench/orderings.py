"""What the paper found, and what `default` promises, as statements that the scores can confirm or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from intarsia.evaluation.bench.cells import FEWEST_SUBJECTS, NO_ROW_DIFFERS, Cells, Difference
from intarsia.evaluation.bench.manifest import SizeClass, Task
from intarsia.evaluation.bench.measures import CLASS_ONLY, MINUS, NONE, TASKS, measure_of, says_little

Verdict = Literal["holds", "does not hold", "not clear", "not measured"]
FEWEST_ROWS = 20
KEPT_SIMILARITY, KEPT_SHARE = 0.03, 0.02
"""What a value may fall by and still count as kept. The paper's full method loses 0.022 of CLIP-I in editing."""


@dataclass(frozen=True)
class Ordering:
    """``better`` is above ``worse`` by ``metric``, or at most ``margin`` below it where that is given.

    ``metric`` without a place (``clip_t``) is asked for crop and whole. Beside the paper's CLIP-T stand two
    measures of a rendered world: against the full caption, and the attribute that was asked for.
    ``group``: what it is a part of.
    """

    group: str
    metric: str
    better: str
    worse: str
    task: Task
    size: SizeClass | None = None
    margin: float | None = None


def _paper() -> list[Ordering]:
    measures = ("clip_t", "caption", "clip_i", "dino")
    steps = "What each part adds (the paper's Table 3)"
    return [
        *(
            Ordering("The method over DreamBooth (the paper's Table 1)", metric, "paper", "dreambooth", task)
            for task in TASKS
            for metric in measures
        ),
        *(Ordering(steps, metric, "dif", "dreambooth", task) for task in TASKS for metric in measures),
        *(
            Ordering(steps, metric, better, worse, "editing")
            for better, worse in (("tas", "dif"), ("paper", "tas"))
            for metric in ("clip_t", "caption", "attribute")
        ),
        *(
            Ordering(steps, metric, "paper", "dif", task, margin=KEPT_SIMILARITY)
            for task in TASKS
            for metric in ("clip_i", "dino")
        ),
    ]


def _ours() -> list[Ordering]:
    group, small = "`default` over `paper`", "`default` over `paper`, on small masks"
    return [
        Ordering(group, "attribute", "default", "paper", "editing"),
        Ordering(group, "top1", "default", "paper", "editing", margin=KEPT_SHARE),
        Ordering(group, "top1", "default", "paper", "identity", margin=KEPT_SHARE),
        Ordering(small, "attribute", "default", "paper", "editing", "small"),
        Ordering(small, "top1", "default", "paper", "editing", "small"),
        Ordering(small, "top1", "default", "paper", "identity", "small"),
        Ordering(small, "clip_i", "default", "paper", "identity", "small"),
        Ordering(small, "dino", "default", "paper", "identity", "small"),
    ]


ORDERINGS: tuple[Ordering, ...] = (*_paper(), *_ours())


@dataclass(frozen=True)
class Finding:
    """An ordering asked of the scores. ``difference``: better minus worse, None if no row has both. ``caveat``: why its
    measure says little here; such findings do not count."""

    ordering: Ordering
    metric: str
    difference: Difference | None
    verdict: Verdict
    note: str = ""
    caveat: str = ""

    @property
    def says(self) -> str:
        """In words."""
        one = self.ordering
        where = f"{one.task}, {one.size} masks" if one.size else one.task
        measure = measure_of(self.metric)
        place = " (whole)" if self.metric.endswith("_whole") else ""
        if one.margin is None:
            return f"{where}: {one.better} above {one.worse} in {measure.title}{place}"
        return f"{where}: {one.better} at most {self.margin} below {one.worse} in {measure.title}{place}"

    @property
    def margin(self) -> str:
        """What may be lost, as it is shown."""
        measure, margin = measure_of(self.metric), self.ordering.margin
        return NONE if margin is None else f"{margin * measure.scale:g}{' points' if measure.share else ''}"

    @property
    def told(self) -> str:
        """The verdict, with what speaks against it."""
        return f"{self.verdict} ({'; '.join(self.notes)})" if self.notes else self.verdict

    @property
    def notes(self) -> tuple[str, ...]:
        """What speaks against the verdict, and against counting it."""
        caveat = f"not counted: {self.caveat}" if self.caveat and self.difference is not None else ""
        return tuple(part for part in (self.note, caveat) if part)

    @property
    def written(self) -> str:
        """The difference and its interval."""
        if self.difference is None:
            return NONE
        write = measure_of(self.metric).write
        one = self.difference
        return f"{_signed(write(one.mean))} ({_signed(write(one.low))} to {_signed(write(one.high))})"

    @property
    def counts(self) -> tuple[str, str]:
        """Rows and subjects."""
        one = self.difference
        return (NONE, NONE) if one is None else (str(one.n), str(one.subjects))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        told = None if self.difference is None else asdict(self.difference)
        return {
            **asdict(self.ordering),
            "metric": self.metric,
            "difference": told,
            "verdict": self.verdict,
            "note": self.note,
            "caveat": self.caveat,
        }


def judge_orderings(cells: Cells, orderings: Sequence[Ordering] = ORDERINGS) -> list[Finding]:
    """Ask the scores; each ordering of a place once of crop and once of whole."""
    findings = []
    for one in orderings:
        rows = [
            row for row in cells.benchmark.rows if row.task == one.task and (one.size is None or row.size == one.size)
        ]
        places = ("_crop", "_whole") if one.metric in ("clip_t", "caption", "clip_i", "dino") else ("",)
        for place in places:
            metric = one.metric + place
            difference = cells.difference(one.better, one.worse, metric, rows)
            caveat = CLASS_ONLY if says_little(metric, one.task, cells.scores.encoders) else ""
            findings.append(Finding(one, metric, difference, *verdict_of(difference, one.margin), caveat))
    return findings


def verdict_of(difference: Difference | None, margin: float | None = None) -> tuple[Verdict, str]:
    """By the interval of a difference: above 0 (or above minus the margin) wholly, not at all, or neither.

    Few rows or subjects give no verdict, since the interval of a handful says little; nor does a difference that is
    the same on all rows, or an interval that only touches 0.
    """
    if difference is None:
        return "not measured", ""
    if difference.n < FEWEST_ROWS:
        return "not clear", f"only {difference.n} rows"
    if difference.subjects < FEWEST_SUBJECTS:
        return "not clear", f"only {difference.subjects} subject{'s' if difference.subjects > 1 else ''}"
    if difference.low == difference.high:
        return "not clear", difference.note or NO_ROW_DIFFERS
    if difference.low > -(margin or 0):
        return "holds", ""
    return ("does not hold", "") if difference.high < -(margin or 0) else ("not clear", difference.note)


def _signed(text: str) -> str:
    return text if text.startswith(MINUS) or not text.strip("0.") else f"+{text}"
