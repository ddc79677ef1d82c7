"""What one picture of a benchmark's row is worth: all values that need no other picture of the method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.bench.encoders import EncoderSet
from intarsia.evaluation.bench.manifest import Benchmark, Row, Shot
from intarsia.evaluation.bench.metrics.lpips import lpips_map
from intarsia.evaluation.bench.metrics.outside import bytes_outside, only_outside, psnr_outside
from intarsia.evaluation.bench.metrics.seam import seam_score
from intarsia.evaluation.bench.picture_files import read_mask, read_rgb
from intarsia.evaluation.bench.subject_crops import Bools, Pixels, square_crop, subject_crop

Floats = npt.NDArray[np.float32]
SCORER_VERSION = 1
"""Of what is measured and how: what was measured by another version is measured again."""
_KEPT = 32
"""Scenes that are kept for the next method's picture in the same place."""
_DIGITS = 6
"""Kept of each value: what is left of the order in which a processor adds."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Of N pictures: ``values`` by metric, and features (N, D) of their crops and of the whole pictures."""

    values: Sequence[Mapping[str, float | None]]
    crop: Floats
    whole: Floats


class RowScorer:
    """Measures pictures against their rows. Scenes, texts and subjects' photos are embedded once."""

    def __init__(self, benchmark: Benchmark, encoders: EncoderSet) -> None:
        self.benchmark, self.encoders = benchmark, encoders
        self._lineup = _lineup_of(benchmark, encoders)
        self._rows = {row.id: row for row in benchmark.rows}
        self._read = lru_cache(maxsize=_KEPT)(self._read_scene)
        self._maps = lru_cache(maxsize=_KEPT)(self._source_maps)
        self._photos: dict[tuple[str, str, str], Floats] = {}
        self._texts: dict[str, Floats] = {}
        self._faults: dict[str, str | None] = {}

    def scene(self, row: Row) -> tuple[Pixels, Bools]:
        """(H, W, 3), and where it is to be repainted (H, W)."""
        return self._read(row.id)

    def fault(self, row: Row) -> str | None:
        """Why nothing of a row can be measured, whatever was painted: its scene, its mask or one of its subject's
        photos cannot be used. None where all can."""
        try:
            scene, mask = self.scene(row)
        except Exception as error:  # decoders raise almost anything on hostile bytes
            return f"scene or mask unreadable: {first_line(error)}"
        if mask.shape != scene.shape[:2] or not mask.any():
            return "mask empty or off its scene"
        if row.subject not in self._faults:
            self._faults[row.subject] = self._fault_of_photos(row.subject)
        return self._faults[row.subject]

    def score(self, rows: Sequence[Row], pictures: Sequence[Pixels]) -> Scored:
        """One picture a row, each of its scene's size (H, W, 3)."""
        masks = [self.scene(row)[1] for row in rows]
        values: list[dict[str, float | None]] = [{} for _ in rows]
        views = {"crop": [square_crop(p, m) for p, m in zip(pictures, masks, strict=True)], "whole": list(pictures)}
        features = {}
        for end, shown in views.items():
            for stem, encoder in self.encoders.similar.items():
                embedded = _unit(encoder.images(shown))
                for n, row in enumerate(rows):
                    photos = self._photos_of(stem, row.subject, end)
                    values[n][f"{stem}_{end}"] = float((photos @ embedded[n]).mean()) if len(photos) else None
                    if stem == "clip_i":
                        values[n][f"clip_t_{end}"] = float(self._text(row.prompt) @ embedded[n])
                        if (full := self._caption(row)) is not None:
                            values[n][f"caption_{end}"] = float(self._text(full) @ embedded[n])
            if self.encoders.features is not None:
                features[end] = self.encoders.features.images(shown)
        for n, row in enumerate(rows):
            values[n] |= self._of_pixels(row, pictures[n])
        for n, told in enumerate(self._judged(rows, pictures, masks)):
            values[n] |= told
        empty = np.zeros((len(rows), 0), np.float32)
        rounded = [{m: None if v is None else round(v, _DIGITS) for m, v in told.items()} for told in values]
        return Scored(rounded, features.get("crop", empty), features.get("whole", empty))

    def _of_pixels(self, row: Row, picture: Pixels) -> dict[str, float | None]:
        scene, mask = self.scene(row)
        changed = bytes_outside(picture, scene, mask)
        found: dict[str, float | None] = {
            "bytes_outside": float(changed),
            "psnr_outside": psnr_outside(picture, scene, mask),
            "seam": seam_score(picture, mask),
        }
        network = self.encoders.perceptual
        if network is not None:
            found["lpips_outside"] = None if mask.all() else 0.0
            if changed:
                other = network.maps(only_outside(picture, scene, mask))
                per_pixel = lpips_map(self._maps(row.id), other, network.weights, mask.shape)
                found["lpips_outside"] = float(per_pixel[0].cpu().numpy()[~mask].mean(dtype=np.float64))
        return found

    def _judged(
        self, rows: Sequence[Row], pictures: Sequence[Pixels], masks: Sequence[Bools]
    ) -> list[dict[str, float | None]]:
        """What only a rendered world can tell."""
        judges = self.encoders.judges
        if judges is None:
            return [{} for _ in rows]
        from intarsia.evaluation.cases import as_float
        from intarsia.evaluation.edits import is_right

        floats = [as_float(p) for p in pictures]
        named, portraits = judges.named(floats, masks), judges.portraits(floats, masks)
        told: list[dict[str, float | None]] = []
        for row, seen, portrait in zip(rows, named, portraits, strict=True):
            right = found = None
            if (
                row.truth is not None
                and row.task == "editing"
                and row.edit in seen
                and row.edit in row.truth.attributes
            ):
                right = float(is_right(row.edit, seen, row.truth.attributes))
            if row.truth is not None and self._lineup is not None:
                changes = row.truth.changes if row.task == "editing" else {}
                found = float(self._lineup.found(row.subject, changes, portrait))
            told.append({"attribute": right, "top1": found})
        return told

    def _read_scene(self, row_id: str) -> tuple[Pixels, Bools]:
        row, folder = self._rows[row_id], self.benchmark.folder
        return read_rgb(folder / row.scene), read_mask(folder / row.mask)

    def _source_maps(self, row_id: str) -> list[Any]:
        assert self.encoders.perceptual is not None
        return self.encoders.perceptual.maps(self._read(row_id)[0])

    def _caption(self, row: Row) -> str | None:
        """Every attribute of what the picture should show, where a rendered world knows it."""
        if self.encoders.judges is None or row.truth is None:
            return None
        from intarsia.tabletop import caption

        return caption(row.truth.attributes)

    def _text(self, prompt: str) -> Floats:
        if prompt not in self._texts:
            self._texts[prompt] = _unit(self.encoders.clip.texts([prompt]))[0]
        return self._texts[prompt]

    def _photos_of(self, stem: str, subject: str, end: str) -> Floats:
        """Unit embeddings (P, D) of the photos: cut out where crops are compared, whole where pictures are."""
        key = stem, subject, end
        if key not in self._photos:
            shown = [self._photo(shot, end) for shot in self.benchmark.subjects[subject].photos]
            encoder = self.encoders.similar[stem]
            self._photos[key] = _unit(encoder.images(shown)) if shown else np.zeros((0, 0), np.float32)
        return self._photos[key]

    def _photo(self, shot: Shot, end: str) -> Pixels:
        folder = self.benchmark.folder
        pixels = read_rgb(folder / shot.image)
        mask = None if shot.mask is None or end == "whole" else read_mask(folder / shot.mask)
        return subject_crop(pixels, mask, cut_out=self.encoders.cut_out)

    def _fault_of_photos(self, subject: str) -> str | None:
        for shot in self.benchmark.subjects[subject].photos:
            try:
                self._photo(shot, "crop")
            except Exception as error:
                return f"photo of the subject unusable: {shot.image}: {first_line(error)}"
        return None


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _lineup_of(benchmark: Benchmark, encoders: EncoderSet) -> Any:
    seeds, name = benchmark.settings.get("subject_seeds"), benchmark.settings.get("level")
    if encoders.judges is None or not seeds or not name:
        return None
    from intarsia.evaluation.bench.lineup import Lineup
    from intarsia.tabletop import level

    return Lineup(encoders.judges, seeds, level(name), benchmark.folder / "galleries")


def _unit(values: Floats) -> Floats:
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12), np.float32)
