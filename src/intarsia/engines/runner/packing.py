"""A finished shard as bytes: a WebDataset tar, a Parquet table of all rows and one of the dead. Equal rows give equal
bytes: no time, owner, machine or order of work enters."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from intarsia.engines.errors import MissingExtraError
from intarsia.engines.runner.funnel import Funnel
from intarsia.engines.runner.process import Dead, Lines
from intarsia.engines.runner.rows import REJECTED, Row, scalars

TAR, ROWS, DEAD = ".tar", ".parquet", ".dead.parquet"
SUFFIXES = (TAR, ROWS, DEAD)
DEAD_COLUMNS = tuple(column.name for column in fields(Dead))
INSTALL = "install it with: pip install 'intarsia[engine]'"


@dataclass(frozen=True)
class PackedShard:
    """A shard's files by suffix, and its counts; ``seconds`` spent in each step and the batches of it that were
    ``repeated`` go into no file."""

    index: int
    files: dict[str, bytes]
    funnel: Funnel
    seconds: Counter[str]
    repeated: Counter[str] = field(default_factory=Counter)

    def commit(self) -> bytes:
        return commit_bytes(self.index, self.files, self.funnel)


def commit_bytes(index: int, files: dict[str, bytes], funnel: Funnel) -> bytes:
    """The shard's commit file: the size and hash of each of its files, and its counts."""
    name = shard_name(index)
    described = {
        name + suffix: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for suffix, data in sorted(files.items())
    }
    content = {"shard": name, "files": described, "funnel": funnel.to_json()}
    return json_bytes(content)


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def shard_name(index: int) -> str:
    return f"{index:05d}"


def pack(index: int, lines: Lines, key: str) -> PackedShard:
    rows = [line for line in lines.rows if not isinstance(line, Dead)]
    dead = [line for line in lines.rows if isinstance(line, Dead)]
    files = {
        TAR: pack_tar([row for row in rows if row.get(REJECTED) is None], key),
        ROWS: pack_table(_columns(rows, key), text=(key, REJECTED)),
        DEAD: pack_table({name: [getattr(line, name) for line in dead] for name in DEAD_COLUMNS}, text=DEAD_COLUMNS),
    }
    return PackedShard(index, files, lines.funnel, lines.seconds, lines.repeated)


def pack_tar(rows: Sequence[Row], key: str) -> bytes:
    """Members KEY.NAME for each value of bytes and KEY.json for the scalars, sorted within a sample."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for row in rows:
            members = {name: value for name, value in row.items() if isinstance(value, bytes)}
            text = json.dumps(scalars(row), sort_keys=True, ensure_ascii=False, allow_nan=False)
            members["json"] = text.encode()
            for name, value in sorted(members.items()):
                info = tarfile.TarInfo(f"{row[key]}.{name}")
                info.size, info.mode, info.mtime = len(value), 0o644, 0
                tar.addfile(info, io.BytesIO(value))
    return out.getvalue()


def unpack_tar(data: bytes) -> Iterator[tuple[str, Row]]:
    """(key, row) of each sample of a tar made by `pack_tar`."""
    row: Row = {}
    current: str | None = None
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            folder, _, base = info.name.rpartition("/")
            stem, _, name = base.partition(".")
            sample = f"{folder}/{stem}" if folder else stem
            if current is not None and sample != current:
                yield current, row
                row = {}
            current = sample
            file = tar.extractfile(info)
            value = file.read() if file is not None else b""
            row.update(json.loads(value) if name == "json" else {name: value})
    if current is not None:
        yield current, row


def pyarrow() -> Any:
    """The package, with its Parquet part. Raises MissingExtraError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(f"the tables of an engine need pyarrow, which is not installed; {INSTALL}") from error
    return pyarrow


def pack_table(columns: dict[str, list[Any]], text: Sequence[str] = ()) -> bytes:
    """Parquet bytes; each column's type follows from its values, except that those in ``text`` are strings."""
    arrow = pyarrow()
    arrays = {name: _array(values, name in text) for name, values in columns.items()}
    sink = arrow.BufferOutputStream()
    arrow.parquet.write_table(arrow.table(arrays), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def read_table(data: bytes, columns: Sequence[str] | None = None) -> Any:
    """The table, or those of the named columns that it has."""
    arrow = pyarrow()
    file = arrow.parquet.ParquetFile(arrow.BufferReader(data))
    wanted = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
    return file.read(columns=wanted)


def column_names(data: bytes) -> list[str]:
    arrow = pyarrow()
    return list(arrow.parquet.read_schema(arrow.BufferReader(data)).names)


def _columns(rows: Sequence[Row], key: str) -> dict[str, list[Any]]:
    plain = [scalars(row) for row in rows]
    others = sorted({name for row in plain for name in row} - {key, REJECTED})
    return {name: [row.get(name) for row in plain] for name in (key, REJECTED, *others)}


def _array(values: list[Any], text: bool) -> Any:
    arrow = pyarrow()
    kinds = {type(value) for value in values} - {type(None)}
    if text or kinds == {str}:
        return arrow.array(values, arrow.string())
    if not kinds:
        return arrow.array(values, arrow.null())
    if kinds == {bool}:
        return arrow.array(values, arrow.bool_())
    if kinds == {int}:
        return arrow.array(values, arrow.int64())
    if kinds <= {int, float}:
        return arrow.array([None if value is None else float(value) for value in values], arrow.float64())
    mixed = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return arrow.array(mixed, arrow.string())
