"""The model card: the weights' description and their measured numbers, written from files, never by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from intarsia.evaluation.results import ResultsError

Metrics = Mapping[str, Mapping[str, Any]]
Form = Literal["number", "share", "percent", "gain"]
"""A share has an interval of its own, a percentage has none; a gain's is in its row."""


@dataclass(frozen=True)
class Goal:
    """``fewest``: less is better. A gain is reached when its interval lies above ``least``."""

    what: str
    least: float
    aim: float
    form: Form = "share"
    fewest: bool = False

    def reached(self, row: Mapping[str, Any]) -> str:
        """ "aim", "floor" or "no"."""
        value = float(row["value"])
        if self.fewest:
            return "aim" if value <= self.aim else "floor" if value <= self.least else "no"
        good = float(row["low"]) > self.least if self.form == "gain" else value >= self.least
        return "no" if not good else "aim" if value >= self.aim else "floor"


GOALS: dict[str, Goal] = {
    "vae_psnr": Goal("VAE reconstruction, PSNR in dB", 28, 33, "number"),
    "text_class": Goal("insertion from words: class right", 0.80, 0.97),
    "text_colour": Goal("insertion from words: colour right", 0.80, 0.97),
    "text_material": Goal("insertion from words: material right", 0.60, 0.90),
    "text_pattern": Goal("insertion from words: pattern right", 0.60, 0.90),
    "text_accessory": Goal("insertion from words: accessory right", 0.60, 0.90),
    "removal_psnr": Goal("removal, PSNR inside the mask in dB", 20, 27, "number"),
    "learned_top1": Goal("learned subject found among 50", 0.60, 0.90),
    "edit_attribute": Goal("edit of a learned subject: attribute right", 0.50, 0.85),
    "edit_top1": Goal("edit of a learned subject: still found among 50", 0.40, 0.75),
    "bytes_changed_outside": Goal("bytes changed outside the support", 0, 0, "number", fewest=True),
}
ZERO_SHOT_GOALS: dict[str, Goal] = {
    "assign_top1": Goal("one photo, no words, Assign alone: found among 50", 0.30, 0.60),
    "refine_top1": Goal("one photo, no words, with Refine: found among 50", 0.45, 0.85),
    "refine_gain": Goal("Refine's gain in similarity (the smaller of image and instance judge)", 0, 0.05, "gain"),
    "both_attribute": Goal("photo and words: changed attribute right", 0.50, 0.80),
    "both_top1": Goal("photo and words: still found among 50", 0.35, 0.65),
    "quadruplet_precision": Goal("data engine, a fifth of all answers wrong: kept quadruplets right", 0.90, 0.98),
    "kill_lost": Goal("data engine killed at random moments: rows lost", 0, 0, "number", fewest=True),
    "kill_doubled": Goal("data engine killed at random moments: rows doubled", 0, 0, "number", fewest=True),
    "chain_bytes_changed": Goal("bytes changed outside the supports of ten edits", 0, 0, "number", fewest=True),
}
ADD_GOALS: dict[str, Goal] = {
    "removal_success_gain": Goal("pairs engine: removals right, points gained by its filters", 8, 8, "number"),
    "removal_success_after": Goal("pairs engine: kept removals right", 0.876, 0.98),
    "add_class": Goal("added on an instruction: class right", 0.60, 0.90),
    "add_colour": Goal("added on an instruction: colour right", 0.60, 0.90),
    "add_placement": Goal("on the table, clear of other things, place words obeyed", 0.60, 0.90),
    "add_bytes_changed": Goal("bytes changed outside the returned support", 0, 0, "number", fewest=True),
    "engine_overhead": Goal("pairs engine: overhead beyond its steps' time", 0.15, 0.05, "percent", fewest=True),
    "engine_same": Goal("local and Ray, 1 and 2 workers write the same files (1: yes)", 1, 1, "number"),
    "kill_lost": Goal("pairs engine killed at random moments: rows lost", 0, 0, "number", fewest=True),
    "kill_doubled": Goal("pairs engine killed at random moments: rows doubled", 0, 0, "number", fewest=True),
    "edit_detection_auc": Goal("edits found by a probe, AUC (`best`; 0.5: none)", 1, 0.6, "gain", fewest=True),
}
_JUDGES = ("judge_class", "judge_colour", "judge_material", "judge_pattern", "judge_accessory")
# What the numbers above should be read against.
BESIDE: dict[str, tuple[str, Form]] = {
    "text_pattern_named": ("pattern right, of the prompts that name one", "share"),
    "text_accessory_named": ("accessory right, of the prompts that name one", "share"),
    "removal_psnr_fill": ("removal by a smooth fill without any model, PSNR in dB", "number"),
    "words_top1": ("found among 50 when painted from its full caption, not learned", "share"),
    "judge_top1": ("found among 50 when the judge sees a true render", "share"),
    "edit_colour": ("colour edits right", "share"),
    "edit_material": ("material edits right", "share"),
    "edit_accessory": ("accessory edits right", "share"),
}
ZERO_SHOT_BESIDE: dict[str, tuple[str, Form]] = {
    "reference_judge_top1": ("found among 50 when the judge sees a true render", "share"),
    "refine_gain_clip_i": ("Refine's gain by the image judge", "gain"),
    "refine_gain_instance": ("Refine's gain by the instance judge", "gain"),
    "reference_assign_clip_i": ("similarity by the image judge, Assign alone", "gain"),
    "reference_refine_clip_i": ("similarity by the image judge, with Refine", "gain"),
    "reference_judge_clip_i": ("similarity by the image judge of a true render", "gain"),
    "reference_assign_instance": ("similarity by the instance judge, Assign alone", "gain"),
    "reference_refine_instance": ("similarity by the instance judge, with Refine", "gain"),
    "reference_judge_instance": ("similarity by the instance judge of a true render", "gain"),
    "both_colour": ("photo and words: colour edits right", "share"),
    "both_material": ("photo and words: material edits right", "share"),
    "both_accessory": ("photo and words: accessory edits right", "share"),
    "both_attribute_unedited": ("the same judged right on true renders *without* the edit", "share"),
    "quadruplet_precision_before": ("data engine: candidates right before the thresholds", "share"),
    "quadruplet_recall": ("data engine: things in the scenes that have a right quadruplet", "share"),
}
ADD_BESIDE: dict[str, tuple[str, Form]] = {
    "removal_success_before": ("removals right before the filters", "share"),
    "removal_success_gated": ("removals right past the filters before the removal", "share"),
    "removal_success_16db_before": ("right with 16 dB instead of 20, before the filters", "share"),
    "removal_success_16db_after": ("the same after them", "share"),
    "removal_success_24db_before": ("right with 24 dB, before the filters", "share"),
    "removal_success_24db_after": ("the same after them", "share"),
    "removal_kept_of_masks": ("share of removed masks whose pairs are kept", "share"),
    "removal_psnr_before": ("inside the mask, PSNR in dB, before the filters", "number"),
    "removal_psnr_after": ("the same after them", "number"),
    "add_judge_class": ("class right on true renders", "share"),
    "add_judge_colour": ("colour right on true renders", "share"),
    "add_before_class": ("class right of the scene itself in the change masks", "share"),
    "add_before_colour": ("colour right of the scene itself in the change masks", "share"),
    "add_direct_class": ("class right, finished with the instruction model's own pixels", "share"),
    "add_direct_colour": ("colour right, the same", "share"),
    "add_repaint_class": ("class right, repainted by the inpainting model from these pixels", "share"),
    "add_repaint_colour": ("colour right, the same", "share"),
    "add_truth_placement": ("placement right of true renders", "share"),
    "add_table": ("stands on the table", "share"),
    "add_clear": ("covers no other thing", "share"),
    "add_place": ("place words obeyed, of the instructions that have some", "share"),
    "add_place_elsewhere": ("stands at a place that was not asked for, of the other two", "share"),
    "add_nothing": ("nothing was added", "share"),
    "add_support": ("mean share of the picture in the change mask", "percent"),
    "edit_detection_auc_paper": ("edits found by the probe, AUC, preset `paper`", "gain"),
}
_SWEPT: dict[str, tuple[str, str, Form]] = {
    "attribute": ("attribute right", "down", "share"),
    "instance": ("similarity to the subject in the photo", "up", "gain"),
    "top1": ("found among 50", "up", "share"),
}


def _number(value: float, form: Form) -> str:
    percent = f"{100 * value:.1f} %"
    return {"share": percent, "percent": percent, "number": f"{value:.1f}", "gain": f"{value:.3f}"}[form]


def interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in ``n`` independent samples (Wilson 1927)."""
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _measured(row: Mapping[str, Any], form: Form) -> str:
    value, n = float(row["value"]), int(row["n"])
    if form == "share":
        low, high = interval(value, n)
        return f"{_number(value, form)} ({100 * low:.0f} to {100 * high:.0f})"
    if "low" in row:
        return f"{_number(value, form)} ({_number(row['low'], form)} to {_number(row['high'], form)})"
    return _number(value, form)


def beside(metrics: Metrics, controls: Mapping[str, tuple[str, Form]] = BESIDE) -> str:
    """A Markdown list of the controls that were measured, and of what was not measured as usual."""
    lines = [
        f"- {what} (`{key}`): {_measured(metrics[key], form)}, n = {metrics[key]['n']}"
        for key, (what, form) in controls.items()
        if key in metrics
    ]
    steps = sorted({int(row["learn_steps"]) for row in metrics.values() if "learn_steps" in row})
    lines += [f"- **subjects were learned for {count} steps, not for the preset's**" for count in steps]
    return "\n".join(lines) or "- not measured"


def table(metrics: Metrics, goals: Mapping[str, Goal] = GOALS) -> str:
    """A Markdown table of every goal, measured or not; shares and gains with their 95 % interval."""
    rows = ["| what (key) | at least | aim | measured | n | reached |", "|---|---|---|---|---|---|"]
    for key, goal in goals.items():
        row = metrics.get(key)
        least = f"> {goal.least:g}" if goal.form == "gain" and not goal.fewest else _number(goal.least, goal.form)
        measured, n, reached = "not measured", "-", "-"
        if row is not None:
            measured, n, reached = _measured(row, goal.form), str(row["n"]), goal.reached(row)
        rows.append(
            f"| {goal.what} (`{key}`) | {least} | {_number(goal.aim, goal.form)} | {measured} | {n} | {reached} |"
        )
    return "\n".join(rows)


def sweep_lines(metrics: Metrics) -> str:
    """A Markdown list: how each curve of the β sweep goes, and whether it does so at every step."""
    lines = []
    for measure, (what, way, form) in _SWEPT.items():
        keys = [f"beta_{measure}_{end}" for end in ("0", "1", "spearman")]
        if not all(key in metrics for key in keys):
            continue
        first, last, rank = (metrics[key] for key in keys)
        steps, against = int(rank["strengths"]) - 1, int(rank["steps_against"])
        told = "at every step" if against == 0 else f"but {against} of {steps} steps go the other way"
        lines.append(
            f"- {what} (should go {way}): {_measured(first, form)} → {_measured(last, form)}; rank correlation "
            f"{float(rank['value']):.2f}, {told}; n = {rank['n']}"
        )
    return "\n".join(lines) or "- not measured"


def judges_line(metrics: Metrics) -> str:
    """How well the attribute judge reads real renders: the ceiling of the text numbers."""
    found = [f"{k.removeprefix('judge_')} {100 * float(metrics[k]['value']):.1f} %" for k in _JUDGES if k in metrics]
    return "The attribute judge on real held-out renders: " + (", ".join(found) if found else "not measured") + "."


def read_metrics(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a results file; none if there is no such file.

    Raises:
        ResultsError: the file holds something else.
    """
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["metrics"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path} holds no measurements ({error!r}): measure again") from error


def _told(metrics: Metrics, name: str) -> str:
    """The values of a column, shortened if they are hashes."""
    return ", ".join(sorted({str(row[name])[:16] for row in metrics.values() if name in row})) or "-"


def write_markdown(
    weights: Path, results: Path, output: Path, zero_shot: Path | None = None, add: Path | None = None
) -> None:
    """``MODEL_CARD.md`` from ``model_card.json`` and the results' JSON files.

    Raises:
        ResultsError: a results file holds something else.
    """
    card = json.loads((weights / "model_card.json").read_text(encoding="utf-8"))
    metrics = read_metrics(results)
    shown = {} if zero_shot is None else read_metrics(zero_shot)
    added = {} if add is None else read_metrics(add)
    stages = "\n".join(
        f"| {name} | {row['images']:.0f} | {row['loss']:.4f} | {row['seconds'] / 60:.1f} |"
        for name, row in card["stages"].items()
    )
    output.write_text(
        f"""# Model card: the miniature

A small SDXL inpainting model for Tabletop, made by `python -m intarsia.training --scale {card["recipe"]["scale"]}`.
It has only ever seen rendered toys on tables: on real photographs it paints poorly.

- world level: `{card["level"]}`; native side: {card["native_size"]} px; licence: {card["license"]}
- recipe hash: `{card["recipe_hash"]}`
- weights: `{_told(metrics, "weights")}`; measurement seed: {_told(metrics, "seed")}

## Numbers

Written by `make bench` on held-out subjects and scenes (`benchmarks/results/miniature.json`).

{table(metrics)}

Shares have 95 % intervals in brackets. What each number means: `docs/evaluation.md`. To read them against:

{beside(metrics)}

{judges_line(metrics)}

## Inserting without learning

Words, one photo, or both (`benchmarks/results/zero_shot.json`); held-out subjects, scenes and photos. Weights:
`{_told(shown, "weights")}`; adapters: `{_told(shown, "adapters")}`; measurement seed: {_told(shown, "seed")}.

{table(shown, ZERO_SHOT_GOALS)}

To read them against:

{beside(shown, ZERO_SHOT_BESIDE)}

With the photo's strength β growing from 0 to 1 beside words (picture: `docs/images/beta_sweep.png`):

{sweep_lines(shown)}

## Adding on an instruction

An instruction and no mask; and the engine that makes the pairs this is learned from (`benchmarks/results/add.json`).
Weights: `{_told(added, "weights")}`; instruction model: `{_told(added, "adapters")}`; measurement seed:
{_told(added, "seed")}.

{table(added, ADD_GOALS)}

To read them against:

{beside(added, ADD_BESIDE)}

## Training

| stage | images | last loss | minutes |
|---|---|---|---|
{stages}

Minutes are wall time on a shared two-core CPU and say little about another machine.
""",
        encoding="utf-8",
    )
