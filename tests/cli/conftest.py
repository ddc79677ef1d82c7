"""Commands run in this process; the model is a tiny one in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.editing.conftest import model_folder, noise_picture, photo_folder
from typer.testing import CliRunner

from intarsia.cli import app
from intarsia.imaging import Picture

__all__ = ["model_folder", "photo_folder"]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "120")

    def invoke(*arguments: object) -> Outcome:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """scene.png and mask.png of 96x72 px."""
    noise_picture().save(tmp_path / "scene.png")
    mask = np.zeros((72, 96), np.uint8)
    mask[20:44, 30:54] = 255
    Picture.from_array(mask).save(tmp_path / "mask.png")
    return tmp_path
