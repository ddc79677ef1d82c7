"""Running methods over a benchmark: subjects are learned once, every result is a line and a picture, and a stopped run
goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intarsia.errors import DiskFullError, IntarsiaError
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark, Row, file_sha256
from intarsia.evaluation.bench.methods import Method
from intarsia.evaluation.bench.paste import cut_and_paste
from intarsia.evaluation.bench.results_folder import PICTURES, SUBJECTS, Result, ResultLines, is_whole, read_results
from intarsia.evaluation.bench.run_record import commit
from intarsia.imaging import Mask, Picture, write_file_atomically

if TYPE_CHECKING:
    from intarsia.editing import Studio
    from intarsia.learning import LearnConfig, Photos, Subject

Say = Callable[[str], None]
Progress = Callable[[int, int, str], None]
"""Called with results done, results in all, and what was done last."""
_IN_A_ROW = 5
"""So many unforeseen errors one after the other are the machine's, not the rows'."""


@dataclass(frozen=True)
class RunOptions:
    """``budget``: settings of learning that are changed for all methods alike. ``part``: (k, n), the k-th of n parts of
    the subjects."""

    model: str = "miniature"
    budget: Mapping[str, Any] = field(default_factory=dict)
    part: tuple[int, int] = (1, 1)
    device: str = "auto"
    dtype: str = "auto"

    @property
    def device_kind(self) -> str:
        """cpu, cuda or mps."""
        from intarsia.editing import choose_device

        return str(choose_device(self.device)).split(":")[0]


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
    of a row or of a subject becomes a result with one line; a later run tries it again, and results whose pictures are
    gone or changed as well.
    """
    k, n = options.part
    own = set(sorted(benchmark.subjects)[k - 1 :: n])
    rows = [row for row in benchmark.rows if row.subject in own]
    done = {(result.row, result.method) for result in read_results(folder) if is_whole(folder, result)}
    waiting = [(row, method) for row in _by_subject(rows) for method in methods if (row.id, method.name) not in done]
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
        self._commit = commit()
        self._unforeseen = 0
        self._failed: dict[Path, str] = {}
        self._loaded: dict[Path, Subject] = {}
        self._photos: dict[str, Photos] = {}
        self._painted_already: dict[tuple[str, ...], Picture] = {}

    @property
    def studio(self) -> Studio:
        if self._studio is None:
            from intarsia.editing import Studio

            self._studio = Studio.load(self.options.model, self.options.device, self.options.dtype)
        return self._studio

    def result(self, row: Row, method: Method) -> Result:
        """Paint one row and keep the picture; an error becomes a result, unless many come one after the other."""
        began = time.perf_counter()
        name = f"{PICTURES}/{method.name}/{row.id}.png"
        reason: str | None = None
        try:
            picture = self._painted(row, method)
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, overwrite=True)
            self._unforeseen = 0
        except DiskFullError:
            raise
        except IntarsiaError as error:
            reason = _line(error)
        except Exception as error:
            self._unforeseen += 1
            if self._unforeseen == _IN_A_ROW:
                raise
            reason = f"{type(error).__name__}: {_line(error)}"
        seconds = round(time.perf_counter() - began, 3)
        if reason is not None:
            return Result(row.id, method.name, row.seed, None, None, seconds, reason, self._commit)
        return Result(row.id, method.name, row.seed, name, file_sha256(path), seconds, None, self._commit)

    def _painted(self, row: Row, method: Method) -> Picture:
        scene = Picture.load(self.benchmark.folder / row.scene)
        mask = Mask.load(self.benchmark.folder / row.mask, like=scene.size)
        if method.kind == "paste":
            photo = self._photos_of(row.subject).items[0]
            pasted = cut_and_paste(_bytes(scene.rgb()), mask.array, _bytes(photo.rgb), photo.mask)
            return Picture.from_array(pasted)
        subject = None if method.learning is None else self._subject(row.subject, method)
        options = dict(method.options)
        if subject is not None and options.get("remove_attributes", "auto") == "auto":
            # What `auto` means, said: methods that remove nothing then ask for the same picture, painted once.
            options["remove_attributes"] = tuple(subject.conflicts(row.prompt)) or "none"
        learned = "" if subject is None else method.learning_key(**self.options.budget)
        key = (row.id, learned, repr(sorted(options.items())))
        if key not in self._painted_already:
            self._painted_already = {k: v for k, v in self._painted_already.items() if k[0] == row.id}
            self._painted_already[key] = self.studio.insert(
                scene, mask=mask, prompt=row.prompt, subject=subject, seed=row.seed, **options
            ).picture
        return self._painted_already[key]

    def _photos_of(self, key: str) -> Photos:
        if key not in self._photos:
            self._photos = {key: subject_photos(self.benchmark, key)}
        return self._photos[key]

    def _subject(self, key: str, method: Method) -> Subject:
        from intarsia.learning import LearnConfig, Subject

        config = LearnConfig.preset("default", **method.learn_settings(**self.options.budget))
        path = self.folder / SUBJECTS / method.learning_key(**self.options.budget) / f"{key}.safetensors"
        if path in self._failed:
            raise BenchError(self._failed[path])
        if path not in self._loaded:
            # Rows come subject after subject: only this one's are needed again.
            self._loaded = {kept: value for kept, value in self._loaded.items() if kept.name == path.name}
            if not path.exists():
                try:
                    self._learn(key, config, path)
                except DiskFullError:
                    raise
                except IntarsiaError as error:
                    self._failed[path] = f"the subject {key} was not learned: {_line(error)}"
                    raise BenchError(self._failed[path]) from error
            self._loaded[path] = Subject.load(path)
        return self._loaded[path]

    def _learn(self, key: str, config: LearnConfig, path: Path) -> None:
        """Learn and keep a subject, and beside it how many regular images it had; a stop leaves a checkpoint."""
        path.parent.mkdir(parents=True, exist_ok=True)
        work = path.with_suffix(".work")
        noun = self.benchmark.subjects[key].class_noun
        subject = self.studio.learn(self._photos_of(key), noun, config=config, work_folder=work)
        if subject.steps_done < config.steps:
            raise KeyboardInterrupt  # learning ends early on Ctrl-C; half a subject is none
        lines = (work / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        told = [json.loads(line) for line in lines]
        counts = {"regular_images": len(told), "regular_images_kept": sum(one["kept"] for one in told)}
        data = json.dumps({**counts, "steps": subject.steps_done}, sort_keys=True) + "\n"
        write_file_atomically(path.with_suffix(".json"), data.encode(), overwrite=True)
        subject.save(path)
        shutil.rmtree(work, ignore_errors=True)


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


def _bytes(rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _by_subject(rows: Iterable[Row]) -> list[Row]:
    order: dict[str, list[Row]] = {}
    for row in rows:
        order.setdefault(row.subject, []).append(row)
    return [row for group in order.values() for row in group]
