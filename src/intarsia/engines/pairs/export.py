"""Pairs as Parquet files with the columns of the published PIPE data set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from intarsia.engines.errors import EngineError
from intarsia.engines.pairs.engine import NAME
from intarsia.engines.runner.output import SELECTION, open_output
from intarsia.engines.runner.packing import pyarrow, read_table
from intarsia.engines.runner.samples import iterate_samples
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

    Returns the files. Raises EngineError: no finished run of this engine, a folder with such files; OutputError.
    """
    arrow = pyarrow()
    if rows_per_file < 1:
        raise EngineError(f"{rows_per_file} rows in a file: use at least 1")
    _, identity = open_output(run)
    path = Path(run if cut is None else cut) / SELECTION
    if identity["engine"] != NAME or not path.is_file():
        raise EngineError(f"{run} holds no finished run of pairs; run the engine to its end")
    folder = Path(output)
    if folder.is_dir() and any(folder.glob("*.parquet")):
        raise EngineError(f"{folder} holds Parquet files already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [line["key"] for line in read_table(path.read_bytes()).to_pylist() if line["rejected"] is None]
    if not chosen:
        raise EngineError(f"no pair of {run} is kept; cut it again with other thresholds")
    kept, written = set(chosen), []
    samples = (row for row in iterate_samples(run, candidates=True) if row["key"] in kept)
    files = -(-len(kept) // rows_per_file)
    for number in range(files):
        table = _table(arrow, list(islice(samples, rows_per_file)))
        sink = arrow.BufferOutputStream()
        arrow.parquet.write_table(table, sink, compression="zstd", row_group_size=100)
        target = folder / f"train-{number:05d}-of-{files:05d}.parquet"
        write_file_atomically(target, sink.getvalue().to_pybytes(), overwrite=False)
        written.append(target)
    return written


def _table(arrow: Any, rows: list[dict[str, Any]]) -> Any:
    picture = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns: dict[str, Any] = {
        name: arrow.array([_picture(row, members) for row in rows], picture) for name, members in _IMAGES.items()
    }
    columns |= {name: arrow.array([str(row[name]) for row in rows], arrow.string()) for name in PIPE_COLUMNS}
    columns["sample_id"] = arrow.array([row["key"] for row in rows], arrow.string())
    columns["mask"] = arrow.array([_picture(row, ("mask.png",)) for row in rows], picture)
    others = sorted({name for row in rows for name in _others(row)})
    columns |= {name: arrow.array([row.get(name) for row in rows]) for name in others}
    return arrow.table(columns)


def _picture(row: dict[str, Any], members: tuple[str, ...]) -> dict[str, Any]:
    name = next(name for name in members if name in row)
    return {"bytes": row[name], "path": f"{row['key'].replace('/', '-')}.{name}"}


def _others(row: dict[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        if not isinstance(value, bytes) and name not in (*PIPE_COLUMNS, *_INTERNAL):
            yield name
