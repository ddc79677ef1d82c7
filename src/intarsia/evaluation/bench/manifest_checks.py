"""Checking what a benchmark lists: subjects, and the files of its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.rows import BenchSubject, Fault, Row, Shot, check_name


def file_sha256(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def subjects_of(folder: Path, about: Mapping[str, Any]) -> dict[str, BenchSubject]:
    """Of `benchmark.json`. Raises BenchError: not as they should be."""
    try:
        for key in about["subjects"]:
            check_name(key)
        found = {
            key: BenchSubject(
                value["class_noun"], tuple(Shot(**photo) for photo in value["photos"]), value.get("attributes")
            )
            for key, value in about["subjects"].items()
        }
        for subject in found.values():
            texts = [subject.class_noun, *(part for shot in subject.photos for part in asdict(shot).values())]
            if not all(isinstance(text, str) or text is None for text in texts):
                raise ValueError("a path or hash is no text")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BenchError(f"{folder} lists its subjects wrongly ({error}): build the benchmark again") from error
    return found


def checked(
    folder: Path, rows: Iterable[Row], subjects: Mapping[str, BenchSubject]
) -> tuple[list[Row], list[Fault]]:
    """The rows whose files are all there, unchanged and fitting, and what is wrong with the others."""
    known: dict[str, str | None] = {}

    def wrong(path: str, digest: str) -> str | None:
        """What is wrong with a listed file."""
        if path not in known:
            file = folder / path
            try:
                inside = file.resolve().is_relative_to(folder.resolve())
                known[path] = file_sha256(file) if inside and file.is_file() else None
            except (OSError, ValueError):
                known[path] = None
        if known[path] is None:
            return f"file missing: {path}"
        return None if known[path] == digest else f"file changed: {path}"

    kept: list[Row] = []
    faults: list[Fault] = []
    for row in rows:
        reason = wrong(row.scene, row.scene_sha256) or wrong(row.mask, row.mask_sha256)
        if reason is None and row.truth is not None:
            reason = wrong(row.truth.present, row.truth.present_sha256)
        if reason is None and row.subject not in subjects:
            reason = f"unknown subject: {row.subject}"
        if reason is None:
            for shot in subjects[row.subject].photos:
                reason = reason or wrong(shot.image, shot.image_sha256)
                if shot.mask is not None:
                    reason = reason or wrong(shot.mask, str(shot.mask_sha256))
        reason = reason or _mask_fault(folder, row)
        if reason is None:
            kept.append(row)
        else:
            faults.append(Fault(row.id, reason))
    return kept, faults


def _mask_fault(folder: Path, row: Row) -> str | None:
    from PIL import Image, ImageOps

    try:
        with Image.open(folder / row.scene) as stored, Image.open(folder / row.mask) as mask:
            scene = ImageOps.exif_transpose(stored)
            if mask.size != scene.size:
                return f"mask off the picture: {row.mask} has {mask.size}, its scene {scene.size}"
            if mask.convert("L").point(lambda value: 255 * (value > 127)).getbbox() is None:
                return f"mask empty: {row.mask}"
    except (OSError, ValueError) as error:
        return f"unreadable picture: {str(error).splitlines()[0]}"
    return None
