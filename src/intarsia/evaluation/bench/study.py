"""A blind study: which questions are asked, the page that asks them, and the key that tells who made which picture."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from intarsia.errors import IntarsiaWarning
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.folders import put_in_place
from intarsia.evaluation.bench.manifest import Benchmark, Row, SizeClass, Task, file_sha256
from intarsia.evaluation.bench.picture_files import upright_size
from intarsia.evaluation.bench.results_folder import Result, broken_lines, read_results, read_run
from intarsia.evaluation.bench.study_choice import Pick, choose_questions
from intarsia.evaluation.bench.study_page import ASK, PAGE, PICTURES, Card, is_page, write_page
from intarsia.evaluation.bench.study_pictures import compared_pngs, photo_png, scene_png

FORMAT = 1
KEY = "key.json"
PHOTOS = 4
"""At most so many photos of a subject are shown."""
_NAME = 20
Item = TypeVar("Item")


@dataclass(frozen=True)
class Question:
    """``options``: picture's name on the page -> who made it, in the page's order."""

    id: str
    row: str
    subject: str
    task: Task
    size: SizeClass
    options: Mapping[str, str]


@dataclass(frozen=True)
class StudyKey:
    """What the page does not tell. ``participants``: how many are numbered, None where they name themselves."""

    study: str
    benchmark: str
    manifest_sha256: str
    methods: tuple[str, ...]
    questions: tuple[Question, ...]
    participants: int | None
    seed: int
    ask: str
    model: str | None = None
    model_hash: str | None = None
    commit: str | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def load(path: str | Path) -> StudyKey:
        """Raises BenchError: missing, damaged, or of another format."""
        path = Path(path)
        try:
            told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version = told.pop("format")
            if version != FORMAT:
                raise BenchError(f"{path} was made by another version (format {version!r}): make the study again")
            questions = tuple(Question(**one) for one in told.pop("questions"))
            key = StudyKey(**{**told, "methods": tuple(told["methods"])}, questions=questions)
            made = {name for question in questions for name in question.options.values()}
            if not questions or not made <= set(key.methods):
                raise ValueError("its questions are not of its methods")
        except OSError as error:
            raise BenchError(f"{path} cannot be read ({error.strerror}); name the {KEY} beside the page") from error
        except BenchError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(f"{path} is no key of a study ({error}); name the {KEY} beside the page") from error
        return key


def make_study(
    benchmark: str | Path,
    results: str | Path,
    output: str | Path,
    methods: Sequence[str],
    *,
    questions: int = 30,
    participants: int | None = None,
    together: bool = False,
    ask: str = ASK,
    seed: int = 0,
    overwrite: bool = False,
) -> StudyKey:
    """Write `page/` to hand out and `key.json` to keep, both or neither. Same input, same bytes.

    Two methods at a time are compared, all pairs of ``methods`` in turn; ``together``: all of them in each question.

    Raises:
        BenchError: unknown or too few methods, results of another benchmark, no row that the methods share.
        PictureError: a picture that cannot be read.
    """
    output = Path(output)
    _check(methods, questions, participants, ask)
    _check_output(output, overwrite)
    bench, run = Benchmark.open(benchmark, check_files=False), read_run(results)
    if run.get("manifest_sha256") != bench.manifest_sha256:
        raise BenchError(f"{results} was made from another benchmark than {benchmark}: name the one it was made from")
    made = _pictures(read_results(results), methods, Path(results))
    groups = [tuple(methods)] if together else list(combinations(methods, 2))
    source = _Source(bench, Path(results), made)
    picks, left_out = choose_questions(bench.rows, groups, questions, seed, made, source.fault)
    if not picks:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise BenchError(f"no row has good pictures of {', '.join(methods)} ({reasons}); run them over the same rows")
    left_out = _with_faults(left_out, bench, Path(results))
    if len(picks) < questions:
        warnings.warn(IntarsiaWarning(f"only {len(picks)} of {questions} questions can be asked"), stacklevel=2)
    folder = output / f".study-{secrets.token_hex(6)}"
    page, kept = folder / PAGE, folder / KEY
    try:
        (page / PICTURES).mkdir(parents=True)
        asked = _in_order_of_names(source.card(pick, page / PICTURES) for pick in picks)
        cards = [card for card, _ in asked]
        study = write_page(page, cards, participants, ask)
        key = StudyKey(
            study,
            bench.name,
            bench.manifest_sha256,
            tuple(methods),
            tuple(_question(card, pick, makers) for card, (pick, makers) in asked),
            participants,
            seed,
            ask,
            run.get("model"),
            run.get("model_hash"),
            _commit(made[pick.row.id, method] for pick in picks for method in pick.methods),
            left_out,
        )
        text = json.dumps({"format": FORMAT, **asdict(key)}, indent=1, ensure_ascii=False) + "\n"
        kept.write_bytes(text.encode())
        put_in_place({page: output / PAGE, kept: output / KEY}, folder.with_suffix(".old"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return key


@dataclass(frozen=True)
class _Source:
    bench: Benchmark
    results: Path
    made: Mapping[tuple[str, str], Result]

    def fault(self, row: Row, methods: Sequence[str]) -> str | None:
        """Why a row cannot be asked about, None where it can."""
        subject = self.bench.subjects.get(row.subject)
        if subject is None or not subject.photos:
            return "no photo of the subject"
        base = self.bench.folder
        listed = [(base / row.scene, row.scene_sha256), (base / row.mask, row.mask_sha256)]
        listed += [(base / shot.image, shot.image_sha256) for shot in subject.photos[:PHOTOS]]
        found = [self.made[row.id, method] for method in methods]
        listed += [(self.results / str(one.picture), str(one.picture_sha256)) for one in found]
        for path, digest in listed:
            if not path.is_file():
                return "file missing"
            if file_sha256(path) != digest:
                return "file changed"
        try:
            sizes = {upright_size(path) for path, _ in [*listed[:2], *listed[-len(found) :]]}
        except Exception:  # decoders raise almost anything on hostile bytes
            return "file unreadable"
        return None if len(sizes) == 1 else "sizes differ"

    def card(self, pick: Pick, folder: Path) -> tuple[Card, tuple[Pick, dict[str, str]]]:
        """The question as the page has it, without id, its pictures written; and which picture is whose."""
        row, base = pick.row, self.bench.folder
        pngs = compared_pngs([self.results / str(self.made[row.id, one].picture) for one in pick.methods])
        makers, written = {}, {}
        for name, method, png in zip(_names(pngs), pick.methods, pngs, strict=True):
            makers[name], written[name] = method, png
        scene, scene_name = _named(scene_png(base / row.scene, base / row.mask))
        shots = [_named(photo_png(base / shot.image)) for shot in self.bench.subjects[row.subject].photos[:PHOTOS]]
        written |= {scene_name: scene} | {name: png for png, name in shots}
        for name in sorted(written):
            (folder / f"{name}.png").write_bytes(written[name])
        photos, size = tuple(name for _, name in shots), upright_size(base / row.scene)
        return Card("", scene_name, photos, row.prompt, tuple(sorted(makers)), size), (pick, makers)


def _names(pngs: Sequence[bytes]) -> list[str]:
    """Names that come of the pictures alone; a picture has another name in another comparison."""
    digests = [hashlib.sha256(png).hexdigest() for png in pngs]
    beside = " ".join(sorted(digests))
    counts: Counter[str] = Counter()
    names = []
    for digest in digests:
        names.append(hashlib.sha256(f"{beside} {digest} {counts[digest]}".encode()).hexdigest()[:_NAME])
        counts[digest] += 1
    return names


def _named(png: bytes) -> tuple[bytes, str]:
    return png, hashlib.sha256(png).hexdigest()[:_NAME]


def _in_order_of_names(cards: Iterable[tuple[Card, Item]]) -> list[tuple[Card, Item]]:
    """Numbered in the order of the pictures' names, so that the numbers tell nothing of how they were chosen."""
    ordered = sorted(cards, key=lambda one: one[0].options)
    return [(replace(card, id=f"q{at:03d}"), rest) for at, (card, rest) in enumerate(ordered, 1)]


def _question(card: Card, pick: Pick, makers: Mapping[str, str]) -> Question:
    row = pick.row
    return Question(card.id, row.id, row.subject, row.task, row.size, {name: makers[name] for name in card.options})


def _with_faults(left_out: Mapping[str, int], bench: Benchmark, results: Path) -> dict[str, int]:
    """Also the rows of the benchmark and the lines of the results that cannot be read."""
    counts = Counter(left_out) + Counter(bench.left_out)
    counts["broken line of the results"] += sum(broken_lines(results).values())
    return dict(sorted((+counts).items()))


def _commit(results: Iterable[Result]) -> str | None:
    """Of the code that painted what is shown."""
    found = {one.commit for one in results}
    return found.pop() if len(found) == 1 else "several"


def _pictures(found: Iterable[Result], methods: Sequence[str], folder: Path) -> dict[tuple[str, str], Result]:
    results = list(found)
    for method in methods:
        if not any(one.method == method and one.picture is not None for one in results):
            there = ", ".join(sorted({one.method for one in results if one.picture is not None})) or "none"
            raise BenchError(f"{folder} has no picture of the method {method!r}; it has: {there}")
    return {(one.row, one.method): one for one in results if one.picture is not None}


def _check(methods: Sequence[str], questions: int, participants: int | None, ask: str) -> None:
    if len(methods) < 2 or len(set(methods)) < len(methods):
        named = ", ".join(methods) or "none"
        raise BenchError(f"methods are {named}: name two or more different ones, each by --method")
    if len(methods) > 9:
        raise BenchError(f"{len(methods)} methods are too many: compare at most 9")
    if questions < 1:
        raise BenchError(f"questions are {questions}: ask at least 1")
    if participants is not None and participants < 1:
        raise BenchError(f"participants are {participants}: number at least 1, or leave the number out")
    if not ask.strip():
        raise BenchError("the question to ask is empty: leave --ask out, or say what to look at")


def _check_output(output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise BenchError(f"{output} is no folder: choose another --output")
    there = [name for name in (PAGE, KEY) if (output / name).exists()]
    if there and not overwrite:
        raise BenchError(f"{output / there[0]} exists already: choose another folder or --overwrite")
    if PAGE in there and not is_page(output / PAGE):
        raise BenchError(f"{output / PAGE} is no page of a study, so it is not overwritten: choose another folder")
    if (output / KEY).is_dir():
        raise BenchError(f"{output / KEY} is a folder: choose another --output")
