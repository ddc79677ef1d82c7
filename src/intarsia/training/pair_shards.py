"""Files that hold training pairs: an engine's WebDataset tars, or Parquet tables of PIPE's columns."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from intarsia.training.pair_rows import COLUMNS, PairError

_HELD_OUT = re.compile(r"(?:test|val|validation)(?:[-_.\d]|$)", re.I)
_SUFFIXES = ("png", "jpg", "jpeg", "webp")


class Unit(Protocol):
    """Some rows that are read together. ``mark``: what another unit's would hardly be the same as."""

    @property
    def mark(self) -> str: ...

    def __len__(self) -> int: ...

    def row(self, index: int) -> tuple[str, dict[str, Any]]:
        """(key, values by column) of a row."""
        ...


@dataclass(frozen=True)
class TarUnit:
    """A tar: where each sample's members lie, read once; the rows are read as they are asked for."""

    path: Path
    samples: tuple[tuple[str, tuple[tuple[str, int, int], ...]], ...]

    @property
    def mark(self) -> str:
        return f"{self.path.name} {self.samples}"

    def __len__(self) -> int:
        return len(self.samples)

    def row(self, index: int) -> tuple[str, dict[str, Any]]:
        key, members = self.samples[index]
        values: dict[str, Any] = {}
        with self.path.open("rb") as file:
            for name, offset, size in members:
                file.seek(offset)
                data = file.read(size)
                values.update(json.loads(data) if name == "json" else {_column(name): data})
        return key, values


@dataclass(frozen=True)
class TableUnit:
    """One row group of a Parquet file."""

    path: Path
    group: int
    rows: int
    columns: tuple[str, ...] = field(default=COLUMNS)

    @property
    def mark(self) -> str:
        return f"{self.path.name} {self.group} {self.rows} {self.path.stat().st_size}"

    def __len__(self) -> int:
        return self.rows

    def row(self, index: int) -> tuple[str, dict[str, Any]]:
        values = _group(self.path, self.group, self.columns)
        return f"{self.path.stem}-{self.group}-{index}", {name: column[index] for name, column in values.items()}


def find_units(folder: str | Path) -> list[Unit]:
    """The rows of a folder, in a fixed order: of an engine's finished output what its thresholds have chosen; else
    of all tars in it or, if there are none, of all Parquet files. Files named as held out ("test…", "val…") are
    left out.

    Raises:
        PairError: no folder, none of these in it, a run that is not finished, or a file that cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise PairError(f"there is no folder {root}: give the output of the pairs engine, or PIPE's Parquet files")
    if (root / "engine.json").is_file():
        if not (root / "manifest.json").is_file():
            raise PairError(f"the run in {root} is not finished: start its engine there once more")
        tars = sorted((root / "shards").glob("*.tar"))
        chosen = _chosen(root / "selection.parquet")
    else:
        tars, chosen = _files(root, "*.tar"), None
    units: list[Unit] = [_tar(path, chosen) for path in tars]
    if not tars:
        units = [unit for path in _files(root, "*.parquet") for unit in _tables(path)]
    units = [unit for unit in units if len(unit)]
    if not units:
        raise PairError(f"{root} holds no training pairs: give the output of the pairs engine, or PIPE's Parquet files")
    return units


def digest_of(units: Iterable[Unit]) -> str:
    """A hash of the names, keys and sizes of what the units hold, so that other pairs are told apart unread."""
    digest = hashlib.sha256()
    for unit in units:
        digest.update(unit.mark.encode() + b"\n")
    return digest.hexdigest()[:16]


def _files(root: Path, pattern: str) -> list[Path]:
    return [path for path in sorted(root.rglob(pattern)) if not _HELD_OUT.match(path.name)]


def _column(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return stem if stem and suffix.lower() in _SUFFIXES else name


def _tar(path: Path, chosen: set[str] | None) -> TarUnit:
    samples: dict[str, list[tuple[str, int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                folder, _, base = info.name.rpartition("/")
                stem, _, name = base.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                wanted = name == "json" or _column(name) in COLUMNS
                if info.isfile() and wanted and (chosen is None or key in chosen):
                    samples.setdefault(key, []).append((name, info.offset_data, info.size))
    except (OSError, tarfile.TarError) as error:
        raise PairError(f"{path} is not a tar of samples: make the shard again or leave it out") from error
    return TarUnit(path, tuple((key, tuple(members)) for key, members in samples.items()))


def _tables(path: Path) -> Iterator[TableUnit]:
    file = _parquet(path)
    names = set(file.schema_arrow.names)
    columns = tuple(name for name in COLUMNS if name in names)
    for group in range(file.num_row_groups):
        yield TableUnit(path, group, file.metadata.row_group(group).num_rows, columns)


@lru_cache(maxsize=4)
def _group(path: Path, group: int, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = _parquet(path).read_row_group(group, columns=list(columns)).to_pydict()
    return values


def _chosen(path: Path) -> set[str] | None:
    if not path.is_file():
        return None
    return {row["key"] for row in _parquet(path).read().to_pylist() if row["rejected"] is None}


def _parquet(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise PairError(
            f"{path} needs pyarrow, which is not installed; install it with: pip install 'intarsia[engine]'"
        ) from error
    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise PairError(f"{path} is not a Parquet file: copy it again or leave it out") from error
