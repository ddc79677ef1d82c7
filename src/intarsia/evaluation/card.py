"""The model card: the weights' description and their measured numbers, written from files, never by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

# key: (what it says, at least, aim, is it a share)
GOALS: dict[str, tuple[str, float, float, bool]] = {
    "vae_psnr": ("VAE reconstruction, PSNR in dB", 28, 33, False),
    "text_class": ("insertion from words: class right", 0.80, 0.97, True),
    "text_colour": ("insertion from words: colour right", 0.80, 0.97, True),
    "text_material": ("insertion from words: material right", 0.60, 0.90, True),
    "text_pattern": ("insertion from words: pattern right", 0.60, 0.90, True),
    "text_accessory": ("insertion from words: accessory right", 0.60, 0.90, True),
    "removal_psnr": ("removal, PSNR inside the mask in dB", 20, 27, False),
    "learned_top1": ("learned subject found among 50", 0.60, 0.90, True),
    "edit_attribute": ("edit of a learned subject: attribute right", 0.50, 0.85, True),
    "edit_top1": ("edit of a learned subject: still found among 50", 0.40, 0.75, True),
    "bytes_changed_outside": ("bytes changed outside the support", 0, 0, False),
}
_JUDGES = ("judge_class", "judge_colour", "judge_material", "judge_pattern", "judge_accessory")
# What the numbers above should be read against.
BESIDE: dict[str, tuple[str, bool]] = {
    "text_pattern_named": ("pattern right, of the prompts that name one", True),
    "text_accessory_named": ("accessory right, of the prompts that name one", True),
    "removal_psnr_fill": ("removal by a smooth fill without any model, PSNR in dB", False),
    "words_top1": ("found among 50 when painted from its full caption, not learned", True),
    "judge_top1": ("found among 50 when the judge sees a true render", True),
    "edit_colour": ("colour edits right", True),
    "edit_material": ("material edits right", True),
    "edit_accessory": ("accessory edits right", True),
}


def _number(value: float, share: bool) -> str:
    return f"{100 * value:.1f} %" if share else f"{value:.1f}"


def interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in ``n`` independent samples (Wilson 1927)."""
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _measured(row: dict[str, Any], share: bool) -> str:
    value, n = float(row["value"]), int(row["n"])
    if not share:
        return _number(value, share)
    low, high = interval(value, n)
    return f"{_number(value, share)} ({100 * low:.0f} to {100 * high:.0f})"


def beside(metrics: dict[str, dict[str, Any]]) -> str:
    """A Markdown list of the controls that were measured, and of what was not measured as usual."""
    lines = [
        f"- {what} (`{key}`): {_measured(metrics[key], share)}, n = {metrics[key]['n']}"
        for key, (what, share) in BESIDE.items()
        if key in metrics
    ]
    steps = sorted({int(row["learn_steps"]) for row in metrics.values() if "learn_steps" in row})
    lines += [f"- **subjects were learned for {count} steps, not for the preset's**" for count in steps]
    return "\n".join(lines) or "- not measured"


def table(metrics: dict[str, dict[str, Any]]) -> str:
    """A Markdown table of every goal, measured or not; shares with their 95 % interval."""
    rows = ["| what (key) | at least | aim | measured | n | reached |", "|---|---|---|---|---|---|"]
    for key, (what, least, aim, share) in GOALS.items():
        row = metrics.get(key)
        if row is None:
            measured, n, reached = "not measured", "-", "-"
        else:
            value = float(row["value"])
            good = value <= least if key == "bytes_changed_outside" else value >= least
            best = value <= aim if key == "bytes_changed_outside" else value >= aim
            measured, n = _measured(row, share), str(row["n"])
            reached = "aim" if best else "floor" if good else "no"
        rows.append(
            f"| {what} (`{key}`) | {_number(least, share)} | {_number(aim, share)} | {measured} | {n} | {reached} |"
        )
    return "\n".join(rows)


def judges_line(metrics: dict[str, dict[str, Any]]) -> str:
    """How well the attribute judge reads real renders: the ceiling of the text numbers."""
    found = [f"{k.removeprefix('judge_')} {100 * float(metrics[k]['value']):.1f} %" for k in _JUDGES if k in metrics]
    return "The attribute judge on real held-out renders: " + (", ".join(found) if found else "not measured") + "."


def write_markdown(weights: Path, results: Path, output: Path) -> None:
    """``MODEL_CARD.md`` from ``model_card.json`` and the results' JSON."""
    card = json.loads((weights / "model_card.json").read_text(encoding="utf-8"))
    metrics = json.loads(results.read_text(encoding="utf-8"))["metrics"] if results.exists() else {}
    stages = "\n".join(
        f"| {name} | {row['images']:.0f} | {row['loss']:.4f} | {row['seconds'] / 60:.1f} |"
        for name, row in card["stages"].items()
    )
    seeds = sorted({str(m["seed"]) for m in metrics.values()})
    hashes = sorted({str(m["weights"])[:16] for m in metrics.values()})
    output.write_text(
        f"""# Model card: the miniature

A small SDXL inpainting model for Tabletop, made by `python -m intarsia.training --scale {card["recipe"]["scale"]}`.
It has only ever seen rendered toys on tables: on real photographs it paints poorly.

- world level: `{card["level"]}`; native side: {card["native_size"]} px; licence: {card["license"]}
- recipe hash: `{card["recipe_hash"]}`
- weights: `{", ".join(hashes) or "-"}`; measurement seed: {", ".join(seeds) or "-"}

## Numbers

Written by `make bench` on held-out subjects and scenes (`benchmarks/results/miniature.json`).

{table(metrics)}

Shares have 95 % intervals in brackets. What each number means: `docs/evaluation.md`. To read them against:

{beside(metrics)}

{judges_line(metrics)}

## Training

| stage | images | last loss | minutes |
|---|---|---|---|
{stages}

Minutes are wall time on a shared two-core CPU and say little about another machine.
""",
        encoding="utf-8",
    )
