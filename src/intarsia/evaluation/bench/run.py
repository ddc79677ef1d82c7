"""Running methods over a benchmark: subjects are learned once, every result is a line and a picture, and a stopped run
goes on."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import intarsia
from intarsia.errors import IntarsiaError
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark, Row, file_sha256
from intarsia.evaluation.bench.methods import Method
from intarsia.evaluation.bench.paste import cut_and_paste, require_blending
from intarsia.evaluation.bench.results_folder import (
    PICTURES,
    RUN,
    SUBJECTS,
    Result,
    ResultLines,
    read_results,
    read_run,
    write_run,
)
from intarsia.imaging import Mask, Picture

if TYPE_CHECKING:
    from intarsia.editing import Studio
    from intarsia.learning import Photos, Subject

Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]
"""Called with results done, results in all, and what was done last."""


@dataclass(frozen=True)
class RunOptions:
    """``budget``: settings of learning that are changed for all methods alike. ``part``: (k, n), the k-th of n parts of
    the subjects."""

    model: str = "miniature"
    budget: Mapping[str, Any] = field(default_factory=dict)
    part: tuple[int, int] = (1, 1)
    device: str = "auto"
    dtype: str = "auto"


def open_run(benchmark: Benchmark, folder: Path, methods: Sequence[Method], options: RunOptions) -> None:
    """Write `run.json`, or check that the one there belongs to the same benchmark, model, budget and settings, and add
    the methods that are new.

    Raises:
        BenchError: it belongs to something else; or a method cannot run here.
    """
    if any(method.kind == "paste" for method in methods):
        require_blending()
    learns = [method for method in methods if method.learning is not None]
    told = {method.name: _told(method, options) for method in methods}
    if learns and options.budget:
        _check_budget(learns, options)
    run = {
        "benchmark": benchmark.name,
        "manifest_sha256": benchmark.manifest_sha256,
        "model": options.model,
        "model_hash": _model_hash(options.model),
        "budget": dict(options.budget),
    }
    known: dict[str, Any] = {}
    if (folder / RUN).exists():
        kept = read_run(folder)
        other = [name for name, value in run.items() if kept.get(name) != value]
        if other:
            raise BenchError(
                f"{folder} holds results of another {', '.join(name.replace('_', ' ') for name in other)}: "
                "give another folder for these"
            )
        known = kept["methods"]
        for name, values in told.items():
            if name in known and known[name]["settings_sha256"] != values["settings_sha256"]:
                raise BenchError(
                    f"{folder} holds results of {name!r} with other settings (its presets have changed since): give "
                    "another folder, or delete its lines and pictures"
                )
    write_run(
        folder,
        {
            **run,
            "methods": {**known, **told},
            "left_out": benchmark.left_out,
            "commit": commit(),
            "versions": _versions(),
        },
    )


def run_part(
    benchmark: Benchmark,
    folder: Path,
    methods: Sequence[Method],
    options: RunOptions,
    *,
    studio: Studio | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> int:
    """Make the results of this part that are not there yet; returns how many errors there are among its results.

    Subject after subject: learn it in each way that the methods need, then paint its rows with every method. An error
    of a row or of a subject becomes a result with one line; a later run tries it again.
    """
    k, n = options.part
    own = set(sorted(benchmark.subjects)[k - 1 :: n])
    rows = [row for row in benchmark.rows if row.subject in own]
    done = {(result.row, result.method): result for result in read_results(folder)}
    waiting = [
        (row, method)
        for row in _by_subject(rows)
        for method in methods
        if (found := done.get((row.id, method.name))) is None or found.error is not None
    ]
    lines = ResultLines(folder, f"{k}-of-{n}")
    worker = _Worker(benchmark, folder, options, studio)
    errors, total = 0, len(rows) * len(methods)
    for number, (row, method) in enumerate(waiting, total - len(waiting) + 1):
        result = worker.result(row, method)
        lines.add(result)
        if result.error is not None:
            errors += 1
            if say is not None:
                say(f"{row.id}, {method.name}: {result.error}")
        if progress is not None:
            progress(number, total, f"{row.id} {method.name}")
    return errors


class _Worker:
    """Paints rows; the model is loaded when first needed, a subject learned when first painted."""

    def __init__(self, benchmark: Benchmark, folder: Path, options: RunOptions, studio: Studio | None) -> None:
        self.benchmark, self.folder, self.options = benchmark, folder, options
        self._studio = studio
        self._failed: dict[Path, str] = {}
        self._loaded: dict[Path, Subject] = {}

    @property
    def studio(self) -> Studio:
        if self._studio is None:
            from intarsia.editing import Studio

            self._studio = Studio.load(self.options.model, self.options.device, self.options.dtype)
        return self._studio

    def result(self, row: Row, method: Method) -> Result:
        """Paint one row, keep the picture; every error that a user can act on becomes a result."""
        began = time.perf_counter()
        name = f"{PICTURES}/{method.name}/{row.id}.png"
        try:
            picture = self._painted(row, method)
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, overwrite=True)
        except IntarsiaError as error:
            seconds = round(time.perf_counter() - began, 3)
            return Result(row.id, method.name, row.seed, None, None, seconds, str(error).splitlines()[0])
        seconds = round(time.perf_counter() - began, 3)
        return Result(row.id, method.name, row.seed, name, file_sha256(path), seconds)

    def _painted(self, row: Row, method: Method) -> Picture:
        scene = Picture.load(self.benchmark.folder / row.scene)
        mask = Mask.load(self.benchmark.folder / row.mask, like=scene.size)
        if method.kind == "paste":
            photo = subject_photos(self.benchmark, row.subject).items[0]
            pasted = cut_and_paste(_bytes(scene.rgb()), mask.array, _bytes(photo.rgb), photo.mask)
            return Picture.from_array(pasted)
        subject = None if method.learning is None else self._subject(row.subject, method)
        result = self.studio.insert(
            scene, mask=mask, prompt=row.prompt, subject=subject, seed=row.seed, **dict(method.options)
        )
        return result.picture

    def _subject(self, key: str, method: Method) -> Subject:
        from intarsia.learning import LearnConfig, Subject

        path = self.folder / SUBJECTS / method.subject_key / f"{key}.safetensors"
        if path in self._failed:
            raise BenchError(self._failed[path])
        if path not in self._loaded:
            # Rows come subject after subject: only this one's are needed again.
            self._loaded = {kept: value for kept, value in self._loaded.items() if kept.name == path.name}
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                work = path.with_suffix(".work")
                try:
                    self.studio.learn(
                        subject_photos(self.benchmark, key),
                        self.benchmark.subjects[key].class_noun,
                        path,
                        config=LearnConfig.preset("default", **method.learn_settings(**self.options.budget)),
                        work_folder=work,
                    )
                except IntarsiaError as error:
                    self._failed[path] = f"the subject {key} was not learned: {str(error).splitlines()[0]}"
                    raise BenchError(self._failed[path]) from error
                shutil.rmtree(work, ignore_errors=True)
            self._loaded[path] = Subject.load(path)
        return self._loaded[path]


def _bytes(rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def subject_photos(benchmark: Benchmark, key: str) -> Photos:
    """A subject's photos; where one has no mask the subject is cut out as `Photos.load` does.

    Raises:
        IntarsiaError: unreadable photos, or a subject that is not found in one.
    """
    from intarsia.learning import Photos

    subject = benchmark.subjects[key]
    photos = [benchmark.folder / shot.image for shot in subject.photos]
    masks = [benchmark.folder / shot.mask for shot in subject.photos if shot.mask is not None]
    if len(masks) == len(photos):
        return Photos.load(photos, masks)
    return Photos.load(photos, class_noun=subject.class_noun)


def commit() -> str | None:
    """The commit of the checkout that the package runs from, with `+` where it was changed since; None elsewhere."""
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    head = git("rev-parse", "--short=12", "HEAD")
    if head is None or git("ls-files", "--error-unmatch", str(here / "manifest.py")) is None:
        return None
    changed = git("status", "--porcelain", "--untracked-files=no", "--", str(here.parents[1]))
    return head.strip() + ("+" if changed else "")


def _by_subject(rows: Iterable[Row]) -> list[Row]:
    order: dict[str, list[Row]] = {}
    for row in rows:
        order.setdefault(row.subject, []).append(row)
    return [row for group in order.values() for row in group]


def _told(method: Method, options: RunOptions) -> dict[str, Any]:
    """What `run.json` says of a method; the hash covers every setting, also those that its presets fill in."""
    from intarsia.learning import LearnConfig
    from intarsia.request import EditRequest

    settings = ""
    if method.kind == "studio":
        settings = EditRequest(verb="insert", scene="scene", box="0,0,8,8", prompt="words", **method.options).to_json()
    learn: dict[str, Any] = {}
    if method.learning is not None:
        learn = method.learn_settings(**options.budget)
        config = LearnConfig.preset("default", **learn)
        settings += config.fingerprint + f"{config.steps} {config.regular_prompts}"
    return {
        "title": method.title,
        "learning": method.learning,
        "learn": learn,
        "options": dict(method.options),
        "settings_sha256": hashlib.sha256(settings.encode()).hexdigest(),
    }


def _check_budget(learns: Sequence[Method], options: RunOptions) -> None:
    from intarsia.learning import LearnConfig

    for method in learns:
        LearnConfig.preset("default", **method.learn_settings(**options.budget))


def _model_hash(model: str) -> str:
    from intarsia.backbones import locate_model

    return str(locate_model(model).hash)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"intarsia": intarsia.__version__}
    for name in ("torch", "diffusers", "transformers", "peft"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
