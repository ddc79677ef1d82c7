"""Pairs as Parquet files with the columns of the published PIPE data set."""

from __future__ import annotations

import json
import os
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

from intarsia.engines.errors import EngineError
from intarsia.engines.pairs.engine import NAME
from intarsia.engines.runner.output import SELECTION, open_output
from intarsia.engines.runner.packing import pyarrow, read_table
from intarsia.engines.runner.samples import iterate_samples, read_rows
from intarsia.errors import DiskFullError, OutputError
from intarsia.imaging import write_file_atomically

PIPE_COLUMNS = (
    "Instruction_VLM-LLM",
    "Instruction_Class",
    "Instruction_Ref_Dataset",
    "object_location",
    "target_img_dataset",
    "img_id",
    "ann_id",
)
_IMAGES = {"source_img": ("source_img.png", "source_img.jpg"), "target_img": ("target_img.png", "target_img.jpg")}
_INTERNAL = ("key", "rejected")


def write_parquet(
    run: str | Path, output: str | Path, *, cut: str | Path | None = None, rows_per_file: int = 1000
) -> list[Path]:
    """The kept pairs of a run as ``train-00000-of-00002.parquet`` …: PIPE's nine columns under their names, pictures as
    {bytes, path} as the `datasets` package reads them, and ``mask``, ``class``, ``box`` and all scores beside them.

    All files have one schema, so that they can be read as one table: a score's type is that of the whole run, and a
    column without any value is text. The folder appears whole or not at all.

    Returns the files. Raises EngineError: no finished run of this engine, a folder with files in it; OutputError.
    """
    arrow = pyarrow()
    if rows_per_file < 1:
        raise EngineError(f"{rows_per_file} rows in a file: use at least 1")
    _, identity = open_output(run)
    path = Path(run if cut is None else cut) / SELECTION
    if identity["engine"] != NAME or not path.is_file():
        raise EngineError(f"{run} holds no finished run of pairs; run the engine to its end")
    folder = Path(os.path.abspath(output))
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise EngineError(f"{output} is there already and not empty; choose another folder")
    chosen = [line["key"] for line in read_table(path.read_bytes()).to_pylist() if line["rejected"] is None]
    if not chosen:
        raise EngineError(f"no pair of {run} is kept; cut it again with other thresholds")
    kept = set(chosen)
    samples = (row for row in iterate_samples(run, candidates=True) if row["key"] in kept)
    files = -(-len(kept) // rows_per_file)
    names = [f"train-{number:05d}-of-{files:05d}.parquet" for number in range(files)]
    part = folder.with_name(f".{folder.name}.part")
    types = _types(arrow, run, kept)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        for name in names:
            table = _table(arrow, list(islice(samples, rows_per_file)), types)
            sink = arrow.BufferOutputStream()
            arrow.parquet.write_table(table, sink, compression="zstd", row_group_size=100)
            write_file_atomically(part / name, sink.getvalue().to_pybytes())
        if folder.is_dir():
            folder.rmdir()
        part.rename(folder)
    except DiskFullError as error:
        raise DiskFullError(f"no space left while writing {output}; nothing of it is kept: free some space") from error
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}; choose another folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [Path(output) / name for name in names]


def _types(arrow: Any, run: str | Path, kept: set[str]) -> dict[str, Any]:
    """Name -> type of the scalars beside PIPE's columns, over the whole run; what only rejected rows have is none."""
    table = read_rows(run)
    table = table.filter(arrow.array([key in kept for key in table["key"].to_pylist()]))
    first = next(row for row in iterate_samples(run, candidates=True) if row["key"] in kept)
    always = {name for name, value in first.items() if not isinstance(value, bytes)}
    return {
        field.name: arrow.string() if field.type == arrow.null() else field.type
        for field in sorted(table.schema, key=lambda field: field.name)
        if field.name not in (*PIPE_COLUMNS, *_INTERNAL)
        and (field.name in always or table[field.name].null_count < table.num_rows)
    }


def _table(arrow: Any, rows: list[dict[str, Any]], types: dict[str, Any]) -> Any:
    picture = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns: dict[str, Any] = {
        name: arrow.array([_picture(row, members) for row in rows], picture) for name, members in _IMAGES.items()
    }
    columns |= {name: arrow.array([str(row[name]) for row in rows], arrow.string()) for name in PIPE_COLUMNS}
    columns["sample_id"] = arrow.array([row["key"] for row in rows], arrow.string())
    columns["mask"] = arrow.array([_picture(row, ("mask.png",)) for row in rows], picture)
    columns |= {name: _scalars(arrow, [row.get(name) for row in rows], kind) for name, kind in types.items()}
    return arrow.table(columns)


def _picture(row: dict[str, Any], members: tuple[str, ...]) -> dict[str, Any]:
    name = next(name for name in members if name in row)
    return {"bytes": row[name], "path": f"{row['key'].replace('/', '-')}.{name}"}


def _scalars(arrow: Any, values: list[Any], kind: Any) -> Any:
    if kind == arrow.string():
        values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return arrow.array(values, kind)
