"""The data engine's numbers: how right its quadruplets are, and what SIGKILL does to them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from intarsia.engines import measure_kills, quadruplets
from intarsia.evaluation.quadruplets import QuadrupletReport, measure_quadruplets, write_tabletop
from intarsia.perception import Helpers, Noise

NOISE = 0.2
_COMMAND = "from intarsia.cli import main; main()"
_SHARD = 4


def quadruplet_numbers(scenes: int, seed: int, model: str) -> QuadrupletReport:
    """Run the engine with noisy helpers on that many rendered scenes and compare with the truth."""
    with TemporaryDirectory() as folder:
        photos, output = Path(folder) / "photos", Path(folder) / "output"
        write_tabletop(photos, scenes, seed=_scene_seed(seed))
        helpers = Helpers(scorer=f"towers:{model}", folder=photos, noise=Noise(NOISE, seed), device="cpu")
        quadruplets.run_quadruplets(photos, output, helpers, thresholds="tabletop")
        return measure_quadruplets(output, photos)


def kill_numbers(kills: int, seed: int, model: str, scenes: int = 24) -> tuple[int, int, int]:
    """Rows lost, rows doubled, and files that differ from an undisturbed run's, over so many kills of the command line
    at random moments."""
    with TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        write_tabletop(photos, scenes, seed=_scene_seed(seed))

        def command(output: Path) -> Sequence[str]:
            engine = [sys.executable, "-c", _COMMAND, "data", "quadruplets", str(photos), str(output)]
            settings = ["--helpers", "truth", "--noise", str(NOISE), "--seed", str(seed), "--scorer", f"towers:{model}"]
            return [*engine, *settings, "--shard-size", str(_SHARD), "--device", "cpu"]

        report = measure_kills(command, Path(folder) / "killed", Path(folder) / "undisturbed", kills, seed)
    return report.lost, report.doubled, len(report.different)


def _scene_seed(seed: int) -> int:
    """Other scenes than those that the shipped thresholds were looked at with."""
    return 1_000 + seed
