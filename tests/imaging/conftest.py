from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def photos() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not (folder / "scenes").is_dir():
        pytest.skip(f"no real photos at {folder}")
    return folder
