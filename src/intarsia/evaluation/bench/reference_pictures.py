"""Real pictures that FID and KID compare with, measured in parts that are kept."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.bench.encoders import PictureEncoder
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.picture_files import read_rgb
from intarsia.evaluation.bench.row_scorer import SCORER_VERSION, first_line
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
) -> tuple[Features, list[tuple[str, str]]]:
    """Features of whole pictures, as there is nothing in them to crop to; and the files that are none, each with the
    reason. Raises BenchError: fewer than two are pictures."""
    found: list[npt.NDArray[np.float32]] = []
    left: list[tuple[str, str]] = []
    for number, start in enumerate(range(0, len(paths), _BATCH)):
        some = [(path, _bytes(path)) for path in paths[start : start + _BATCH]]
        told = [SCORER_VERSION, encoder.name, encoder.hash, [[path.name, _digest(data)] for path, data in some]]
        key = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        place = parts / REFERENCE / f"{number:05d}.npz"
        arrays = read_arrays(place)
        if arrays is None or str(arrays.get("key")) != key:
            pictures, unusable = [], []
            for path, data in some:
                try:
                    pictures.append(read_rgb(io.BytesIO(data)))
                except Exception as error:  # decoders raise almost anything on hostile bytes
                    unusable.append((path.name, f"picture unreadable: {first_line(error)}"))
            whole = encoder.images(pictures) if pictures else np.zeros((0, 0), np.float32)
            arrays = {"key": np.array(key), "left": np.array(json.dumps(unusable)), "whole": whole}
            write_arrays(place, arrays)
        if len(arrays["whole"]):
            found.append(arrays["whole"])
        left += [(name, reason) for name, reason in json.loads(str(arrays["left"]))]
        if progress is not None:
            progress(min(start + _BATCH, len(paths)), len(paths), REFERENCE)
    if sum(map(len, found)) < 2:
        raise BenchError(
            f"of the {len(paths)} pictures of the reference {len(left)} cannot be read ({left[0][0]}: {left[0][1]}): "
            "name a folder with at least two"
        )
    whole = np.concatenate(found)
    return Features((), np.zeros((0, whole.shape[1]), np.float32), whole), left


def _bytes(path: Path) -> bytes:
    """Nothing of a file that cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
