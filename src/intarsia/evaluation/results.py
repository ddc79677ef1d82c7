"""Measured numbers: one JSON form for all of them, with what it takes to repeat each."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from intarsia.errors import IntarsiaError


class ResultsError(IntarsiaError):
    """A results file that cannot be read, or a value that is no measurement."""


@dataclass
class Results:
    """``{"metrics": {KEY: {"value", "n", "seed", "weights", …}}}``, written after every metric.

    ``weights``, ``judges`` and ``adapters``: hashes of the model measured, of the networks that judged it, and of the
    weights that show it references.
    """

    path: Path
    weights: str
    seed: int
    judges: str = ""
    adapters: str = ""
    metrics: dict[str, dict[str, object]] = field(default_factory=dict)

    @staticmethod
    def open(path: Path, weights: str, seed: int, judges: str = "", adapters: str = "") -> Results:
        """Continue a file: numbers of other weights or adapters are dropped, and those that other judges gave.

        Raises:
            ResultsError: the file is there and holds something else.
        """
        results = Results(path, weights, seed, judges, adapters)
        if path.exists():
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))["metrics"]
                results.metrics = {
                    key: row
                    for key, row in kept.items()
                    if row["weights"] == weights
                    and row.get("judges", judges) == judges
                    and (not adapters or row.get("adapters", adapters) == adapters)
                }
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ResultsError(f"{path} holds no measurements ({error!r}): write elsewhere") from error
        return results

    def add(self, key: str, value: float, n: int, *, judged: bool = False, **conditions: object) -> None:
        """Record one number and write the file.

        ``judged``: the judges had a say. ``conditions``: what was not as usual.
        """
        if n < 1 or not math.isfinite(value):
            raise ResultsError(f"{key} = {value} of {n} samples is no measurement: measure at least one sample")
        row: dict[str, object] = {"value": round(value, 4), "n": n, "seed": self.seed, "weights": self.weights}
        if judged and self.judges:
            row["judges"] = self.judges
        if self.adapters:
            row["adapters"] = self.adapters
        self.metrics[key] = {**row, **conditions}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"metrics": self.metrics}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(part, self.path)
