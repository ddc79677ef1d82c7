"""What a build leaves out: how often for each reason, and the first by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

NAMED = 20
"""So many names are kept of each reason."""


@dataclass(frozen=True)
class Tally:
    """``counts``: by reason; ``names``: the first files, annotations or folders of each reason."""

    counts: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """One more."""
        self.counts[reason] += 1
        if len(names := self.names.setdefault(reason, [])) < NAMED:
            names.append(name)

    def told(self) -> str:
        """One line, the commonest reason first, each with its first name."""
        return ", ".join(
            f"{count} {reason} (first: {self.names[reason][0]})" for reason, count in self.counts.most_common()
        )
