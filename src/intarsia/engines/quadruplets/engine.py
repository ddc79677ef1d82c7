"""The engine put together: read, tag, blacklist, detect, segment, caption, quality, cut, and then thresholds."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from intarsia.engines.errors import EngineError, ThresholdError
from intarsia.engines.quadruplets.captioning import make_caption
from intarsia.engines.quadruplets.cutting import VERSION, make_cut
from intarsia.engines.quadruplets.detecting import make_detect
from intarsia.engines.quadruplets.quality import make_quality
from intarsia.engines.quadruplets.reading import list_photos, make_read
from intarsia.engines.quadruplets.samples import BoolArray, Pixels, Row, image_of, mask_of, rgb_of
from intarsia.engines.quadruplets.segmenting import make_segment
from intarsia.engines.quadruplets.tagging import Blacklist, make_blacklist, make_tag
from intarsia.engines.runner.output import SELECTION
from intarsia.engines.runner.packing import read_table
from intarsia.engines.runner.recut import recut
from intarsia.engines.runner.rows import JSON, Step
from intarsia.engines.runner.run import EngineReport, Progress, run_engine
from intarsia.engines.runner.samples import iterate_samples
from intarsia.engines.runner.thresholds import Thresholds, load_thresholds
from intarsia.perception import Box, Helpers

NAME = "quadruplets"
SHIPPED = ("photos", "tabletop")
LEAST_SIDE = 64
_FIRST = {"instance": (1.0, None)}


def quadruplet_thresholds(name: str | Path) -> dict[str, tuple[float | None, float | None]]:
    """The thresholds of a file, or of the package's "photos" or "tabletop"; in front of them the one that tells
    candidates from the rows that hold their scenes. Raises ThresholdError."""
    if str(name) in SHIPPED:
        name = Path(str(files("intarsia.engines.quadruplets") / f"{name}.yaml"))
    elif not Path(name).is_file():
        raise ThresholdError(f"there is no file of thresholds {name}; name one, or {' or '.join(SHIPPED)}")
    return {**_FIRST, **load_thresholds(name)}


def quadruplet_steps(
    folder: Path, helpers: Helpers, blacklist: Blacklist, *, least_side: int = LEAST_SIDE, gpus: float = 0.0
) -> list[Step]:
    """The steps for the pictures of a folder. ``gpus``: the share of a GPU that each step with a model asks Ray for."""
    asking: list[tuple[str, Callable[[Helpers], Callable[[Row], list[Row]]]]] = [
        ("tag", make_tag),
        ("detect", make_detect),
        ("segment", make_segment),
        ("caption", make_caption),
        ("quality", make_quality),
        ("cut", make_cut),
    ]
    steps = [Step(name, partial(make, helpers), gpus=gpus if name != "cut" else 0.0) for name, make in asking]
    return [
        Step("read", partial(make_read, folder, least_side)),
        steps[0],
        Step("blacklist", partial(make_blacklist, blacklist)),
        *steps[1:],
    ]


def run_quadruplets(
    photos: str | Path,
    output: str | Path,
    helpers: Helpers,
    *,
    thresholds: str | Path | Thresholds = "photos",
    blacklist: str | Path | None = None,
    least_side: int = LEAST_SIDE,
    runner: Literal["local", "ray"] = "local",
    workers: int = 1,
    shard_size: int = 64,
    gpus: float = 0.0,
    progress: Callable[[Progress], None] | None = None,
    overwrite: bool = False,
) -> EngineReport:
    """Make quadruplets of every photo below a folder; see `run_engine` for the output and for how it goes on.

    Raises EngineError, HelperError, OutputError.
    """
    folder = Path(photos)
    if least_side < 1:
        raise EngineError(f"the least side is {least_side} px; use at least 1")
    bounds = {**_FIRST, **thresholds} if isinstance(thresholds, Mapping) else quadruplet_thresholds(thresholds)
    words = Blacklist.load(blacklist)
    listed = json.dumps([sorted(words.tags), sorted(words.last_words)])
    settings: dict[str, JSON] = {
        "tagger": helpers.tagger,
        "detector": helpers.detector,
        "segmenter": helpers.segmenter,
        "captioner": helpers.captioner,
        "scorer": helpers.scorer,
        "noise": [helpers.noise.level, helpers.noise.seed, helpers.noise.repeat],
        "blacklist": hashlib.sha256(listed.encode()).hexdigest(),
        "least_side": least_side,
    }
    return run_engine(
        name=NAME,
        version=VERSION,
        source=list_photos(folder, workers, output),
        steps=quadruplet_steps(folder, helpers, words, least_side=least_side, gpus=gpus),
        output=output,
        settings=settings,
        runner=runner,
        workers=workers,
        shard_size=shard_size,
        progress=progress,
        thresholds=bounds,
        overwrite=overwrite,
    )


def recut_quadruplets(
    run: str | Path, output: str | Path, thresholds: str | Path | Thresholds, *, overwrite: bool = False
) -> Any:
    """Decide by other thresholds which candidates of a run are kept; no helper is asked again. ``output`` then holds
    the selection, which `read_quadruplets` takes as ``cut``. Returns the funnel. Raises EngineError, OutputError."""
    bounds = {**_FIRST, **thresholds} if isinstance(thresholds, Mapping) else quadruplet_thresholds(thresholds)
    return recut(run, bounds, output, overwrite=overwrite)


@dataclass(frozen=True, eq=False)
class Quadruplet:
    """Scene (H, W, 3) uint8, mask (H, W), half-open box (x, y, w, h), subject (h, w, 4) uint8 RGBA, caption; and the
    row with all scores and the provenance. ``rejected``: None, or why it is no training example."""

    scene: Pixels
    mask: BoolArray
    box: Box
    subject: Pixels
    caption: str
    row: Mapping[str, Any]
    rejected: str | None


def read_quadruplets(
    run: str | Path, *, cut: str | Path | None = None, candidates: bool = False
) -> Iterator[Quadruplet]:
    """The kept quadruplets of a run, scenes joined to them; ``cut``: by the selection of `recut_quadruplets`;
    ``candidates``: the fallen ones too, as far as they have a mask and a caption. Raises EngineError."""
    path = Path(run if cut is None else cut) / SELECTION
    if not path.is_file():
        raise EngineError(f"{path.parent} holds no {path.name}; run the engine to its end, or cut its run again")
    reasons = {line["key"]: line["rejected"] for line in read_table(path.read_bytes()).to_pylist()}
    scene: tuple[str, bytes] | None = None
    for row in iterate_samples(run, candidates=True):
        if not row["instance"]:
            scene = row["key"], image_of(row)
            continue
        reason = reasons.get(row["key"], "unknown")
        if "subject.png" not in row or row.get("caption") is None or (reason is not None and not candidates):
            continue
        if scene is None or scene[0] != row["scene"]:
            raise EngineError(
                f"the sample {row['key']} of {run} has lost its scene; run the engine again with overwrite"
            )
        subject = np.array(Image.open(io.BytesIO(row["subject.png"])))
        yield Quadruplet(
            rgb_of(scene[1]),
            mask_of(row["mask.png"]),
            (row["x"], row["y"], row["w"], row["h"]),
            subject,
            row["caption"],
            {name: value for name, value in row.items() if not isinstance(value, bytes)},
            reason,
        )
