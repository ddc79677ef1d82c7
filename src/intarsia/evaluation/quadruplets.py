"""How many of the quadruplets that the data engine keeps are right, on rendered pictures whose truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intarsia.engines import quadruplets
from intarsia.errors import KnobError, OutputError, OutputExistsError
from intarsia.evaluation.card import interval
from intarsia.imaging import Picture
from intarsia.perception import Mention, Truth, TruthObject, Vocabulary, box_of, mask_iou, truth_path

RIGHT_IOU = 0.8
_CHUNK = 24
_LEAST_PIXELS = 16


def write_tabletop(
    folder: str | Path,
    count: int,
    seed: int = 0,
    side: int = 192,
    level_name: str = "small",
    overwrite: bool = False,
    split: str = "test",
) -> int:
    """Render ``count`` scenes into ``folder``: 00000.png … and the truth of each beside it (`Truth`). Returns how many
    were rendered now: those that are there already with their truth stay.

    ``split``: which things and places, "test" or "train"; a model that learns from them must not see those that it is
    measured on. ``seed`` picks the scenes; equal arguments give equal files.
    Raises KnobError, OutputError.
    """
    from intarsia.evaluation.cases import pixels_of
    from intarsia.tabletop import level, sample_scene

    if count < 1 or side < 32 or seed < 0:
        raise KnobError(f"{count} scenes of {side} px, seed {seed}: use at least 1, 32 px and seed 0")
    if split not in ("test", "train"):
        raise KnobError(f"the split is {split!r}; use test or train")
    world, target = level(level_name), Path(folder)
    which_split = "" if split == "test" else f", {split} split"
    recipe = f"tabletop scenes, level {level_name}, seed {seed}, {side} px{which_split}\n"
    note = target / "scenes.txt"
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()) and not overwrite and (not note.is_file() or note.read_text() != recipe):
            raise OutputExistsError(f"{target} holds something else; choose another folder or ask to overwrite it")
        note.write_text(recipe)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}; choose another folder") from error
    paths = [target / f"{number:05d}.png" for number in range(count)]
    wanted = [n for n, path in enumerate(paths) if overwrite or not (path.is_file() and truth_path(path).is_file())]
    for start in range(0, len(wanted), _CHUNK):
        numbers = wanted[start : start + _CHUNK]
        scenes = [sample_scene(100_000 * seed + n, world, split=split) for n in numbers]
        pictures, seen = pixels_of(scenes, side)
        for n, scene, pixels, which in zip(numbers, scenes, pictures, seen, strict=True):
            Picture.from_array(pixels).save(paths[n], overwrite=True)
            truth_path(paths[n]).write_text(_truth_of(scene, which, world).to_json(), encoding="utf-8")
    return len(wanted)


def _truth_of(scene: Any, which: Any, world: Any) -> Truth:
    things = []
    for number, place in enumerate(scene.placements, start=1):
        mask = which == number
        box = box_of(mask)
        if box is not None and mask.sum() >= _LEAST_PIXELS:
            things.append(_thing(place.subject, mask, box))
    background = ("table", "wall", *(("tablecloth",) if scene.table == "cloth" else ()))
    height, width = which.shape
    words = {
        "nouns": world.classes,
        "colour": world.colours,
        "material": world.materials,
        "pattern": [_PATTERNS[name] for name in world.patterns if name != "plain"],
        "accessories": [name for name in world.accessories if name != "none"],
    }
    return Truth((height, width), tuple(things), background, words)


_PATTERNS = {"striped": "stripes", "dotted": "dots", "checked": "checks", "zigzag": "zigzags"}


def _thing(subject: Any, mask: Any, box: Any) -> TruthObject:
    from intarsia.tabletop import COLOURS, colour_is_right

    named = subject.attributes
    attributes = {"colour": named["colour"], "material": named["material"]}
    if "second_colour" in named:
        attributes["pattern"] = f"{named['second_colour']} {_PATTERNS[named['pattern']]}"
    if "accessory_colour" in named:
        attributes["accessories"] = f"{named['accessory_colour']} {named['accessory']}"
    nouns = (named["class"], f"toy {named['class']}")
    return TruthObject(nouns, attributes, tuple(word for word in COLOURS if colour_is_right(named, word)), box, mask)


@dataclass(frozen=True)
class QuadrupletReport:
    """``kept`` and ``right`` (of them); ``candidates`` and ``right_candidates`` before the thresholds; ``objects``: how
    many things are large enough to be found; ``found``: how many of them have a right kept quadruplet. ``faults``:
    what is wrong with kept ones, each counted once under its first fault."""

    kept: int
    right: int
    candidates: int
    right_candidates: int
    objects: int
    found: int
    faults: dict[str, int]

    @property
    def precision(self) -> float:
        return self.right / self.kept if self.kept else 0.0

    @property
    def precision_before(self) -> float:
        return self.right_candidates / self.candidates if self.candidates else 0.0

    @property
    def recall(self) -> float:
        return self.found / self.objects if self.objects else 0.0

    @property
    def candidate_recall(self) -> float:
        """Share of the right candidates that the thresholds keep."""
        return self.right / self.right_candidates if self.right_candidates else 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything, with the 95 % interval of the precision (Wilson)."""
        return {
            "precision": self.precision,
            "precision_interval": list(interval(self.precision, self.kept)) if self.kept else None,
            "precision_before": self.precision_before,
            "recall": self.recall,
            "candidate_recall": self.candidate_recall,
            "kept": self.kept,
            "right": self.right,
            "candidates": self.candidates,
            "right_candidates": self.right_candidates,
            "objects": self.objects,
            "found": self.found,
            "faults": self.faults,
        }

    def __str__(self) -> str:
        low, high = interval(self.precision, self.kept) if self.kept else (0.0, 1.0)
        faults = ", ".join(f"{count} {name}" for name, count in self.faults.items()) or "none"
        return (
            f"precision {self.precision:.1%} [{low:.1%}, {high:.1%}] of {self.kept} kept quadruplets; before the "
            f"thresholds {self.precision_before:.1%} of {self.candidates} candidates; right candidates kept "
            f"{self.candidate_recall:.1%}; things found {self.recall:.1%} of {self.objects}; faults: {faults}"
        )


def measure_quadruplets(
    run: str | Path, photos: str | Path, *, cut: str | Path | None = None, least_side: int = 20
) -> QuadrupletReport:
    """Compare an engine's output with the truth beside the photos; see `fault_of` for what is right.

    Counted as things that should be found: those whose visible box has no side below ``least_side`` px.
    Raises EngineError, HelperError.
    """
    vocabulary = Vocabulary.load()
    truths = {path: Truth.load(path) for path in sorted(Path(photos).rglob("*.png")) if truth_path(path).is_file()}
    found: set[tuple[Path, int]] = set()
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for made in quadruplets.read_quadruplets(run, cut=cut, candidates=True):
        path = Path(photos) / made.row["source"]
        number, fault = fault_of(made, truths[path], vocabulary)
        counts["candidates"] += 1
        counts["right_candidates"] += fault is None
        if made.rejected is not None:
            continue
        counts["kept"] += 1
        if fault is None:
            counts["right"] += 1
            found.add((path, number))
        else:
            faults[fault] += 1
    large = {
        (path, number)
        for path, truth in truths.items()
        for number, thing in enumerate(truth.objects)
        if min(thing.box[2:]) >= least_side
    }
    return QuadrupletReport(
        counts["kept"],
        counts["right"],
        counts["candidates"],
        counts["right_candidates"],
        len(large),
        len(found & large),
        dict(faults.most_common()),
    )


def fault_of(made: quadruplets.Quadruplet, truth: Truth, vocabulary: Vocabulary) -> tuple[int, str | None]:
    """The number of the thing that a quadruplet shows, and what is wrong with it; None: nothing.

    It is right when all of this holds: its mask and the visible mask of that thing have an IoU of at least 0.8 (the
    thing with the highest one counts); its caption says a noun of the thing and of no other thing of this world; it
    says at least one colour of the thing, and all of those that it says are true ones (of stripes and checks either
    colour is); and every material, pattern and accessory that it says, with the colours it gives them, is on the
    thing. What a caption leaves out is no fault, except noun and colour.
    """
    ious = [mask_iou(made.mask, thing.mask) for thing in truth.objects]
    if not ious or max(ious) < RIGHT_IOU:
        return -1, "mask"
    number = ious.index(max(ious))
    thing = truth.objects[number]
    words = made.caption.lower().split()
    said = {noun for noun in truth.words["nouns"] if noun in words}
    if len(said) != 1 or not said <= set(thing.nouns):
        return number, "noun"
    mentions = vocabulary.mentions(made.caption)
    colours = {mention.value for mention in mentions if mention.kind == "colour"}
    if not colours or not colours <= set(thing.colours):
        return number, "colour"
    true = _facts(vocabulary.mentions(thing.caption))
    for fact in _facts(mentions):
        if fact[0] != "colour" and fact not in true:
            return number, fact[0]
    return number, None


def _facts(mentions: Sequence[Mention]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(mention.kind, mention.value, tuple(inner.value for inner in mention.qualifiers)) for mention in mentions]
