"""A small benchmark of Tabletop for the tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from intarsia.evaluation.bench.build_tabletop import build_tabletop


@functools.cache
def small_benchmark() -> Path:
    """Two subjects with four rows each, rendered once."""
    folder = Path(tempfile.mkdtemp(prefix="intarsia-bench-")) / "benchmark"
    build_tabletop(folder, subjects=2, per_subject=4, seed=3)
    return folder
