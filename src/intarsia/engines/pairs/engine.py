"""The engine put together: read, prescore, gate, remove, judge, blend, importance, instruct, pair, and then
thresholds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from intarsia.engines.errors import EngineError, ThresholdError
from intarsia.engines.pairs.annotations import list_instances
from intarsia.engines.pairs.blending import make_blend
from intarsia.engines.pairs.instructing import AWAY, SILENT, make_instruct
from intarsia.engines.pairs.judging import make_importance, make_judge
from intarsia.engines.pairs.options import PairOptions
from intarsia.engines.pairs.pairing import VERSION, make_pair
from intarsia.engines.pairs.prescoring import BEFORE, make_gate, make_prescore
from intarsia.engines.pairs.reading import make_read
from intarsia.engines.pairs.removers import RemoverOption
from intarsia.engines.pairs.removing import make_remove
from intarsia.engines.pairs.samples import BoolArray, Pixels, mask_of, rgb_of
from intarsia.engines.runner.funnel import Funnel
from intarsia.engines.runner.output import SELECTION, open_output
from intarsia.engines.runner.packing import read_table
from intarsia.engines.runner.plan import EnginePlan, plan_run
from intarsia.engines.runner.recut import recut
from intarsia.engines.runner.rows import JSON, Row, Step
from intarsia.engines.runner.run import EngineReport, Progress, run_engine
from intarsia.engines.runner.samples import iterate_samples, read_rows
from intarsia.engines.runner.thresholds import Thresholds, check_thresholds, load_thresholds
from intarsia.perception import Box, Helpers, WriterOption

NAME = "pairs"
SHIPPED = ("paper", "best", "tabletop")
LEAST_SIDE = 64
REMOVAL_BATCH = 1


@dataclass(frozen=True)
class PairTools:
    """Who scores, removes, describes and writes."""

    helpers: Helpers = field(default_factory=Helpers)
    remover: RemoverOption = field(default_factory=RemoverOption)
    writers: WriterOption = field(default_factory=WriterOption)


@dataclass(frozen=True)
class PairReport:
    """A finished run, and ``notes``: why how many rows have no described instruction."""

    run: EngineReport
    notes: Mapping[str, int]

    @property
    def away(self) -> int:
        """Rows that got class instructions only, because a language model did not answer."""
        return self.notes.get(AWAY, 0) + self.notes.get(SILENT, 0)


def pair_thresholds(name: str | Path) -> dict[str, tuple[float | None, float | None]]:
    """The thresholds of a file, or of the package's "paper", "best" or "tabletop". Raises ThresholdError."""
    if str(name) in SHIPPED:
        name = Path(str(files("intarsia.engines.pairs") / f"{name}.yaml"))
    elif not Path(name).is_file():
        raise ThresholdError(f"there is no file of thresholds {name}; name one, or {', '.join(SHIPPED)}")
    return load_thresholds(name)


def before_removal(thresholds: Thresholds) -> Thresholds:
    """Those on scores that are known before the removal: the gate's."""
    return {name: bound for name, bound in thresholds.items() if name in BEFORE}


def pair_steps(
    photos: Path,
    masks: Path | None,
    tools: PairTools,
    options: PairOptions,
    *,
    before: Thresholds | None = None,
    least_side: int = LEAST_SIDE,
    removal_batch: int = REMOVAL_BATCH,
    gpus: float = 0.0,
) -> list[Step]:
    """The steps. ``before``: thresholds on scores that are known before the removal; rows that fall by them skip it.
    ``removal_batch``: rows whose candidates are painted together. ``gpus``: the share of a GPU that each step with a
    model asks Ray for; those beside each other share an actor, so pictures travel little."""
    names = _names(tools)
    helpers = tools.helpers
    return [
        Step("read", partial(make_read, photos, masks, least_side)),
        Step("prescore", partial(make_prescore, helpers), gpus=gpus),
        Step("gate", partial(make_gate, before or {}), gpus=gpus),
        Step("remove", partial(make_remove, tools.remover, options), gpus=gpus, batch=removal_batch),
        Step("judge", partial(make_judge, helpers, options), gpus=gpus),
        Step("blend", partial(make_blend, options), gpus=gpus),
        Step("importance", partial(make_importance, helpers), gpus=gpus),
        Step("instruct", partial(make_instruct, tools.writers)),
        Step("pair", partial(make_pair, options, names)),
    ]


def run_pairs(*args: Any, progress: Callable[[Progress], None] | None = None, **options: Any) -> PairReport:
    """Make pairs of every instance: `pair_run` has the arguments; see `run_engine` for the output, and for how a run
    that was stopped goes on.

    Raises EngineError (AnnotationsError, ThresholdError), HelperError, OutputError.
    """
    report = run_engine(**pair_run(*args, **options), progress=progress)
    return PairReport(report, notes_of(report.output))


def plan_pairs(*args: Any, sample: int = 8, price_per_hour: float | None = None, **options: Any) -> EnginePlan:
    """What `run_pairs` would do with the same arguments, its time and its cost; nothing is written."""
    return plan_run(**pair_run(*args, **options), sample=sample, price_per_hour=price_per_hour)


def pair_run(
    photos: str | Path,
    masks: str | Path | None,
    output: str | Path,
    tools: PairTools | None = None,
    options: PairOptions | None = None,
    *,
    annotations: tuple[str, ...] = (),
    class_name: str | None = None,
    exclude: frozenset[str] = frozenset(),
    thresholds: str | Path | Thresholds = "best",
    least_side: int = LEAST_SIDE,
    removal_batch: int = REMOVAL_BATCH,
    runner: Literal["local", "ray"] = "local",
    workers: int = 1,
    shard_size: int = 64,
    gpus: float = 0.0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """The arguments of `run_engine`.

    photos: a folder. masks, annotations, class_name, exclude: see `list_instances`. thresholds: a file, "paper",
    "best", "tabletop", or bounds. removal_batch: rows painted together; part of the settings, as are the hashes of
    weights on this machine and the kinds of devices. Raises EngineError, BackboneError (no such model), EditingError
    (no such device).
    """
    tools, options = tools or PairTools(), options or PairOptions.preset("best")
    folder, mask_folder = Path(photos), None if masks is None else Path(masks)
    if least_side < 1 or removal_batch < 1:
        raise EngineError(f"least side {least_side} px, batches of {removal_batch} rows: use at least 1")
    bounds = check_thresholds(thresholds) if isinstance(thresholds, Mapping) else pair_thresholds(thresholds)
    before = before_removal(bounds) if options.gate else {}
    settings: dict[str, JSON] = {
        "options": options.to_json(),
        "remover": tools.remover.to_json(),
        "scorer": tools.helpers.scorer,
        "describer": tools.writers.describer,
        "writer": tools.writers.writer,
        "noise": [tools.writers.noise.level, tools.writers.noise.seed, tools.writers.noise.repeat],
        "gate": {name: list(bound) for name, bound in before.items()},
        "least_side": least_side,
        "removal_batch": removal_batch,
        "weights": _weights(tools),
        "devices": _devices(tools, runner, gpus),
    }
    return {
        "name": NAME,
        "version": VERSION,
        "source": list_instances(
            folder, mask_folder, annotations, class_name=class_name, exclude=exclude, workers=workers
        ),
        "steps": pair_steps(
            folder,
            mask_folder,
            tools,
            options,
            before=before,
            least_side=least_side,
            removal_batch=removal_batch,
            gpus=gpus,
        ),
        "output": output,
        "settings": settings,
        "runner": runner,
        "workers": workers,
        "shard_size": shard_size,
        "thresholds": bounds,
        "overwrite": overwrite,
    }


def recut_pairs(
    run: str | Path,
    output: str | Path,
    thresholds: str | Path | Thresholds,
    *,
    repack: int | None = None,
    overwrite: bool = False,
) -> Funnel:
    """Decide by other thresholds which pairs of a run are kept; no model is asked again. What the gate kept from the
    removal stays out. ``repack``: also write the kept pairs in shards of that many. Raises EngineError, OutputError."""
    bounds = check_thresholds(thresholds) if isinstance(thresholds, Mapping) else pair_thresholds(thresholds)
    return recut(run, bounds, output, repack=repack, overwrite=overwrite)


@dataclass(frozen=True, eq=False)
class Pair:
    """``source``: the photo without the thing, ``target``: with it, both (H, W, 3) uint8; the thing's mask (H, W), what
    was painted anew, the half-open box (x, y, w, h), the class; ``instructions`` by kind ("class", "described",
    "referring"), without the empty ones; ``location``, said after "at"; and the row with all scores and the provenance.
    ``rejected``: None, or why it is no training example."""

    source: Pixels
    target: Pixels
    mask: BoolArray
    painted: BoolArray
    box: Box
    class_name: str
    instructions: Mapping[str, str]
    location: str
    row: Mapping[str, Any]
    rejected: str | None

    @property
    def decoy(self) -> Box | None:
        """The box of the place that was painted anew although nothing stood there."""
        text = self.row.get("decoy")
        if text is None:
            return None
        x, y, w, h = json.loads(text)
        return x, y, w, h


KINDS = {
    "class": "Instruction_Class",
    "described": "Instruction_VLM-LLM",
    "referring": "Instruction_Ref_Dataset",
}


def read_pairs(run: str | Path, *, cut: str | Path | None = None, candidates: bool = False) -> Iterator[Pair]:
    """The kept pairs of a run; ``cut``: by the selection of `recut_pairs`; ``candidates``: all pairs, also those that
    fell by a threshold. Raises EngineError."""
    path = Path(run if cut is None else cut) / SELECTION
    if not path.is_file():
        raise EngineError(f"{path.parent} holds no {path.name}; run the engine to its end, or cut its run again")
    reasons = {line["key"]: line["rejected"] for line in read_table(path.read_bytes()).to_pylist()}
    for row in iterate_samples(run, candidates=True):
        reason = reasons.get(row["key"], "unknown")
        if reason is None or candidates:
            yield pair_of(row, reason)


def pair_of(row: Row, rejected: str | None = None) -> Pair:
    """A sample of an engine's shard as a `Pair`."""
    names = [(f"{side}_img.png", f"{side}_img.jpg") for side in ("source", "target")]
    source, target = (next(row[name] for name in either if name in row) for either in names)
    return Pair(
        rgb_of(source),
        rgb_of(target),
        mask_of(row["mask.png"]),
        mask_of(row["painted.png"]),
        (row["x"], row["y"], row["w"], row["h"]),
        row["class"],
        {kind: row[column] for kind, column in KINDS.items() if row[column]},
        row["object_location"],
        {name: value for name, value in row.items() if not isinstance(value, bytes)},
        rejected,
    )


def is_run(folder: str | Path) -> bool:
    """Whether a folder is the output of this engine. Raises EngineError where it is none of any engine."""
    return bool(open_output(folder)[1]["engine"] == NAME)


def notes_of(run: str | Path) -> dict[str, int]:
    """How many rows of a run have which note about their instructions."""
    table = read_rows(run)
    if "instruction_note" not in table.column_names:
        return {}
    counted = Counter(note for note in table["instruction_note"].to_pylist() if note is not None)
    return dict(sorted(counted.items()))


def _weights(tools: PairTools) -> dict[str, JSON]:
    """The hashes of the backbones that remove and score, which are not loaded for it; None for one that is not on this
    machine. Raises BackboneError."""
    from intarsia.backbones import MissingWeightsError, locate_model

    found: dict[str, JSON] = {}
    for use, kind, option in (("remover", "studio", tools.remover.option), ("scorer", "towers", tools.helpers.scorer)):
        name, _, model = option.partition(":")
        if name == kind:
            try:
                found[use] = locate_model(model).hash
            except MissingWeightsError:
                found[use] = None
    return found


def _devices(tools: PairTools, runner: str, gpus: float) -> dict[str, JSON]:
    """The kinds of devices that remove and score: "cpu", "cuda" …"""
    asked = {"scorer": tools.helpers.device}
    if tools.remover.option.startswith("studio:"):
        asked["remover"] = tools.remover.device
    return {use: _device(device, runner, gpus) for use, device in asked.items()}


def _device(device: str, runner: str, gpus: float) -> str:
    if device == "auto" and runner == "ray":  # an actor sees a GPU only where its step asks for one
        return "cuda" if gpus > 0 else "cpu"
    if device == "auto":
        from intarsia.editing import choose_device

        device = choose_device(device)
    return device.partition(":")[0]


def _names(tools: PairTools) -> dict[str, str]:
    """Known without loading anything; the remover writes its own name, with its weights, into each row."""
    return {
        "scorer": tools.helpers.scorer,
        "describer": tools.writers.describer,
        "writer": tools.writers.writer,
    }
