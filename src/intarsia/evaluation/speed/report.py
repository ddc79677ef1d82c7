"""Numbers of speed, printed as a table and written to a results file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from intarsia.evaluation.results import Results
from intarsia.evaluation.speed.counts import Count
from intarsia.evaluation.speed.pairs import Ratio
from intarsia.evaluation.speed.sdxl import Measured

_PARTS = {
    "unet": "U-Net",
    "encoder": "encoded",
    "decoder": "decoded",
    "text": "text",
    "projection": "K, V of prompts",
}
_SIDES = ("first", "second")


@dataclass(frozen=True)
class Report:
    """`machine` is written beside what was measured, not beside what was counted."""

    results: Results
    machine: str

    def heading(self, text: str) -> None:
        print(f"\n{text}", flush=True)

    def calls(self, calls: dict[str, Counter[str]]) -> None:
        """The table alone; the numbers are written as counts."""
        print(f"  {'calls':22}" + "".join(f"{name:>17}" for name in _PARTS.values()))
        for edit, counted in calls.items():
            print(f"  {edit:22}" + "".join(f"{counted[part]:>17}" for part in _PARTS), flush=True)

    def count(self, count: Count) -> None:
        self.results.add(count.key, count.value, 1, unit=count.unit, what=count.what, kind="counted")
        if count.unit != "calls":
            _line(count.key, count.value, count.unit, count.what)

    def measured(self, found: Measured) -> None:
        told = {"unit": found.unit, "what": found.what, "kind": "measured", "machine": self.machine}
        self.results.add(found.key, found.value, found.n, **told)  # type: ignore[arg-type]
        _line(found.key, found.value, found.unit, f"{found.what} (n = {found.n})")

    def ratio(self, key: str, ratio: Ratio, *, seconds: bool = False, **conditions: Any) -> None:
        """Medians with quartiles; `seconds` of both sides only where they were measured on a machine of their own."""
        if seconds:
            conditions |= {f"{side}_seconds": round(s, 4) for side, s in zip(_SIDES, ratio.seconds, strict=True)}
        self.results.add(
            key,
            ratio.wall.median,
            ratio.pairs,
            low=round(ratio.wall.low, 4),
            high=round(ratio.wall.high, 4),
            cpu=round(ratio.cpu.median, 4),
            cpu_low=round(ratio.cpu.low, 4),
            cpu_high=round(ratio.cpu.high, 4),
            unit="ratio of times",
            what=f"{ratio.first} / {ratio.second}; low and high are quartiles",
            kind="measured",
            machine=self.machine,
            **conditions,
        )
        print(f"  {key:26} {ratio.line()}", flush=True)

    def done(self) -> None:
        print(f"\nnumbers written to {self.results.path}", flush=True)


def _line(key: str, value: float, unit: str, what: str) -> None:
    shown = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}" if value < 1 else f"{value:,.2f}"
    print(f"  {key:48} {shown:>14} {unit:6} {what}", flush=True)
