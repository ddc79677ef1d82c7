"""Which rows a blind study asks about, and of which methods."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from intarsia.evaluation.bench.manifest import Row
from intarsia.evaluation.bench.results_folder import Result

Group: TypeAlias = tuple[str, ...]
Fault: TypeAlias = Callable[[Row, Sequence[str]], str | None]


@dataclass(frozen=True)
class Pick:
    """A row, and the methods whose pictures of it are compared."""

    row: Row
    methods: Group


def choose_questions(
    rows: Sequence[Row],
    groups: Sequence[Group],
    count: int,
    seed: int,
    made: Mapping[tuple[str, str], Result],
    fault: Fault,
) -> tuple[list[Pick], dict[str, int]]:
    """Up to ``count`` questions, the groups in turn; and how many rows were passed over, by reason.

    Within a group the task asked least comes next, in it the size class asked least, in it a row and a subject asked
    about least; equals in an order shuffled by ``seed``. The names of methods have no say. ``fault`` is asked only of
    rows that would be taken.
    """
    chosen = _Chosen(sorted(rows, key=lambda row: _digest(seed, row.id)), seed, made, fault)
    picks: list[Pick] = []
    while len(picks) < count:
        turn = len(picks) % len(groups)
        pick = next((one for group in [*groups[turn:], *groups[:turn]] if (one := chosen.next(group))), None)
        if pick is None:
            break
        picks.append(pick)
    missing = sum(any((row.id, name) not in made for group in groups for name in group) for row in rows)
    reasons = Counter(chosen.refused.values())
    if missing:
        reasons["not painted by every method"] = missing
    return picks, dict(sorted(reasons.items()))


@dataclass
class _Chosen:
    rows: Sequence[Row]
    seed: int
    made: Mapping[tuple[str, str], Result]
    fault: Fault
    taken: set[tuple[Group, str]] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    tasks: Counter[tuple[Group, str]] = field(default_factory=Counter)
    cells: Counter[tuple[Group, str, str]] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)

    def next(self, group: Group) -> Pick | None:
        """The next question of a group, None where it has no row left."""
        while True:
            left = [row for row in self.rows if self._free(row, group)]
            if not left:
                return None
            row = min(left, key=lambda one: self._asked(one, group))
            reason = self.fault(row, group)
            if reason is None:
                self._take(row, group)
                return Pick(row, group)
            self.refused[row.id] = reason

    def _free(self, row: Row, group: Group) -> bool:
        known = all((row.id, method) in self.made for method in group)
        return known and row.id not in self.refused and (group, row.id) not in self.taken

    def _asked(self, row: Row, group: Group) -> tuple[object, ...]:
        task, cell = (group, row.task), (group, row.task, row.size)
        mixed = _digest(self.seed, row.task), _digest(self.seed, row.size)
        used = self.used[f"row {row.id}"], self.used[f"subject {row.subject}"]
        return self.tasks[task], mixed[0], self.cells[cell], mixed[1], *used

    def _take(self, row: Row, group: Group) -> None:
        self.taken.add((group, row.id))
        self.tasks[group, row.task] += 1
        self.cells[group, row.task, row.size] += 1
        self.used.update((f"row {row.id}", f"subject {row.subject}"))


def _digest(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed} {text}".encode()).hexdigest()
