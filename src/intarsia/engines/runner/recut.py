"""Cutting thresholds again on a finished run, without running any model."""

from __future__ import annotations

import hashlib
import os
import shutil
from itertools import islice
from pathlib import Path

from intarsia.engines.errors import EngineError
from intarsia.engines.runner.funnel import Funnel
from intarsia.engines.runner.output import (
    ENGINE,
    FUNNEL,
    FUNNEL_TEXT,
    MANIFEST,
    SELECTION,
    SHARDS,
    THRESHOLDS,
    Output,
    open_output,
)
from intarsia.engines.runner.packing import json_bytes, pack
from intarsia.engines.runner.process import Lines
from intarsia.engines.runner.rows import REJECTED, Step, StepFunction
from intarsia.engines.runner.samples import iterate_samples
from intarsia.engines.runner.thresholds import (
    Thresholds,
    check_thresholds,
    select,
    selection_bytes,
    thresholds_json,
    with_thresholds,
)
from intarsia.errors import DiskFullError, OutputExistsError


def _keep() -> StepFunction:
    return lambda row: [row]


_RECUT = Step("recut", _keep)  # its name stands in the counts of a dense shard


def recut(
    folder: str | Path,
    thresholds: Thresholds,
    output: str | Path,
    *,
    repack: int | None = None,
    overwrite: bool = False,
) -> Funnel:
    """Decide by ``thresholds`` which rows of the finished run in ``folder`` are chosen, and write to a new folder
    ``selection.parquet`` (one line per row: shard, key, why it is out), ``thresholds.json`` and the funnel.

    With ``repack`` the chosen samples are also copied into shards of that many samples, laid out like a run's, for
    `iterate_samples` and `verify_output`. The folder appears whole or not at all. Rows without a score, and rows that
    fell in the run, stay out and are counted as such.

    Raises EngineError (ThresholdError; a run that is not finished), OutputExistsError, DiskFullError, OutputError.
    """
    bounds = check_thresholds(thresholds)
    if repack is not None and repack < 1:
        raise EngineError(f"repack must be at least 1 sample in a shard, got {repack}")
    run, identity = open_output(folder)
    target = _free(Path(os.path.abspath(output)), run.root, overwrite)
    columns, count = select(run, identity["key"], bounds)
    if not (run.root / MANIFEST).is_file():
        raise EngineError(f"the run in {run.root} is not finished; run the engine to its end")
    funnel = with_thresholds(run.funnel(identity["steps"]), count)
    selection = selection_bytes(columns)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / SHARDS).mkdir(parents=True)
        made = Output(part, 0)
        made.write(THRESHOLDS, json_bytes(thresholds_json(bounds)))
        made.write(SELECTION, selection)
        made.write(FUNNEL, json_bytes({"engine": identity["engine"], **funnel.to_json()}))
        made.write(FUNNEL_TEXT, funnel.to_markdown(f"Funnel of {identity['engine']}, cut again").encode())
        if repack is None:
            (part / SHARDS).rmdir()
        else:
            chosen = {key for key, out in zip(columns["key"], columns[REJECTED], strict=True) if out is None}
            _repack(run, made, chosen, repack, identity["key"])
            described = {
                **identity,
                "steps": [_RECUT.name],
                "settings": {"cut_from": identity, "thresholds": thresholds_json(bounds)},
                "shard_size": repack,
                "source": {"rows": len(chosen), "sha256": hashlib.sha256(selection).hexdigest()},
            }
            made.write(ENGINE, json_bytes(described))
            made.write(MANIFEST, json_bytes(made.manifest()))
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    except DiskFullError as error:
        raise DiskFullError(f"no space left while writing {target}; nothing of it is kept: free some space") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return funnel


def _free(target: Path, run: Path, overwrite: bool) -> Path:
    if target.resolve() == run.resolve():
        raise OutputExistsError(f"{target} is the run itself; choose another folder for what is cut from it")
    if target.is_dir() and not any(target.iterdir()):
        return target
    if target.exists() and not ((target / SELECTION).is_file() and (target / THRESHOLDS).is_file()):
        raise OutputExistsError(f"{target} exists and was not made by cutting again; choose another folder")
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{target} exists already; choose another folder or ask to overwrite it")
    return target


def _repack(run: Output, made: Output, chosen: set[str], size: int, key: str) -> None:
    samples = (row for row in iterate_samples(run.root, candidates=True) if row[key] in chosen)
    while batch := list(islice(samples, size)):
        lines = Lines.of(batch, [_RECUT])
        lines.funnel.step(_RECUT.name).entered = len(batch)
        made.commit(pack(made.shards, lines, key))
        made.shards += 1
