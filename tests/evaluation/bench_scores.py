"""A benchmark with made-up scores whose means are known, for the tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from intarsia.evaluation.bench import Benchmark, BenchSubject, Row, Shot, Truth, write_benchmark
from intarsia.evaluation.bench.cells import Cells
from intarsia.evaluation.bench.manifest import file_sha256
from intarsia.evaluation.bench.results_folder import write_run
from intarsia.evaluation.bench.score_set import ScoreSet

Values = Mapping[str, float | None]
SIDE, SUBJECTS, EACH = 40, 12, 4
SIZES = ("small", "medium", "large")
EDITS = ("colour", "material", "accessory")


def row_of(number: int, subjects: int, scene: str, mask: str) -> Row:
    """Every other row is editing; sizes in turn. ``scene``, ``mask``: hashes of the files."""
    editing = number % 2 == 1
    return Row(
        id=f"r{number:04d}",
        task="editing" if editing else "identity",
        scene="scene.png",
        scene_sha256=scene,
        mask="mask.png",
        mask_sha256=mask,
        subject=f"s{number // 2 % subjects}",
        class_noun="duck",
        prompt="a photo of a <b>red</b> & shiny duck",
        seed=number,
        size=SIZES[number // 2 % 3],  # type: ignore[arg-type]
        shape="box",
        edit=EDITS[number // 2 % 3] if editing else None,
        truth=Truth("scene.png", scene, {"colour": "red"}),
    )


def benchmark_of(folder: Path, rows: int = SUBJECTS * EACH, subjects: int = SUBJECTS, name: str = "toys") -> Benchmark:
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE + 20, 3), np.uint8)
    Image.fromarray(noise).save(folder / "scene.png")
    mask = np.zeros((SIDE, SIDE + 20), np.uint8)
    mask[10:18, 20:29] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    hashes = file_sha256(folder / "scene.png"), file_sha256(folder / "mask.png")
    known = {f"s{number}": BenchSubject("duck", (Shot("scene.png", hashes[0]),)) for number in range(subjects)}
    listed = [row_of(number, subjects, *hashes) for number in range(rows)]
    write_benchmark(folder, name, listed, known, {"seed": 1}, {"too dark": 3})
    return Benchmark.open(folder)


def results_of(
    folder: Path,
    benchmark: Benchmark,
    score: Callable[[Row, str], Values | None],
    methods: tuple[str, ...] = ("paper", "default"),
    told: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> Path:
    """Scores of each row and method by a function; None leaves the row out. ``told``: of the methods; ``run``: what
    else `run.json` says."""
    about = {"manifest_sha256": benchmark.manifest_sha256, "model_hash": "abc"}
    more = {"benchmark": benchmark.name, "model": "tiny", "methods": dict(told or {})}
    write_run(folder, {**about, **more, **(run or {})})
    scores = folder / "scores" / "tabletop"
    scores.mkdir(parents=True)
    lines = []
    for method in methods:
        for row in benchmark.rows:
            values = score(row, method)
            if values is not None:
                lines.append(json.dumps({"row": row.id, "method": method, "values": values}))
    (scores / "scores.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def cells_of(benchmark: Benchmark, results: Path, draws: int = 400) -> Cells:
    return Cells(benchmark, ScoreSet.open(results), draws)


def noise_of(row: Row, method: str) -> float:
    return float(np.random.default_rng([int(row.id[1:]), len(method)]).normal())


def rich(row: Row, method: str) -> Values:
    """Every kind of metric."""
    names = ("clip_t_crop", "clip_t_whole", "dino_crop", "dino_whole")
    values: dict[str, float | None] = {name: 0.5 + 0.1 * noise_of(row, method) for name in names}
    edited = float(noise_of(row, method) > 0)
    return {**values, "top1": edited, "attribute": edited if row.edit else None, "psnr_outside": 100.0, "odd": 1.0}
