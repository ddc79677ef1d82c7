"""What was measured case by case, so that a run can be split over processes and gone on with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from intarsia.evaluation.results import ResultsError

Values = dict[str, float]


@dataclass
class CaseValues:
    """``{"identity": …, "values": {EXPERIMENT: {CASE: {MEASURE: value}}}}``, written after every case if it has a path.

    ``identity``: what the values belong to (hashes, seed, settings). ``part``: (k, of) - this process measures the
    cases whose number leaves k - 1 when divided by ``of``.
    """

    identity: Mapping[str, object]
    path: Path | None = None
    part: tuple[int, int] = (1, 1)
    values: dict[str, dict[int, Values]] = field(default_factory=dict)

    @staticmethod
    def beside(
        results: Path, identity: Mapping[str, object], part: tuple[int, int] = (1, 1), *, resume: bool = False
    ) -> CaseValues:
        """The file of a part beside the results. ``resume``: what this and other parts left there counts as measured;
        else it is forgotten.

        Raises:
            ResultsError: a file there holds something else, or values of other weights, seed or settings.
        """
        name = "cases" if part == (1, 1) else f"cases-{part[0]}-of-{part[1]}"
        kept = CaseValues(identity, results.with_name(f"{results.stem}.{name}.json"), part)
        for path in sorted(results.parent.glob(f"{results.stem}.cases*.json")):
            if resume:
                for experiment, cases in _read(path, identity).items():
                    kept.values.setdefault(experiment, {}).update(cases)
            elif part == (1, 1) or path == kept.path:
                path.unlink()
        return kept

    def waiting(self, experiment: str, count: int) -> list[int]:
        """The cases below ``count`` that this part has to measure."""
        known = self.values.get(experiment, {})
        return [case for case in range(self.part[0] - 1, count, self.part[1]) if case not in known]

    def put(self, experiment: str, case: int, values: Values) -> None:
        """Keep what was measured of one case."""
        self.values.setdefault(experiment, {})[case] = values
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        kept = {"identity": dict(self.identity), "values": self.values}
        part.write_text(json.dumps(kept, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(part, self.path)

    def measure(
        self, experiment: str, count: int, one: Callable[[int], Values], say: Callable[[str], None]
    ) -> list[Values] | None:
        """Measure this part's cases below ``count`` that are not known yet, each by ``one(case)``; returns the values
        of all in order, None while other parts have some of them."""
        waiting = self.waiting(experiment, count)
        for done, case in enumerate(waiting, 1):
            self.put(experiment, case, one(case))
            if done % 10 == 0 and done < len(waiting):
                say(f"{experiment}: {done}/{len(waiting)}")
        found = self.complete(experiment, count)
        if found is None:
            say(f"{experiment}: this part is measured; resume without part once all are")
        return found

    def complete(self, experiment: str, count: int) -> list[Values] | None:
        """The values of all cases below ``count`` in order; None while some are missing."""
        known = self.values.get(experiment, {})
        return [known[case] for case in range(count)] if all(case in known for case in range(count)) else None


def _read(path: Path, identity: Mapping[str, object]) -> dict[str, dict[int, Values]]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        found = {name: {int(case): row for case, row in cases.items()} for name, cases in kept["values"].items()}
        other = sorted(name for name, value in identity.items() if kept["identity"].get(name) != value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path} holds no measured cases ({error!r}): delete it or leave resume out") from error
    if other:
        raise ResultsError(f"{path} was measured with another {', '.join(other)}: delete it or leave resume out")
    return found
