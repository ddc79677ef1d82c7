"""How many rows entered, fell at each step and why, and were kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class StepCount:
    """``entered`` rows came into the step, ``added`` is by how many rows splitting made them more; reasons of
    rejected rows and error types of quarantined ones are counted."""

    name: str
    entered: int = 0
    added: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)

    @property
    def left(self) -> int:
        return self.entered + self.added - self.rejected.total() - self.quarantined.total()

    def add(self, other: StepCount) -> None:
        self.entered += other.entered
        self.added += other.added
        self.rejected.update(other.rejected)
        self.quarantined.update(other.quarantined)


@dataclass
class Funnel:
    """The counts of all steps, in their order."""

    source_rows: int
    steps: list[StepCount]

    @classmethod
    def empty(cls, names: Sequence[str]) -> Funnel:
        return cls(0, [StepCount(name) for name in names])

    @property
    def kept(self) -> int:
        return self.steps[-1].left

    @property
    def rejected(self) -> int:
        return sum(step.rejected.total() for step in self.steps)

    @property
    def quarantined(self) -> int:
        return sum(step.quarantined.total() for step in self.steps)

    def step(self, name: str) -> StepCount:
        return next(step for step in self.steps if step.name == name)

    def add(self, other: Funnel) -> None:
        self.source_rows += other.source_rows
        for mine, theirs in zip(self.steps, other.steps, strict=True):
            mine.add(theirs)

    def to_json(self) -> dict[str, Any]:
        return {
            "source_rows": self.source_rows,
            "kept": self.kept,
            "rejected": self.rejected,
            "quarantined": self.quarantined,
            "steps": [
                {
                    "name": step.name,
                    "entered": step.entered,
                    "added": step.added,
                    "rejected": dict(sorted(step.rejected.items())),
                    "quarantined": dict(sorted(step.quarantined.items())),
                    "left": step.left,
                }
                for step in self.steps
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Funnel:
        return cls(
            int(data["source_rows"]),
            [
                StepCount(
                    step["name"],
                    step["entered"],
                    step["added"],
                    Counter(step["rejected"]),
                    Counter(step["quarantined"]),
                )
                for step in data["steps"]
            ],
        )

    def to_markdown(self, title: str) -> str:
        lines = [
            f"# {title}",
            "",
            f"{self.source_rows} source rows, {self.kept} kept, {self.rejected} rejected, "
            f"{self.quarantined} quarantined.",
            "",
            "| step | in | split into more | rejected | quarantined | out |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {step.name} | {step.entered} | {step.added} | {step.rejected.total()} | "
            f"{step.quarantined.total()} | {step.left} |"
            for step in self.steps
        ]
        fallen = [
            (step.name, kind, reason, count)
            for step in self.steps
            for kind, counts in (("rejected", step.rejected), ("quarantined", step.quarantined))
            for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]
        if fallen:
            lines += ["", "| step | fate | reason | rows |", "|---|---|---|---|"]
            lines += [
                f"| {step} | {kind} | {reason.replace('|', '/')} | {count} |" for step, kind, reason, count in fallen
            ]
        return "\n".join(lines) + "\n"
