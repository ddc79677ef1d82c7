"""How many instances each stage leaves, beside the paper's Table S8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intarsia.engines.errors import EngineError
from intarsia.engines.pairs.prescoring import BEFORE
from intarsia.engines.runner.output import SELECTION
from intarsia.engines.runner.packing import read_table
from intarsia.engines.runner.samples import read_dead_rows

PAPER: Mapping[str, tuple[float, float]] = {
    "pre-removal": (0.322, 0.322),
    "consensus": (0.737, 0.237),
    "multimodal": (0.896, 0.212),
    "importance": (0.901, 0.191),
}
"""Stage -> share kept of the previous stage, and of the start (Wasserman et al. 2024, Table S8)."""
_ANNOTATIONS = "annotations"
_CONSENSUS = ("consensus", "distance")
_IMPORTANCE = ("importance",)


@dataclass(frozen=True)
class Survival:
    """``left``: instances after each stage, in order; the first is all of them. ``unusable``: what the annotations drop
    or what cannot be read, which the paper does not count."""

    left: Mapping[str, int]
    unusable: int

    @property
    def shares(self) -> dict[str, tuple[float, float]]:
        """Stage -> share of the previous stage, and of the start."""
        counts = list(self.left.values())
        return {
            name: (after / before if before else 0.0, after / counts[0] if counts[0] else 0.0)
            for (name, after), before in zip(list(self.left.items())[1:], counts, strict=False)
        }

    def to_json(self) -> dict[str, Any]:
        return {"left": dict(self.left), "unusable": self.unusable, "shares": self.shares, "paper": dict(PAPER)}

    def __str__(self) -> str:
        lines = [
            "| stage | left | of the stage before | Table S8 | of the start | Table S8 |",
            "|---|---|---|---|---|---|",
        ]
        first = next(iter(self.left.values()))
        lines.append(f"| initial masks | {first} | - | - | 100.0 % | 100.0 % |")
        for name, (before, start) in self.shares.items():
            theirs = PAPER[name]
            shares = " | ".join(f"{100 * share:.1f} %" for share in (before, theirs[0], start, theirs[1]))
            lines.append(f"| {name} | {self.left[name]} | {shares} |")
        if self.unusable:
            lines += ["", f"Not counted: {self.unusable} annotations that cannot be used or are dropped."]
        return "\n".join(lines)


def survival(run: str | Path, *, cut: str | Path | None = None) -> Survival:
    """Of a finished run, by its thresholds or those of a cut. Raises EngineError.

    Scores that are known before a removal count as pre-removal, ``consensus`` and ``distance`` as consensus,
    ``importance`` as itself, and all others as multimodal. A row counts for the first stage whose threshold it misses
    in the order of the file: keep the paper's order there.
    """
    path = Path(run if cut is None else cut) / SELECTION
    if not path.is_file():
        raise EngineError(f"{path.parent} holds no {path.name}; run the engine to its end, or cut its run again")
    fallen: dict[str, int] = dict.fromkeys((_ANNOTATIONS, *PAPER), 0)
    kept = 0
    for line in read_table(path.read_bytes()).to_pylist():
        if line["rejected"] is None:
            kept += 1
        else:
            fallen[_stage_of(line["rejected"])] += 1
    unusable = fallen.pop(_ANNOTATIONS) + read_dead_rows(run).num_rows
    left: dict[str, int] = {"initial masks": kept + sum(fallen.values())}
    for name in PAPER:
        left[name] = list(left.values())[-1] - fallen[name]
    return Survival(left, unusable)


def _stage_of(reason: str) -> str:
    """ "thresholds: consensus above 0.14", "gate: area below 0.01", "read: crowd" -> stage."""
    step, _, rest = reason.partition(": ")
    score = rest.split(" ")[0]
    if step == "gate" or (step == "thresholds" and score in BEFORE):
        return "pre-removal"
    if step != "thresholds":
        return _ANNOTATIONS
    if score in _CONSENSUS:
        return "consensus"
    return "importance" if score in _IMPORTANCE else "multimodal"
