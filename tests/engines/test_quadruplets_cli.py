"""`intarsia data` from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest_tiny import save_tiny, tiny_backbone
from tests.engines.quadruplet_scenes import draw_scenes
from typer.testing import CliRunner

from intarsia.cli.data import data

SOURCE = Path(__file__).resolve().parents[2] / "src"
HELP = """
import sys
from typer.testing import CliRunner
from intarsia.cli.data import data
names = ([], ["tabletop"], ["quadruplets"], ["recut"])
codes = [CliRunner().invoke(data, [*name, "--help"]).exit_code for name in names]
print(*codes, *[name for name in ("torch", "transformers", "pyarrow", "ray", "numpy") if name in sys.modules])
"""


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(data, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_help_is_instant() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", HELP], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"] * 4


def test_scenes_quadruplets_another_cut_and_the_funnel(tmp_path: Path) -> None:
    model, scenes, out = tmp_path / "model", tmp_path / "scenes", tmp_path / "out"
    save_tiny(tiny_backbone(), model)
    code, said, _ = run("tabletop", scenes, "--count", 3, "--side", 64, "--json")
    assert code == 0 and json.loads(said)["rendered"] == 3
    easy = tmp_path / "easy.yaml"
    easy.write_text("side: {min: 4}\n")
    made = ("quadruplets", scenes, out, "--helpers", "truth", "--noise", 0, "--scorer", f"towers:{model}")
    code, said, _ = run(*made, "--thresholds", easy, "--shard-size", 2, "--json")
    first: dict[str, Any] = json.loads(said)
    assert code == 0 and first["kept"] >= 3 and first["source_rows"] == 3
    code, said, errors = run(*made, "--thresholds", easy, "--shard-size", 2)
    assert code == 0 and f"{first['kept']} quadruplets of 3 photos" in said and errors == ""
    code, said, errors = run("quadruplets", scenes, out, "--helpers", "truth", "--noise", 0.5, "--shard-size", 2)
    assert code == 2 and errors.startswith("error: ") and errors.count("\n") == 1
    strict = tmp_path / "strict.yaml"
    strict.write_text("side: {min: 900}\n")
    code, said, _ = run("recut", out, tmp_path / "cut", "--thresholds", strict, "--json")
    assert code == 0 and json.loads(said)["kept"] == 0
    code, said, _ = run("funnel", tmp_path / "cut")
    assert code == 0 and "side below 900" in said
    code, said, _ = run("funnel", out, "--json")
    assert json.loads(said)["kept"] == first["kept"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["quadruplets", "PHOTOS", "OUT"], "no usual tagger"),
        (["quadruplets", "PHOTOS", "OUT", "--helpers", "people"], "use models or truth"),
        (["quadruplets", "PHOTOS", "OUT", "--helpers", "truth", "--runner", "spark"], "use local or ray"),
        (["quadruplets", "PHOTOS", "OUT", "--helpers", "truth", "--noise", "2"], "from 0 to 1"),
        (["quadruplets", "PHOTOS", "OUT", "--helpers", "truth", "--thresholds", "none.yaml"], "no file of thresholds"),
        (["quadruplets", "PHOTOS", "OUT", "--helpers", "truth", "--blacklist", "none.yaml"], "cannot be read"),
        (["quadruplets", "PHOTOS", "OUT", "--helpers", "truth", "--least-side", "0"], "at least 1"),
        (["quadruplets", "PHOTOS", "OUT", "--helpers", "truth", "--detector", "yolo"], "detector 'yolo' is unknown"),
        (["quadruplets", "PHOTOS/none", "OUT", "--helpers", "truth"], "is not a folder"),
        (["recut", "PHOTOS", "OUT", "--thresholds", "photos"], "engine"),
        (["funnel", "PHOTOS"], "holds no finished run"),
        (["tabletop", "PHOTOS", "--count", "1"], "something else"),
        (["tabletop", "OUT", "--count", "0"], "at least 1"),
    ],
)
def test_faults_are_one_line_and_leave_nothing(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    photos, out = draw_scenes(tmp_path / "photos", 1), tmp_path / "out"
    named = [word.replace("PHOTOS", str(photos)).replace("OUT", str(out)) for word in arguments]
    code, said, errors = run(*named)
    assert code == 2 and said == "" and complaint in errors and errors.count("\n") == 1
    assert not out.exists()
