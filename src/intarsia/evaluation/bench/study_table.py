"""What the participants of a blind study prefer, the counterpart of the paper's Table 2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import SIZE_CLASSES
from intarsia.evaluation.bench.study import Question, StudyKey
from intarsia.evaluation.bench.study_answers import FASTEST, Answer, LeftOut, Sheet, read_answers
from intarsia.evaluation.bench.study_statistics import ClusteredBootstrap, binomial_p, krippendorff_alpha

TASKS = ("identity", "editing")
TIE = "cannot tell"
BIASED = 0.01
"""Where sides are chosen by chance, a p-value below this is rare enough for a warning."""
Part = tuple[str, str]
"""(task, size), "all" for any."""


@dataclass(frozen=True)
class Cell:
    """``share`` of the ``answers`` of one comparison and part that preferred ``method`` (or `TIE`), 0 to 1.

    ``methods``: those compared; empty: all comparisons that ``method`` was in.
    """

    methods: tuple[str, ...]
    method: str
    task: str
    size: str
    share: float
    low: float | None
    high: float | None
    preferred: int
    answers: int
    participants: int


@dataclass(frozen=True)
class Sides:
    """How often each place was preferred, from the left; ``p``: of the exact binomial test, the smallest of all places
    times their number where there are more than two (Bonferroni)."""

    counts: tuple[int, ...]
    p: float


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha over the questions of one comparison; None where nothing can be said."""

    methods: tuple[str, ...]
    task: str
    alpha: float | None


@dataclass(frozen=True)
class StudyTable:
    """Everything that the tables say."""

    key: StudyKey
    cells: tuple[Cell, ...]
    sides: Sides
    one_sided: tuple[str, ...]
    """Participants who prefer one side themselves."""
    agreement: tuple[Agreement, ...]
    participants: int
    incomplete: int
    left_out: tuple[LeftOut, ...]
    seed: int
    fastest: float

    @property
    def warnings(self) -> list[str]:
        """One line each, empty where the sides are fair."""
        told = []
        if self.sides.p < BIASED:
            counts = " / ".join(map(str, self.sides.counts))
            told.append(f"side bias: places from the left were preferred {counts} times (p = {self.sides.p:.2g})")
        if self.one_sided:
            names = ", ".join(self.one_sided)
            told.append(f"{len(self.one_sided)} participants prefer a side: {names}; they are counted")
        return told


def tabulate_study(
    key: StudyKey | str | Path, answers: Iterable[str | Path], *, fastest: float = FASTEST, seed: int = 0
) -> StudyTable:
    """Aggregate files of answers. ``fastest``: seconds, see `read_answers`; ``seed``: of the intervals.

    Raises:
        BenchError: no key there, or no file that can be counted.
    """
    if not fastest >= 0 or seed < 0:
        raise BenchError(f"the fastest credible median is {fastest:g} s, the seed {seed}: both are 0 or more")
    key = key if isinstance(key, StudyKey) else StudyKey.load(key)
    sheets, left_out = read_answers(key, answers, fastest=fastest)
    groups = _groups(key)
    bootstrap = ClusteredBootstrap(len(sheets), seed)
    cells = [cell for group in groups for cell in _cells(key, sheets, bootstrap, group)]
    if len(groups) > 1:
        cells += _cells(key, sheets, bootstrap, ())
    every = [answer for sheet in sheets for answer in sheet.answers]
    width = len(key.questions[0].options)
    sides = {sheet.participant: _sides(sheet.answers, width) for sheet in sheets}
    return StudyTable(
        key,
        tuple(cells),
        _sides(every, width),
        tuple(name for name, one in sides.items() if one.p * len(sides) < BIASED),
        tuple(_agreement(key, every, group, task) for group in groups for task in ("all", *TASKS)),
        len(sheets),
        sum(len(sheet.answers) < len(key.questions) for sheet in sheets),
        tuple(left_out),
        seed,
        fastest,
    )


def parts_of(key: StudyKey) -> list[Part]:
    """All that is told apart and asked about: all, tasks, size classes, and size classes within tasks."""
    tasks = [one for one in TASKS if any(question.task == one for question in key.questions)]
    sizes = [one for one in SIZE_CLASSES if any(question.size == one for question in key.questions)]
    return [*product(["all", *tasks], ["all", *sizes])]


def _methods(key: StudyKey, question: Question) -> tuple[str, ...]:
    there = set(question.options.values())
    return tuple(method for method in key.methods if method in there)


def _groups(key: StudyKey) -> list[tuple[str, ...]]:
    """The comparisons that were made, in the key's order of methods."""
    found = {_methods(key, question) for question in key.questions}
    return sorted(found, key=lambda group: [key.methods.index(method) for method in group])


def _cells(
    key: StudyKey, sheets: Sequence[Sheet], bootstrap: ClusteredBootstrap, group: tuple[str, ...]
) -> Iterator[Cell]:
    """Of one comparison; of an empty group: each method over all comparisons that it was in."""
    for (task, size), method in product(parts_of(key), (*(group or key.methods), None)):
        asked = {
            question.id
            for question in key.questions
            if _within(question, task, size)
            and (_methods(key, question) == group if group else method in (None, *question.options.values()))
        }
        mine = [[answer for answer in sheet.answers if answer.question.id in asked] for sheet in sheets]
        answers = [len(of_one) for of_one in mine]
        if not sum(answers):
            continue
        hits = [sum(answer.method == method for answer in of_one) for of_one in mine]
        low, high = bootstrap.interval(hits, answers) or (None, None)
        share, people = sum(hits) / sum(answers), sum(map(bool, answers))
        name = TIE if method is None else method
        yield Cell(group, name, task, size, share, low, high, sum(hits), sum(answers), people)


def _within(question: Question, task: str, size: str) -> bool:
    return task in ("all", question.task) and size in ("all", question.size)


def _sides(answers: Iterable[Answer], width: int) -> Sides:
    """Sides are drawn by chance, so without bias each place has the same chance whichever method is better."""
    places = Counter(answer.place for answer in answers if answer.place is not None)
    counts = tuple(places[at] for at in range(width))
    smallest = min(binomial_p(count, sum(counts), 1 / width) for count in counts)
    return Sides(counts, min(1.0, smallest * (width if width > 2 else 1)))


def _agreement(key: StudyKey, answers: Iterable[Answer], group: tuple[str, ...], task: str) -> Agreement:
    units: dict[str, list[Hashable]] = {}
    for answer in answers:
        if _methods(key, answer.question) == group and _within(answer.question, task, "all"):
            units.setdefault(answer.question.id, []).append(answer.method or TIE)
    return Agreement(group, task, krippendorff_alpha(units))
