"""A benchmark on disk: `manifest.jsonl`, one row a line, and `benchmark.json` about all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from intarsia.evaluation.bench.errors import BenchError
from intarsia.imaging import write_file_atomically

FORMAT = 1
MANIFEST, ABOUT = "manifest.jsonl", "benchmark.json"
Task = Literal["identity", "editing"]
SizeClass = Literal["small", "medium", "large", "huge"]
MaskShape = Literal["box", "silhouette"]
SIZE_CLASSES: Mapping[SizeClass, float] = {"small": 1 / 8, "medium": 1 / 4, "large": 1 / 2, "huge": 1.0}
"""Name -> the greatest share of the scene's longer side that the longer side of the mask's box has."""


@dataclass(frozen=True)
class Truth:
    """What only a rendered world knows: the scene with the subject (edited) in it, and what it then looks like."""

    present: str
    present_sha256: str
    attributes: Mapping[str, str]
    changes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One thing to paint. Paths are relative to the benchmark's folder; hashes are of the files' bytes.

    ``prompt``: without an identity token. ``edit``: what kind of change the words ask for, None for identity rows.
    """

    id: str
    task: Task
    scene: str
    scene_sha256: str
    mask: str
    mask_sha256: str
    subject: str
    class_noun: str
    prompt: str
    seed: int
    size: SizeClass
    shape: MaskShape
    edit: str | None = None
    truth: Truth | None = None

    def to_json(self) -> str:
        """One line, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @staticmethod
    def from_json(line: str) -> Row:
        """Raises ValueError, TypeError or KeyError for anything else than a row."""
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
        truth = values.pop("truth", None)
        row = Row(**values, truth=None if truth is None else Truth(**truth))
        for name, kind in (("task", Task), ("size", SizeClass), ("shape", MaskShape)):
            if getattr(row, name) not in get_args(kind):
                raise ValueError(f"{name} {getattr(row, name)!r} is none of {', '.join(get_args(kind))}")
        for name in ("id", "scene", "scene_sha256", "mask", "mask_sha256", "subject", "class_noun", "prompt"):
            if not isinstance(getattr(row, name), str):
                raise ValueError(f"{name} is no text")
        if not isinstance(row.seed, int) or row.seed < 0:
            raise ValueError(f"seed {row.seed!r} is no number of 0 or more")
        return row


@dataclass(frozen=True)
class Shot:
    """One photo of a subject, with the mask of the subject in it where there is one."""

    image: str
    image_sha256: str
    mask: str | None = None
    mask_sha256: str | None = None


@dataclass(frozen=True)
class BenchSubject:
    """``attributes``: what a rendered world knows of its looks."""

    class_noun: str
    photos: tuple[Shot, ...]
    attributes: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Fault:
    """A row, or a line, that is left out, and why."""

    row: str
    reason: str


@dataclass(frozen=True)
class Benchmark:
    """``rows`` are usable; those in ``faults`` are not and are counted in reports."""

    folder: Path
    name: str
    rows: tuple[Row, ...]
    subjects: Mapping[str, BenchSubject]
    settings: Mapping[str, Any]
    manifest_sha256: str
    faults: tuple[Fault, ...] = ()

    @staticmethod
    def open(folder: str | Path, *, check_files: bool = True) -> Benchmark:
        """Read a benchmark; rows that cannot be used are put among the faults. ``check_files``: also read every listed
        file and compare its hash.

        Raises:
            BenchError: no benchmark there, of another format, or not one usable row.
        """
        folder = Path(folder)
        about = _about(folder)
        try:
            text = (folder / MANIFEST).read_bytes()
        except OSError as error:
            reason = f"{folder / MANIFEST} cannot be read ({error.strerror})"
            raise BenchError(f"{reason}: build the benchmark again") from error
        subjects = _subjects(folder, about)
        rows, faults = _rows(text)
        if check_files:
            kept, more = _checked(folder, rows, subjects)
            rows, faults = kept, [*faults, *more]
        if not rows:
            first = f"; the first: {faults[0].row}: {faults[0].reason}" if faults else ""
            raise BenchError(f"{folder} has no usable row{first}; build the benchmark again")
        return Benchmark(
            folder,
            str(about["name"]),
            tuple(rows),
            subjects,
            about.get("settings", {}),
            hashlib.sha256(text).hexdigest(),
            tuple(faults),
        )

    def limited(self, count: int | None) -> Benchmark:
        """The first rows only."""
        rows = self.rows if count is None else self.rows[:count]
        return Benchmark(
            self.folder, self.name, rows, self.subjects, self.settings, self.manifest_sha256, self.faults
        )

    @property
    def left_out(self) -> dict[str, int]:
        """How many rows are left out, by reason."""
        counts: dict[str, int] = {}
        for fault in self.faults:
            kind = fault.reason.split(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
        return counts


def write_benchmark(
    folder: Path,
    name: str,
    rows: Sequence[Row],
    subjects: Mapping[str, BenchSubject],
    settings: Mapping[str, Any],
    left_out: Mapping[str, int] | None = None,
) -> None:
    """Write `manifest.jsonl`, then `benchmark.json`; the files that they list must be there already.

    Raises:
        BenchError: two rows with one id.
    """
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise BenchError(f"two rows are called {row.id!r}: ids must differ")
        seen.add(row.id)
    text = "".join(f"{row.to_json()}\n" for row in rows).encode()
    about = {
        "format": FORMAT,
        "name": name,
        "rows": len(rows),
        "manifest_sha256": hashlib.sha256(text).hexdigest(),
        "settings": dict(settings),
        "left_out": dict(left_out or {}),
        "subjects": {key: asdict(subject) for key, subject in subjects.items()},
    }
    write_file_atomically(folder / MANIFEST, text, overwrite=True)
    data = json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_file_atomically(folder / ABOUT, data.encode(), overwrite=True)


def file_sha256(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def size_class(share: float) -> SizeClass:
    """Of the longer side of a mask's box over the scene's longer side."""
    return next(name for name, most in SIZE_CLASSES.items() if share < most or name == "huge")


def _about(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise BenchError(f"there is no folder {folder}: build a benchmark with `intarsia bench build`")
    path = folder / ABOUT
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = about["format"]
    except OSError as error:
        raise BenchError(
            f"{folder} holds no benchmark ({ABOUT} is missing): name the folder that build wrote"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} is damaged ({error}): build the benchmark again") from error
    if version != FORMAT:
        raise BenchError(
            f"{folder} was made by another version (format {version!r}, this one reads {FORMAT}): build it again"
        )
    return about


def _subjects(folder: Path, about: Mapping[str, Any]) -> dict[str, BenchSubject]:
    try:
        return {
            key: BenchSubject(
                value["class_noun"], tuple(Shot(**photo) for photo in value["photos"]), value.get("attributes")
            )
            for key, value in about["subjects"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{folder / ABOUT} lists its subjects wrongly ({error}): build the benchmark again") from error


def _rows(text: bytes) -> tuple[list[Row], list[Fault]]:
    rows: dict[str, Row] = {}
    faults: list[Fault] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = Row.from_json(line.decode("utf-8"))
        except (ValueError, TypeError, KeyError) as error:
            faults.append(Fault(f"line {number}", f"broken line: {str(error).splitlines()[0]}"))
            continue
        if row.id in rows:
            faults.append(Fault(row.id, f"listed twice: again in line {number}"))
            continue
        rows[row.id] = row
    return list(rows.values()), faults


def _checked(
    folder: Path, rows: Iterable[Row], subjects: Mapping[str, BenchSubject]
) -> tuple[list[Row], list[Fault]]:
    known: dict[str, str | None] = {}

    def wrong(path: str, digest: str) -> str | None:
        """What is wrong with a listed file."""
        if path not in known:
            file = folder / path
            inside = file.resolve().is_relative_to(folder.resolve())
            known[path] = file_sha256(file) if inside and file.is_file() else None
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
    from PIL import Image

    try:
        with Image.open(folder / row.scene) as scene, Image.open(folder / row.mask) as mask:
            if mask.size != scene.size:
                return f"mask off the picture: {row.mask} has {mask.size}, its scene {scene.size}"
            if mask.convert("L").point(lambda value: 255 * (value > 127)).getbbox() is None:
                return f"mask empty: {row.mask}"
    except (OSError, ValueError) as error:
        return f"unreadable picture: {str(error).splitlines()[0]}"
    return None
