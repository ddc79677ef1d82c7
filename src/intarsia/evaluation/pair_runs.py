"""The numbers of the engine of pairs: removals against the truth, the runner's overhead, what its pairs give away."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from PIL import Image

from intarsia.engines import (
    EngineReport,
    Row,
    Step,
    decide,
    different_files,
    iterate_samples,
    measure_kills,
    pairs,
    read_rows,
    run_engine,
)
from intarsia.evaluation.case_values import Values
from intarsia.evaluation.judges import Judges
from intarsia.evaluation.quadruplets import write_tabletop
from intarsia.evaluation.removals import OTHER_PSNRS, REMOVED_PSNR, judge_removals, write_removals
from intarsia.evaluation.results import ResultsError
from intarsia.perception import Helpers, WriterOption

_COMMAND = "from intarsia.cli import main; main()"
_FAST_STEPS = 2
_KILLED_NOISE = 0.2
_THRESHOLDS = "tabletop"
_LEAST_PROBED = 40
"""Pairs; the probe of fewer says nothing."""


def removal_numbers(masks: int, seed: int, model: str, judges: Judges, folder: Path | None = None) -> Values:
    """The engine (preset ``best``, thresholds ``tabletop``) over that many masks of rendered scenes, removing with the
    model itself.

    ``before``: all K candidates of every mask; ``gated``: of those that pass the thresholds on what is known before
    the removal; ``after``: those that were chosen, of the pairs that all thresholds keep. A removal is right as
    `Removal.success` has it. ``auc`` and so on: see `probe_numbers`. ``overhead`` of the runner with one worker, of
    the ``timed_rows`` and ``seconds`` of this call.
    """
    with _root(folder, f"best-{masks}") as root:
        witness = Step("witness", partial(make_witness, root / "photos", root / "removals", judges.folder))
        report = run_scenes(root, masks, seed, model, "best", witness=witness, gate=False)
        output = report.output
        kept = {sample["key"] for sample in iterate_samples(output)}
        tried = [row for row in read_rows(output).to_pylist() if row.get("truth_psnr") is not None]
        probed = _probed(output) if len(kept) >= _LEAST_PROBED else {}
    if not kept or not tried:
        raise ResultsError(f"the engine kept {len(kept)} pairs of {len(tried)} removals: look at its funnel")
    psnrs = {row["key"]: np.array(json.loads(row["truth_psnr"])) for row in tried}
    gone = {row["key"]: np.array(json.loads(row["truth_gone"]), bool) for row in tried}
    right = {
        name: {key: gone[key] & (psnrs[key] >= least) for key in psnrs}
        for name, least in (("success", REMOVED_PSNR), *((f"success_{least}db", least) for least in OTHER_PSNRS))
    }
    bounds = pairs.before_removal(pairs.pair_thresholds(_THRESHOLDS))
    gated = {row["key"] for row in tried if decide(row, bounds) is None}
    chosen = {row["key"]: int(row["candidate"]) for row in tried if row["key"] in kept}
    values: Values = {
        **probed,
        "masks": len(tried),
        "gated": len(gated),
        "kept": len(chosen),
        "overhead": _overhead(report),
        "seconds": report.seconds - report.step_seconds.get("witness", 0.0),
        "timed_rows": report.step_rows["read"],
    }
    for name, found in {**right, "psnr": psnrs, "gone": gone}.items():
        values[f"{name}_before"] = float(np.mean([value.mean() for value in found.values()]))
        values[f"{name}_gated"] = float(np.mean([found[key].mean() for key in gated])) if gated else 0.0
        values[f"{name}_after"] = float(np.mean([found[key][number] for key, number in chosen.items()]))
    return values


def _overhead(report: EngineReport) -> float:
    """`EngineReport.overhead` of one worker, without the witness: it is no part of the engine."""
    own = sum(seconds for name, seconds in report.step_seconds.items() if name != "witness")
    return (report.seconds - sum(report.step_seconds.values())) / own if own else 0.0


def make_witness(photos: Path, scenes: Path, judges: Path | None) -> Callable[[Row], list[Row]]:
    """A step after the removal: writes what the truth says of each candidate, which no other step looks at."""
    return partial(witness, scenes=scenes, judges=Judges.load(judges))


def witness(row: Row, *, scenes: Path, judges: Judges) -> list[Row]:
    """Adds ``truth_psnr`` and ``truth_gone``: `Removal` of each candidate, as JSON lists."""
    photo = _rgb(next(row[name] for name in ("image.png", "image.jpg") if name in row))
    absent = _rgb(pairs.removed_path(scenes, row["source"], int(row["ann_id"])).read_bytes())
    mask, painted = (
        np.array(Image.open(io.BytesIO(row[f"{name}.png"])).convert("L")) > 127 for name in ("mask", "painted")
    )
    candidates: list[Any] = []
    while (data := row.get(f"candidate_{len(candidates)}.png")) is not None:
        candidates.append(np.where(painted[..., None], _rgb(data), photo))
    found = judge_removals(judges, candidates, photo, absent, mask)
    told = {
        "truth_psnr": json.dumps([round(one.psnr, 3) for one in found]),
        "truth_gone": json.dumps([int(one.gone) for one in found]),
    }
    return [{**row, **told}]


def run_scenes(
    root: Path,
    masks: int,
    seed: int,
    model: str,
    preset: str,
    *,
    witness: Step | None = None,
    gate: bool = True,
    output: str = "output",
    steps: int | None = None,
    runner: Literal["local", "ray"] = "local",
    workers: int = 1,
) -> EngineReport:
    """Render scenes below ``root`` until they have that many masks, and run the engine over them; what is there already
    stays. Options are those of `intarsia data pipe` for rendered scenes, without noise. ``witness``: a step behind
    the removal that finds the scenes without each thing rendered as well. ``steps`` of the removal: fewer only
    where its quality does not matter."""
    photos = root / "photos"
    arguments: dict[str, Any] = {}
    scenes = -(-masks // 2)
    while not arguments or len(arguments["source"]) < masks:
        write_tabletop(photos, scenes, seed=2_000 + seed)
        options = replace(pairs.PairOptions.preset(preset), empty_words="an empty table", gate=gate)
        windows = options.candidates + (options.decoys > 0)
        remover: dict[str, Any] = {"batch": windows} if steps is None else {"batch": windows, "steps": steps}
        tools = pairs.PairTools(
            Helpers(scorer=f"towers:{model}", folder=photos, device="cpu"),
            pairs.RemoverOption(f"studio:{model}", photos, device="cpu", **remover),
            WriterOption("truth", "template", photos),
        )
        arguments = pairs.pair_run(
            photos,
            None,
            root / output,
            tools,
            options,
            annotations=("tabletop",),
            thresholds=_THRESHOLDS,
            removal_batch=1,
            runner=runner,
            workers=workers,
            shard_size=16,
        )
        scenes += -(-scenes // 8)
    arguments["source"] = arguments["source"][:masks]
    if witness is not None:
        write_removals(photos, root / "removals")
        names = [step.name for step in arguments["steps"]]
        arguments["steps"].insert(names.index("remove") + 1, witness)
    return run_engine(**arguments)


def same_numbers(masks: int, seed: int, model: str) -> Values:
    """How many files differ between runs of the local runner and of Ray, with one worker and with two."""
    runners: list[Literal["local", "ray"]] = ["local"]
    if importlib.util.find_spec("ray") is not None:
        runners.append("ray")
    with TemporaryDirectory() as folder:
        root, different = Path(folder), set[str]()
        kept = 0
        for runner in runners:
            for workers in (1, 2):
                name = f"{runner}-{workers}"
                report = run_scenes(
                    root, masks, seed, model, "best", output=name, steps=_FAST_STEPS, runner=runner, workers=workers
                )
                kept = report.kept
                different |= set(different_files(root / "local-1", root / name))
    return {"different": len(different), "kept": kept, "ray": float("ray" in runners)}


def kill_numbers(kills: int, seed: int, scenes: int = 16) -> tuple[int, int, int]:
    """Rows lost, rows doubled, and files that differ from an undisturbed run's, over so many kills of the command line
    at random moments. Things are removed by the truth, with errors, so that most moments are not spent in the model."""
    with TemporaryDirectory() as folder:
        photos, removals = Path(folder) / "photos", Path(folder) / "removals"
        write_tabletop(photos, scenes, seed=3_000 + seed)
        write_removals(photos, removals)

        def command(output: Path) -> Sequence[str]:
            engine = [sys.executable, "-c", _COMMAND, "data", "pipe", str(photos), "-", str(output)]
            settings = ["--remover", f"truth:{removals}", "--noise", str(_KILLED_NOISE)]
            return [*engine, *settings, "--seed", str(seed), "--shard-size", "4", "--device", "cpu"]

        report = measure_kills(command, Path(folder) / "killed", Path(folder) / "undisturbed", kills, seed)
    return report.lost, report.doubled, len(report.different)


def probe_numbers(masks: int, seed: int, model: str, preset: str, folder: Path | None = None) -> Values:
    """The area under the curve of the engine's probe (`pairs.probe_edits`: where in the source was something painted?)
    over the kept pairs of so many masks, with its interval."""
    with _root(folder, f"probe-{preset}-{masks}") as root:
        report = run_scenes(root, masks, seed, model, preset)
        return _probed(report.output)


def _probed(output: Path) -> Values:
    found = pairs.probe_edits(pairs.read_pairs(output))
    low, high = found.where_interval
    return {"auc": found.where, "auc_n": found.pairs, "auc_low": low, "auc_high": high}


@contextmanager
def _root(folder: Path | None, name: str) -> Iterator[Path]:
    if folder is not None:
        (folder / name).mkdir(parents=True, exist_ok=True)
        yield folder / name
        return
    with TemporaryDirectory() as temporary:
        yield Path(temporary)


def _rgb(data: bytes) -> Any:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))
