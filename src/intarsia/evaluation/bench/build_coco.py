"""The real benchmark: DreamBooth's subjects at annotated places of COCO's pictures."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import get_args

from PIL import Image

from intarsia.errors import KnobError, PictureError
from intarsia.evaluation.bench.coco import Place, PlaceFilter, find_places
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.folders import put_in_place
from intarsia.evaluation.bench.manifest import (
    ABOUT,
    BenchSubject,
    MaskShape,
    Row,
    SizeClass,
    Task,
    file_sha256,
    write_benchmark,
)
from intarsia.evaluation.bench.picture_files import png_bytes
from intarsia.evaluation.bench.prompts import SubjectPrompts, load_prompts
from intarsia.evaluation.bench.subject_folders import copy_photos, find_subjects, link_or_copy
from intarsia.evaluation.bench.tally import Tally
from intarsia.imaging import Picture, write_file_atomically

_TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True)
class CocoBuild:
    """``left_out``: what was not used, by reason, and ``left_out_names``: the first of each; ``short``: subjects with
    fewer rows than asked for, and how many."""

    rows: int
    left_out: Mapping[str, int]
    left_out_names: Mapping[str, Sequence[str]]
    short: Mapping[str, int]


def build_coco(
    folder: Path,
    *,
    annotations: Path,
    pictures: Path,
    photos: Path,
    masks: Path | None = None,
    prompts: Path | None = None,
    subjects: Sequence[str] | None = None,
    per_subject: int = 140,
    seed: int = 1,
    shapes: Sequence[MaskShape] = ("box",),
    wanted: PlaceFilter | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> CocoBuild:
    """Write a benchmark of DreamBooth's subjects (``photos``, with ``masks``) at the places of COCO's ``annotations``.

    Each subject gets its own draw, at most one place of a picture, which depends on the seed, its name and the
    annotations' ids alone; size classes take turns as far as there are places. Within a size class tasks alternate,
    then shapes, then prompts. Only drawn pictures are opened; a grey one, or one of another size than annotated, is
    replaced by the next. The folder appears when all is written.

    Raises:
        KnobError: a number or shape that cannot be. BenchError: inputs that cannot be used, or a folder in the way.
    """
    if per_subject < 1:
        raise KnobError(f"per subject {per_subject} rows are asked for; use 1 or more")
    if seed < 0:
        raise KnobError(f"the seed is {seed}; use 0 or more")
    if bad := [shape for shape in shapes or ("",) if shape not in get_args(MaskShape)]:
        raise KnobError(f"the shape {bad[0]!r} is unknown; use {', '.join(get_args(MaskShape))}")
    _check_target(folder, overwrite)
    wanted, shapes = wanted or PlaceFilter(), tuple(dict.fromkeys(shapes))
    book = load_prompts(prompts)
    found, bare = find_subjects(photos, masks, subjects)
    asked = {subject.name: book.of(subject.name) for subject in found}
    places = find_places(annotations, pictures, wanted, outlines="silhouette" in shapes)
    left_out = places.left_out
    for name in bare:
        left_out.add("subject without photos", name)

    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".intarsia-{secrets.token_hex(6)}.part")
    try:
        for name in ("scenes", "masks"):
            (part / name).mkdir(parents=True)
        known: dict[str, BenchSubject] = {}
        rows: list[Row] = []
        short: dict[str, int] = {}
        files = _Files(pictures, part, left_out)
        for number, subject in enumerate(found, 1):
            shots = copy_photos(subject, part, left_out)
            if not shots:
                left_out.add("subject without photos", subject.name)
                continue
            draw = _Draw(subject.name, asked[subject.name], seed, shapes, files)
            drawn = list(islice(draw.rows(places.items), per_subject))
            known[subject.name] = BenchSubject(asked[subject.name].class_noun, shots)
            rows += drawn
            if len(drawn) < per_subject:
                short[subject.name] = len(drawn)
            if progress is not None:
                progress(number, len(found))
        if not rows:
            raise BenchError(
                f"no row can be made of {annotations} and {photos} ({left_out.told()}): check the pictures there"
            )
        settings = {
            "seed": seed,
            "per_subject": per_subject,
            "shapes": list(shapes),
            "filter": asdict(wanted),
            "annotations": {"file": annotations.name, "sha256": places.sha256, "count": places.annotations},
            "pictures": places.pictures,
            "places": dict(sorted(Counter(place.size_class for place in places.items).items())),
            "prompts_sha256": list(book.sha256),
        }
        write_benchmark(part, "coco", rows, known, settings, left_out.counts)
        _write_names(part, left_out)
        put_in_place({part: folder}, part.with_suffix(".old"))
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return CocoBuild(len(rows), dict(left_out.counts), left_out.names, short)


@dataclass
class _Files:
    """Scenes and masks, each written when it is first drawn; those that cannot be used are remembered and counted."""

    pictures: Path
    folder: Path
    left_out: Tally
    scenes: dict[str, str | None] = field(default_factory=dict)
    masks: dict[tuple[int, MaskShape], tuple[str, str] | None] = field(default_factory=dict)

    def scene(self, place: Place) -> str | None:
        """The hash of `scenes/FILE`."""
        if place.file not in self.scenes:
            reason = self._unfit(place)
            if reason is None:
                target = self.folder / "scenes" / place.file
                link_or_copy(self.pictures / place.file, target)
                self.scenes[place.file] = file_sha256(target)
            else:
                self.left_out.add(reason, place.file)
                self.scenes[place.file] = None
        return self.scenes[place.file]

    def mask(self, place: Place, shape: MaskShape) -> tuple[str, str] | None:
        """The path and the hash of the mask's PNG."""
        key = place.annotation, shape
        if key not in self.masks:
            mask = place.mask(shape)
            if mask is None:
                self.left_out.add(
                    "annotation with an outline unlike its box", f"{place.file}, annotation {place.annotation}"
                )
                self.masks[key] = None
            else:
                data = png_bytes(Image.fromarray(mask.astype("uint8") * 255))
                path = f"masks/{place.annotation}-{shape}.png"
                (self.folder / path).write_bytes(data)
                self.masks[key] = path, hashlib.sha256(data).hexdigest()
        return self.masks[key]

    def _unfit(self, place: Place) -> str | None:
        """Why a picture is no scene. In a grey one the library paints in grey, so that no prompt about colours can be
        obeyed."""
        try:
            picture = Picture.load(self.pictures / place.file)
        except PictureError:
            return "picture that cannot be read"
        if picture.size != place.size:
            return "picture of another size than annotated"
        return "picture in grey" if picture.mode.startswith("L") else None


@dataclass(frozen=True)
class _Draw:
    """One subject's rows."""

    subject: str
    asked: SubjectPrompts
    seed: int
    shapes: tuple[MaskShape, ...]
    files: _Files

    def rows(self, places: Sequence[Place]) -> Iterator[Row]:
        """Size classes take turns until none has a place left."""
        waiting: dict[SizeClass, list[Place]] = {}
        for place in sorted(places, key=lambda place: self._number(place.annotation)):
            waiting.setdefault(place.size_class, []).append(place)
        queues = {size: iter(waiting[size]) for size in sorted(waiting)}
        turns, used = Counter[SizeClass](), set[str]()
        # The second class begins with the second task, so that both tasks have as many rows.
        first = {size: index for index, size in enumerate(queues)}
        while queues:
            for size in list(queues):
                for place in queues[size]:
                    row = None if place.file in used else self._row(place, turns[size], first[size])
                    if row is not None:
                        turns[size] += 1
                        used.add(place.file)
                        yield row
                        break
                else:
                    del queues[size]

    def _row(self, place: Place, turn: int, first: int) -> Row | None:
        """The turn counts tasks, then shapes, then prompts, like an odometer."""
        turn, which = divmod(turn, len(_TASKS))
        task = _TASKS[(which + first) % len(_TASKS)]
        turn, which = divmod(turn, len(self.shapes))
        shape = self.shapes[which]
        prompts = self.asked.prompts[task]
        prompt = prompts[(turn + self._number(task, place.size_class)) % len(prompts)]
        scene = self.files.scene(place)
        mask = None if scene is None else self.files.mask(place, shape)
        if scene is None or mask is None:
            return None
        return Row(
            id=f"{self.subject}-{place.annotation}",
            task=task,
            scene=f"scenes/{place.file}",
            scene_sha256=scene,
            mask=mask[0],
            mask_sha256=mask[1],
            subject=self.subject,
            class_noun=self.asked.class_noun,
            prompt=prompt.text,
            seed=self._number("noise", place.annotation) % 2**31,
            size=place.size_class,
            shape=shape,
            edit=prompt.edit,
        )

    def _number(self, *what: object) -> int:
        """A hash rather than a generator's next number: no draw shifts another, and no version of a library counts."""
        text = "\0".join(map(str, (self.seed, self.subject, *what)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _write_names(folder: Path, left_out: Tally) -> None:
    """Add to `benchmark.json` what was left out by name."""
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8")) | {"left_out_names": left_out.names}
    data = json.dumps(about, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_file_atomically(folder / ABOUT, data.encode(), overwrite=True)


def _check_target(folder: Path, overwrite: bool) -> None:
    """An empty folder is free; nothing but a benchmark is replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / ABOUT).is_file():
        raise BenchError(f"{folder} exists and is no benchmark: choose another folder")
    if not overwrite:
        raise BenchError(f"{folder} holds a benchmark already: choose another folder, or ask to overwrite it")
