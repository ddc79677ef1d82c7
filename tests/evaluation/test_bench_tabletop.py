"""The whole way as a command: two workers, learned subjects, killed and gone on with, scored twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from intarsia.evaluation import bench

_FEW = ["--subjects", "2", "--per-subject", "2", "--learn-steps", "2", "--no-sweeps", "--seed", "3"]
_METHODS = ["--method", "cut_and_paste", "--method", "dif", "--method", "tas"]


def _start(output: Path) -> subprocess.Popen[bytes]:
    words = ["bench", "tabletop", "--output", str(output), *_FEW, *_METHODS, "--workers", "2"]
    return subprocess.Popen(
        [sys.executable, "-m", "intarsia", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _lines(results: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in sorted((results / "lines").glob("*.jsonl")) for line in path.open()]


def test_a_killed_run_ends_with_the_same_scores_and_no_row_twice(tmp_path: Path) -> None:
    output = tmp_path / "bench"
    results = output / "results"
    for stage in ("*.work", "dif"):  # while a subject is learned; and when some rows are painted
        process = _start(output)
        end = time.monotonic() + 150
        while process.poll() is None and time.monotonic() < end:
            pattern = f"subjects/*/{stage}" if stage == "*.work" else f"pictures/{stage}/*.png"
            if list(results.glob(pattern)):
                break
            time.sleep(0.02)
        assert process.poll() is None, "killed in the middle, not at the end"
        process.kill()
        process.wait(60)
    assert _start(output).wait(200) == 0
    found = bench.read_results(results)
    assert len(_lines(results)) == len(found) == 12 and not any(result.error for result in found)
    by = {(result.row, result.method): result.picture_sha256 for result in found}
    for row in {row for row, _ in by}:
        # Nothing is removed from the words of an identity row, so TAS paints what came before it.
        assert (by[row, "tas"] == by[row, "dif"]) == (row.endswith("00"))
    assert (results / "report" / "tabletop" / "report.html").is_file()

    # The same without kills, in one process with another number of workers: the same bytes, the same scores.
    again = tmp_path / "again"
    shutil.copytree(output / "benchmark", again / "benchmark")
    opened = bench.Benchmark.open(again / "benchmark")
    methods = [bench.method_of(name) for name in ("cut_and_paste", "dif", "tas")]
    options = bench.RunOptions(budget={"steps": 2})
    assert bench.run_benchmark(opened, again / "results", methods, options, workers=1) == 0
    assert {(r.row, r.method): r.picture_sha256 for r in bench.read_results(again / "results")} == by
    scores = bench.score_results(opened, again / "results")
    kept = results / "scores" / scores.name
    assert (scores / "scores.jsonl").read_bytes() == (kept / "scores.jsonl").read_bytes()
    opened_again = bench.Benchmark.open(output / "benchmark")
    assert opened_again.manifest_sha256 == opened.manifest_sha256
