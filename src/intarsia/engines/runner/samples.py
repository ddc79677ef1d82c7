"""Reading what engines wrote: samples for training code, tables for looking at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from intarsia.engines.runner.output import SELECTION, Output, open_output
from intarsia.engines.runner.packing import DEAD, ROWS, TAR, pyarrow, read_table, unpack_tar
from intarsia.engines.runner.rows import REJECTED, Row


def iterate_samples(folder: str | Path, *, candidates: bool = False) -> Iterator[Row]:
    """The samples of all committed shards, in order: one dict each of scalars and bytes.

    Where thresholds have decided (``selection.parquet``), only the chosen ones; all of them with ``candidates``.
    Raises EngineError where there is no engine's output.
    """
    output, _ = open_output(folder)
    return _samples(output, None if candidates else chosen_keys(output))


def _samples(output: Output, chosen: set[str] | None) -> Iterator[Row]:
    for index in committed_shards(output):
        for key, row in unpack_tar(output.path(index, TAR).read_bytes()):
            if chosen is None or key in chosen:
                yield row


def read_rows(folder: str | Path) -> Any:
    """The rows of all committed shards as one pyarrow table: scalars and ``rejected`` (null: kept by the steps).

    A column that has different types in different shards becomes text.
    """
    return _read_all(folder, ROWS)


def read_dead_rows(folder: str | Path) -> Any:
    """The quarantined rows as one pyarrow table: key, step, error, message, row (JSON text)."""
    return _read_all(folder, DEAD)


def committed_shards(output: Output) -> list[int]:
    return [index for index in range(output.shards) if output.commit_of(index) is not None]


def chosen_keys(output: Output) -> set[str] | None:
    path = output.root / SELECTION
    if not path.is_file():
        return None
    table = read_table(path.read_bytes())
    return {row["key"] for row in table.to_pylist() if row[REJECTED] is None}


def _read_all(folder: str | Path, suffix: str) -> Any:
    arrow = pyarrow()
    output, _ = open_output(folder)
    tables = [read_table(output.path(index, suffix).read_bytes()) for index in committed_shards(output)]
    if not tables:
        return arrow.table({})
    types: dict[str, set[Any]] = {}
    for table in tables:
        for field in table.schema:
            types.setdefault(field.name, set()).add(field.type)
    unclear = [name for name, found in types.items() if not _alike(arrow, found)]
    for number, table in enumerate(tables):
        for name in unclear:
            if name in table.column_names:
                column = table[name].cast(arrow.string())
                table = table.set_column(table.column_names.index(name), name, column)
        tables[number] = table
    return arrow.concat_tables(tables, promote_options="permissive")


def _alike(arrow: Any, found: set[Any]) -> bool:
    real = found - {arrow.null()}
    return len(real) <= 1 or real == {arrow.int64(), arrow.float64()}
