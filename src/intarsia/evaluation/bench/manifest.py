"""A benchmark on disk: `manifest.jsonl`, one row a line, and `benchmark.json` about all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest_checks import checked, file_sha256, subjects_of
from intarsia.evaluation.bench.rows import (
    SIZE_CLASSES,
    BenchSubject,
    Fault,
    MaskShape,
    Row,
    Shot,
    SizeClass,
    Task,
    Truth,
    size_class,
)
from intarsia.imaging import write_file_atomically

__all__ = [
    "ABOUT",
    "FORMAT",
    "MANIFEST",
    "SIZE_CLASSES",
    "BenchSubject",
    "Benchmark",
    "Fault",
    "MaskShape",
    "Row",
    "Shot",
    "SizeClass",
    "Task",
    "Truth",
    "file_sha256",
    "size_class",
    "write_benchmark",
]

FORMAT = 1
MANIFEST, ABOUT = "manifest.jsonl", "benchmark.json"
@dataclass(frozen=True)
class Benchmark:
    """``rows`` are usable; those in ``faults`` are not and are counted in reports."""

    folder: Path
    name: str
    rows: tuple[Row, ...]
    subjects: Mapping[str, BenchSubject]
    settings: Mapping[str, Any]
    manifest_sha256: str
    """As it was built."""
    subjects_sha256: str = ""
    faults: tuple[Fault, ...] = ()
    built_without: Mapping[str, Any] = field(default_factory=dict)
    """What its build left out: ``left_out`` (reason -> how many) and ``left_out_names`` (reason -> the first)."""

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
        subjects = subjects_of(folder, about)
        rows, faults = _rows(text)
        if hashlib.sha256(text).hexdigest() != about["manifest_sha256"]:
            faults.append(Fault(MANIFEST, f"manifest changed: {len(rows)} readable rows, {about['rows']} were built"))
        if check_files:
            kept, more = checked(folder, rows, subjects)
            rows, faults = kept, [*faults, *more]
        if not rows:
            first = f"; the first: {faults[0].row}: {faults[0].reason}" if faults else ""
            raise BenchError(f"{folder} has no usable row{first}; build the benchmark again")
        return Benchmark(
            folder,
            str(about["name"]),
            tuple(rows),
            subjects,
            about["settings"],
            about["manifest_sha256"],
            hashlib.sha256(json.dumps(about["subjects"], sort_keys=True).encode()).hexdigest(),
            tuple(faults),
            {name: about[name] for name in ("left_out", "left_out_names") if isinstance(about.get(name), dict)},
        )

    def limited(self, count: int | None) -> Benchmark:
        """The first rows only. Raises BenchError: none."""
        if count is not None and count < 1:
            raise BenchError(f"{count} rows leave nothing: give 1 or more")
        rows = self.rows if count is None else self.rows[:count]
        return replace(self, rows=rows)

    def thinned(self, subjects: int, rows: int) -> Benchmark:
        """The first ``rows`` rows of each of the first ``subjects`` subjects."""
        kept: dict[str, list[Row]] = {}
        for row in self.rows:
            group = kept.setdefault(row.subject, []) if row.subject in kept or len(kept) < subjects else None
            if group is not None and len(group) < rows:
                group.append(row)
        return replace(self, rows=tuple(row for group in kept.values() for row in group))

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
    kinds = {"name": str, "rows": int, "manifest_sha256": str, "settings": dict, "subjects": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(about.get(name), kind)]
    if wrong:
        raise BenchError(f"{path} is damaged ({', '.join(wrong)} missing or wrong): build the benchmark again")
    return about


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
