"""A benchmark and results made of noise, and participants who answer as told."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from intarsia.evaluation.bench.manifest import Benchmark, BenchSubject, Row, Shot, file_sha256, write_benchmark
from intarsia.evaluation.bench.results_folder import Result, ResultLines, write_run
from intarsia.evaluation.bench.study import StudyKey
from intarsia.evaluation.bench.study_page import order_for

SIDE = 24
METHODS = ("zanzibar@lam=0.3", "quokka")
TASKS, SIZES = ("identity", "editing"), ("small", "medium", "large")
Prefer = Callable[[list[str], Any], int | None]


def noise(path: Path, seed: int, text: str | None = None, side: int = SIDE, flat: bool = False) -> None:
    """A picture; a flat one is much smaller as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    if flat:
        pixels[:] = pixels[0, 0]
    info = PngInfo()
    if text is not None:
        info.add_text("recipe", text)
    Image.fromarray(pixels).save(path, pnginfo=info)


def make_bench(folder: Path, rows: int = 48) -> Benchmark:
    """Rows over both tasks, three sizes and four subjects."""
    shots = {}
    for subject in range(4):
        names = [f"subjects/s{subject}-{at}.png" for at in range(2)]
        for at, name in enumerate(names):
            noise(folder / name, 1000 + 10 * subject + at)
        shots[f"s{subject}"] = BenchSubject("duck", tuple(Shot(name, file_sha256(folder / name)) for name in names))
    listed = []
    for at in range(rows):
        scene, mask = f"scenes/{at}.png", f"masks/{at}.png"
        noise(folder / scene, at)
        (folder / "masks").mkdir(exist_ok=True)
        pixels = np.zeros((SIDE, SIDE), np.uint8)
        pixels[8:16, 8 : 10 + at % 6] = 255
        Image.fromarray(pixels).save(folder / mask)
        listed.append(
            Row(
                f"r{at:03d}",
                TASKS[at % 2],  # type: ignore[arg-type]
                scene,
                file_sha256(folder / scene),
                mask,
                file_sha256(folder / mask),
                f"s{at % 4}",
                "duck",
                f"a photo of a <red> duck & {at}",
                at,
                SIZES[at // 2 % 3],  # type: ignore[arg-type]
                "box",
            )
        )
    write_benchmark(folder, "noise", listed, shots, {})
    return Benchmark.open(folder)


def make_results(
    folder: Path, bench: Benchmark, methods: Iterable[str] = METHODS, swap: dict[str, str] | None = None
) -> Path:
    """Every method over every row, with a recipe in each file; ``swap``: method -> whose pictures it has."""
    methods = tuple(methods)
    write_run(
        folder,
        {
            "manifest_sha256": bench.manifest_sha256,
            "model": "m",
            "model_hash": "f" * 64,
            "methods": {name: {"title": name} for name in methods},
        },
    )
    lines = ResultLines(folder, "0")
    for number, method in enumerate(methods):
        source = methods.index((swap or {}).get(method, method))
        for row in bench.rows:
            name = f"pictures/{method}/{row.id}.png"
            noise(folder / name, 5000 * (source + 1) + row.seed, f"{method} {row.id}", flat=source == 0)
            lines.add(Result(row.id, method, row.seed, name, file_sha256(folder / name), 1.0 + number))
    return folder


def answers_of(key: StudyKey, participant: str, prefer: Prefer, milliseconds: float = 3000) -> dict[str, Any]:
    """What the page would save. ``prefer``: (methods from left to right, question) -> place or None."""
    asked = {question.id: question for question in key.questions}
    order = order_for(key.study, participant, [(one.id, tuple(one.options)) for one in key.questions], key.participants)
    answers = []
    for shown in order:
        methods = [asked[shown.id].options[name] for name in shown.options]
        choice = prefer(methods, asked[shown.id])
        told = {"question": shown.id, "shown": list(shown.options), "choice": choice, "milliseconds": milliseconds}
        answers.append(told)
    return {"format": 1, "study": key.study, "participant": participant, "answers": answers}


def save_answers(folder: Path, name: str, told: Any) -> Path:
    """As a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(told))
    return path


def likes(method: str, chance: float, ties: float = 0.0, left: float = 0.0, seed: int = 0) -> Prefer:
    """Somebody who cannot tell, or takes the left one whatever it is, or prefers ``method`` with ``chance``."""
    dice = random.Random(seed)

    def prefer(methods: list[str], question: Any) -> int | None:
        if dice.random() < ties:
            return None
        if dice.random() < left:
            return 0
        liked = methods.index(method)
        return liked if dice.random() < chance else 1 - liked

    return prefer
