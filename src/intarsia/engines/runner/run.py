"""`run_engine`: a source through steps into an output folder, from where it was stopped."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from intarsia.engines.errors import EngineError
from intarsia.engines.runner.funnel import Funnel
from intarsia.engines.runner.local import run_here, run_workers
from intarsia.engines.runner.output import (
    FUNNEL,
    FUNNEL_TEXT,
    MANIFEST,
    SELECTION,
    THRESHOLDS,
    Output,
    locked,
)
from intarsia.engines.runner.packing import PackedShard, json_bytes, pyarrow
from intarsia.engines.runner.ray_data import ray_packages, run_ray, stages_of
from intarsia.engines.runner.rows import JSON, Row, Step, check_source, check_steps, hash_source
from intarsia.engines.runner.thresholds import (
    Thresholds,
    check_thresholds,
    select,
    selection_bytes,
    thresholds_json,
    with_thresholds,
)
from intarsia.errors import OutputError

FORMAT = 1


@dataclass(frozen=True)
class Progress:
    """Told after each shard; the counts include shards of earlier calls, ``kept`` is before any thresholds."""

    shards_done: int
    shards: int
    source_rows_done: int
    source_rows: int
    kept: int
    rejected: int
    quarantined: int


@dataclass(frozen=True)
class StepRate:
    """How fast one worker is in a step: ``rows`` came into it, ``seconds`` passed inside it; ``repeated`` batches of it
    were done again row by row."""

    name: str
    rows: int
    seconds: float
    repeated: int = 0

    @property
    def rows_per_second(self) -> float:
        """0 where nothing came into the step."""
        return self.rows / self.seconds if self.rows and self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """All fields but the name, and the rate."""
        return {
            "rows": self.rows,
            "seconds": self.seconds,
            "rows_per_second": self.rows_per_second,
            "batches_repeated": self.repeated,
        }


@dataclass(frozen=True)
class EngineReport:
    """What a finished run amounts to. ``shards_resumed`` were committed before this call. ``seconds`` is the time of
    this call; ``step_seconds`` the time spent inside each step's function, summed over workers; ``step_rows`` how many
    rows came into each; ``batches_repeated`` how many of its batches failed and were done again row by row.
    ``workers``: processes that worked side by side (of Ray: actors, over all stages)."""

    output: Path
    funnel: Funnel
    shards: int
    shards_resumed: int
    seconds: float
    step_seconds: Mapping[str, float]
    step_rows: Mapping[str, int] = field(default_factory=dict)
    batches_repeated: Mapping[str, int] = field(default_factory=dict)
    workers: int = 1

    @property
    def rates(self) -> tuple[StepRate, ...]:
        """The throughput of each step in this call, in their order."""
        return tuple(
            StepRate(name, rows, self.step_seconds.get(name, 0.0), self.batches_repeated.get(name, 0))
            for name, rows in self.step_rows.items()
        )

    def rates_table(self) -> str:
        """The throughput as lines to print; steps that saw no row in this call have none."""
        lines = [f"{'step':<16} {'rows in':>8} {'seconds':>9} {'rows/s of a worker':>18}"]
        for rate in self.rates:
            pace = f"{rate.rows_per_second:.3g}" if rate.rows_per_second else "-"
            again = f"  ({rate.repeated} batches repeated row by row)" if rate.repeated else ""
            lines.append(f"{rate.name:<16} {rate.rows:>8} {rate.seconds:>9.3g} {pace:>18}{again}")
        return "\n".join(lines)

    @property
    def overhead(self) -> float | None:
        """``(seconds · workers - Σ step_seconds) / Σ step_seconds`` of this call; None where no step ran.

        Above the line: worker time that passed outside the steps - starting workers, loading models (building the
        steps), packing, hashing and writing shards, thresholds, waiting for the last worker. Below it: the time inside
        the steps, of which models are one part; reading photos, encoding pictures and checking rows are the others. So
        this is no share of the models' time alone. Listing the source comes before the call and is in neither.
        """
        inside = sum(self.step_seconds.values())
        return (self.seconds * self.workers - inside) / inside if inside > 0 else None

    @property
    def source_rows(self) -> int:
        return self.funnel.source_rows

    @property
    def kept(self) -> int:
        return self.funnel.kept

    @property
    def rejected(self) -> int:
        return self.funnel.rejected

    @property
    def quarantined(self) -> int:
        return self.funnel.quarantined


def run_engine(
    *,
    name: str,
    version: str,
    source: Sequence[Row],
    steps: Sequence[Step],
    output: str | Path,
    settings: Mapping[str, JSON],
    runner: Literal["local", "ray"] = "local",
    workers: int = 1,
    shard_size: int = 64,
    progress: Callable[[Progress], None] | None = None,
    key: str = "key",
    thresholds: Thresholds | None = None,
    overwrite: bool = False,
    verify: bool = False,
) -> EngineReport:
    """Take every row of ``source`` through ``steps`` and write shards of ``shard_size`` source rows to ``output``.

    ``settings`` is all that decides the outcome beside the rows: other settings in the same folder are refused.
    Runner, workers, time and machine leave no trace in the files. A folder with committed shards is gone on with;
    ``verify`` hashes them first and makes damaged ones again; ``overwrite`` starts anew. ``thresholds`` decide
    afterwards which rows are chosen (``selection.parquet``): changing them runs no step again.

    Raises EngineError (EngineChangedError, EngineBusyError, MissingExtraError, ThresholdError), OutputError,
    DiskFullError, HelperAwayError; the same call goes on once the cause is gone.
    """
    began = time.perf_counter()
    run = checked_run(name, version, source, steps, output, settings, runner, workers, shard_size, key, thresholds)
    folder, names = run.folder, [step.name for step in run.steps]
    with locked(folder.root):
        try:
            committed = folder.open(run.identity, overwrite=overwrite, verify=verify)
        except OSError as error:
            raise OutputError(
                f"cannot use {folder.root} as output folder: {error}; check it, or choose another"
            ) from error
        pending = run.pending(committed)
        total, called, seconds, repeated = Funnel.empty(names), Funnel.empty(names), Counter[str](), Counter[str]()
        for funnel in committed.values():
            total.add(funnel)
        for done, shard in enumerate(_shards(runner, run.steps, pending, workers, key), start=len(committed) + 1):
            folder.commit(shard)
            called.add(shard.funnel)
            total.add(shard.funnel)
            seconds.update(shard.seconds)
            repeated.update(shard.repeated)
            if progress is not None:
                progress(
                    Progress(
                        done,
                        folder.shards,
                        total.source_rows,
                        len(run.rows),
                        total.kept,
                        total.rejected,
                        total.quarantined,
                    )
                )
        total = _finish(folder, name, key, total, run.thresholds)
    return EngineReport(
        folder.root,
        total,
        folder.shards,
        len(committed),
        time.perf_counter() - began,
        dict(seconds),
        {step.name: step.entered for step in called.steps},
        dict(repeated),
        max(1, min(workers, len(pending))) * (len(stages_of(run.steps)) if runner == "ray" else 1),
    )


@dataclass(frozen=True)
class CheckedRun:
    """The arguments of a run, found good, with what they say together."""

    steps: tuple[Step, ...]
    rows: list[Row]
    identity: dict[str, Any]
    folder: Output
    shard_size: int
    thresholds: Thresholds | None

    def pending(self, committed: Collection[int]) -> dict[int, list[Row]]:
        """The source rows of the shards that are still to be made."""
        return {
            index: self.rows[index * self.shard_size : (index + 1) * self.shard_size]
            for index in range(self.folder.shards)
            if index not in committed
        }


def checked_run(
    name: str,
    version: str,
    source: Sequence[Row],
    steps: Sequence[Step],
    output: str | Path,
    settings: Mapping[str, JSON],
    runner: str,
    workers: int,
    shard_size: int,
    key: str,
    thresholds: Thresholds | None,
) -> CheckedRun:
    """Check all that `run_engine` is given, without touching the output folder. Raises EngineError."""
    chain, rows = check_steps(steps), check_source(source, key)
    bounds = None if thresholds is None else check_thresholds(thresholds)
    if workers < 1 or shard_size < 1:
        raise EngineError(f"workers and shard_size must be at least 1, got {workers} and {shard_size}")
    if runner not in ("local", "ray"):
        raise EngineError(f"the runner must be 'local' or 'ray', got {runner!r}")
    pyarrow()
    if runner == "ray":
        ray_packages()
    try:
        identity = json.loads(
            json_bytes(
                {
                    "format": FORMAT,
                    "engine": name,
                    "version": version,
                    "steps": [step.name for step in chain],
                    "settings": settings,
                    "key": key,
                    "shard_size": shard_size,
                    "source": {"rows": len(rows), "sha256": hash_source(rows)},
                }
            )
        )
    except (TypeError, ValueError) as error:
        raise EngineError(f"the settings must be plain JSON ({error})") from error
    folder = Output(Path(output), -(-len(rows) // shard_size))
    return CheckedRun(chain, rows, identity, folder, shard_size, bounds)


def _shards(
    runner: str, steps: Sequence[Step], pending: Mapping[int, Sequence[Row]], workers: int, key: str
) -> Iterator[PackedShard]:
    if not pending:
        return iter(())
    if runner == "ray":
        return run_ray(steps, pending, workers, key)
    return run_here(steps, pending, key) if workers == 1 else run_workers(steps, pending, workers, key)


def _finish(folder: Output, name: str, key: str, total: Funnel, bounds: Thresholds | None) -> Funnel:
    """Write the closing files; the manifest is the last of them."""
    if bounds is None:
        for file in (SELECTION, THRESHOLDS):
            (folder.root / file).unlink(missing_ok=True)
    else:
        columns, count = select(folder, key, bounds)
        total = with_thresholds(total, count)
        folder.write(THRESHOLDS, json_bytes(thresholds_json(bounds)))
        folder.write(SELECTION, selection_bytes(columns))
    folder.write(FUNNEL, json_bytes({"engine": name, **total.to_json()}))
    folder.write(FUNNEL_TEXT, total.to_markdown(f"Funnel of {name}").encode())
    folder.write(MANIFEST, json_bytes(folder.manifest()))
    return total
