"""The scores of one set of encoders, as the report reads them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.measures import in_order
from intarsia.evaluation.bench.scores_folder import (
    ENCODERS,
    FEATURES,
    LEFT_OUT,
    LINES,
    SCORES,
    Features,
    read_features,
    read_json,
    read_score_lines,
)


@dataclass(frozen=True, eq=False)
class ScoreSet:
    """``values``: method -> row -> metric -> number; what is null or not finite is not in it but in ``nulls`` (by
    method and metric). ``about``: the encoders; ``left_out``: what scoring passed over; ``broken``: lines that were no
    scores."""

    folder: Path
    encoders: str
    values: Mapping[str, Mapping[str, Mapping[str, float]]]
    about: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, Any] = field(default_factory=dict)
    nulls: Mapping[tuple[str, str], int] = field(default_factory=dict)
    broken: int = 0

    @staticmethod
    def open(results: Path, encoders: str = "tabletop") -> ScoreSet:
        """Read `scores/ENCODERS` of a results folder; what may be missing there is `encoders.json`, `left_out.json`.

        Raises:
            BenchError: no such scores, not one line that is a score, or another file is damaged.
        """
        root = Path(results) / SCORES
        folder = root / encoders
        if not encoders or Path(encoders).name != encoders or not (folder / LINES).is_file():
            found = sorted(path.parent.name for path in root.glob(f"*/{LINES}"))
            there = f"use one of: {', '.join(found)}" if found else "make some with `intarsia bench score`"
            raise BenchError(f"{results} has no scores by encoders {encoders!r}: {there}")
        scores, broken = read_score_lines(folder)
        values: dict[str, dict[str, dict[str, float]]] = {}
        nulls: Counter[tuple[str, str]] = Counter()
        for score in scores:
            if score.row in values.setdefault(score.method, {}):
                continue
            good = {name: float(one) for name, one in score.values.items() if one is not None and math.isfinite(one)}
            values[score.method][score.row] = good
            nulls.update((score.method, name) for name in score.values if name not in good)
        if not values:
            raise BenchError(f"{folder / LINES} holds no scores ({broken} broken lines): score again")
        about, left_out = (
            read_json(folder / name) if (folder / name).exists() else {} for name in (ENCODERS, LEFT_OUT)
        )
        return ScoreSet(folder, encoders, values, about, left_out, dict(nulls), broken)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """All methods and variants, in the order of the tables."""
        return tuple(in_order(set(self.values)))

    @cached_property
    def metrics(self) -> frozenset[str]:
        """All metrics of rows that some method has a number of."""
        return frozenset(metric for rows in self.values.values() for row in rows.values() for metric in row)

    def features(self, name: str) -> Features | None:
        """Of a method, or of the real pictures: ``reference``. None if there are none.

        Raises:
            BenchError: the file is damaged.
        """
        try:
            found = read_features(self.folder, name)
            parts = [] if found is None else [one for one in (found.crop, found.whole) if one.size]
        except KeyError as error:
            raise BenchError(
                f"{self.folder / FEATURES / name}.npz has no {error}: run `intarsia bench score`"
            ) from error
        if found is not None and any(one.ndim != 2 or len(one) != len(found.rows or one) for one in parts):
            raise BenchError(f"{self.folder / FEATURES / name}.npz has not one line a row: run `intarsia bench score`")
        return found
