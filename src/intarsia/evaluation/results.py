"""Measured numbers: one JSON form for all of them, with what it takes to repeat each."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Results:
    """``{"metrics": {KEY: {"value", "n", "seed", "weights"}}}``, written after every metric."""

    path: Path
    weights: str
    seed: int
    metrics: dict[str, dict[str, object]] = field(default_factory=dict)

    @staticmethod
    def open(path: Path, weights: str, seed: int) -> Results:
        """Continue a file of the same weights; numbers of other weights are dropped."""
        results = Results(path, weights, seed)
        if path.exists():
            kept = json.loads(path.read_text()).get("metrics", {})
            results.metrics = {k: v for k, v in kept.items() if v.get("weights") == weights}
        return results

    def add(self, key: str, value: float, n: int) -> None:
        """Record one number and write the file."""
        self.metrics[key] = {"value": round(value, 4), "n": n, "seed": self.seed, "weights": self.weights}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"metrics": self.metrics}, indent=2, sort_keys=True) + "\n")
        os.replace(part, self.path)
