"""Real pictures that FID and KID compare with, measured in parts that are kept."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from intarsia.evaluation.bench.encoders import PictureEncoder
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.row_scorer import SCORER_VERSION, read_rgb
from intarsia.evaluation.bench.scores_folder import REFERENCE, Features, read_arrays, write_arrays

Progress = Callable[[int, int, str], None]
"""Called with pictures done, pictures in all, and the method."""
_BATCH = 64
_ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}


def reference_pictures(folder: str | Path | None) -> list[Path] | None:
    """The files below a folder, in order. Raises BenchError: fewer than two."""
    if folder is None:
        return None
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
    if len(found) < 2:
        raise BenchError(
            f"the reference {folder} holds {len(found)} pictures: name a folder of real ones, at least two"
        )
    return found


def reference_features(
    paths: Sequence[Path], encoder: PictureEncoder, parts: Path, progress: Progress | None
) -> Features:
    """Features of whole pictures; there is nothing in them to crop to. Raises BenchError: a file is no picture."""
    found = []
    for number, start in enumerate(range(0, len(paths), _BATCH)):
        some = paths[start : start + _BATCH]
        data = [path.read_bytes() for path in some]
        told = [SCORER_VERSION, encoder.name, encoder.hash, [hashlib.sha256(content).hexdigest() for content in data]]
        key = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        place = parts / REFERENCE / f"{number:05d}.npz"
        arrays = read_arrays(place)
        if arrays is None or str(arrays.get("key")) != key:
            pictures = []
            for path, content in zip(some, data, strict=True):
                try:
                    pictures.append(read_rgb(io.BytesIO(content)))
                except (OSError, ValueError) as error:
                    raise BenchError(f"{path} of the reference is no picture ({error}): take it away") from error
            arrays = {"key": np.array(key), "whole": encoder.images(pictures)}
            write_arrays(place, arrays)
        found.append(arrays["whole"])
        if progress is not None:
            progress(min(start + _BATCH, len(paths)), len(paths), REFERENCE)
    whole = np.concatenate(found)
    return Features((), np.zeros((0, whole.shape[1]), np.float32), whole)
