"""Help and faults come before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
CODE = """
import sys
from typer.testing import CliRunner
from intarsia.cli import app
result = CliRunner().invoke(app, sys.argv[1:])
print(result.exit_code, *[name for name in ("torch", "diffusers", "transformers") if name in sys.modules])
print(result.stderr, file=sys.stderr)
"""


def heavy_after(*arguments: object) -> list[str]:
    """The exit code and what heavy was imported."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_help_loads_nothing_heavy() -> None:
    assert heavy_after("insert", "--help") == ["0"]
    assert heavy_after("outpaint", "--help") == ["0"]
    assert heavy_after("add", "--help") == ["0"]


@pytest.mark.parametrize(
    "fault", ["mask", "model", "subject", "output", "replay", "photos", "reference", "frame", "instruction"]
)
def test_faults_are_found_before_torch_is_loaded(fault: str, folder: Path) -> None:
    scene, out = folder / "scene.png", folder / "out.png"
    arguments: dict[str, list[object]] = {
        "mask": ["insert", scene, "-p", "x", "-o", out, "--box", "90,60,20,20"],
        "model": [
            "insert",
            scene,
            "-p",
            "x",
            "-o",
            out,
            "--mask",
            folder / "mask.png",
            "--model",
            "imaginary",
        ],
        "subject": ["insert", scene, "-o", out, "--box", "9,9,9,9", "--subject", scene],
        "output": ["insert", scene, "-p", "x", "-o", folder / "mask.png", "--box", "9,9,9,9"],
        "replay": ["replay", scene],
        "reference": ["insert", scene, "-o", out, "--box", "9,9,9,9", "--reference", scene],
        "instruction": ["add", scene, "remove the mug", "-o", out],
        "frame": ["outpaint", scene, "-o", out, "--left", 900],
        "photos": ["learn", folder / "none", "-c", "duck", "-o", folder / "d.safetensors", "--model", folder],
    }
    assert heavy_after(*arguments[fault]) == ["2"]


def test_the_package_runs_as_a_module() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "intarsia", "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("intarsia ")
