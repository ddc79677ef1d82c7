"""The blind page: which questions, who sees what, and that nothing on it tells who made which picture."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.study_world import METHODS, make_bench, make_results, noise

from intarsia.errors import IntarsiaError, IntarsiaWarning
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark
from intarsia.evaluation.bench.study import KEY, StudyKey, make_study
from intarsia.evaluation.bench.study_page import order_for


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return make_bench(tmp_path_factory.mktemp("study") / "bench")


@pytest.fixture(scope="module")
def results(bench: Benchmark) -> Path:
    return make_results(bench.folder.parent / "results", bench)


@pytest.fixture(scope="module")
def study(bench: Benchmark, results: Path) -> tuple[Path, StudyKey]:
    output = bench.folder.parent / "out"
    return output, make_study(bench.folder, results, output, METHODS, participants=10)


def page_bytes(output: Path) -> dict[str, bytes]:
    page = output / "page"
    return {path.relative_to(page).as_posix(): path.read_bytes() for path in sorted(page.rglob("*")) if path.is_file()}


def test_questions_are_balanced_over_tasks_sizes_and_subjects(study: tuple[Path, StudyKey], bench: Benchmark) -> None:
    _, key = study
    rows = {row.id: row for row in bench.rows}
    assert len({question.row for question in key.questions}) == 30
    assert set(Counter((one.task, one.size) for one in key.questions).values()) == {5}
    subjects = Counter(rows[question.row].subject for question in key.questions)
    assert max(subjects.values()) - min(subjects.values()) <= 2


def test_the_same_study_has_the_same_bytes_and_another_seed_other_rows(
    study: tuple[Path, StudyKey], bench: Benchmark, results: Path, tmp_path: Path
) -> None:
    output, key = study
    make_study(bench.folder, results, tmp_path / "again", METHODS, participants=10)
    assert page_bytes(tmp_path / "again") == page_bytes(output)
    assert (tmp_path / "again" / KEY).read_bytes() == (output / KEY).read_bytes()
    other = make_study(bench.folder, results, tmp_path / "other", METHODS, seed=1)
    assert {question.row for question in other.questions} != {question.row for question in key.questions}
    assert StudyKey.load(output / KEY) == key


def test_the_page_is_the_same_whoever_made_which_picture(
    study: tuple[Path, StudyKey], bench: Benchmark, tmp_path: Path
) -> None:
    """The proof of blindness: with the methods' pictures exchanged, only the key differs."""
    output, key = study
    swapped = make_results(tmp_path / "results", bench, swap={METHODS[0]: METHODS[1], METHODS[1]: METHODS[0]})
    other = make_study(bench.folder, swapped, tmp_path / "out", METHODS[::-1], participants=10)
    assert page_bytes(tmp_path / "out") == page_bytes(output)
    makers = {name: method for question in key.questions for name, method in question.options.items()}
    for question in other.questions:
        for name, method in question.options.items():
            assert method != makers[name]


def test_two_methods_that_painted_the_same_are_still_two_options(bench: Benchmark, tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", bench, swap={METHODS[0]: METHODS[1]})
    key = make_study(bench.folder, results, tmp_path / "out", METHODS, questions=4)
    for question in key.questions:
        first, second = (tmp_path / "out" / "page" / "pictures" / f"{name}.png" for name in question.options)
        assert set(question.options.values()) == set(METHODS)
        assert first != second and first.read_bytes() == second.read_bytes()


def test_no_file_of_the_page_names_a_method_or_a_row(study: tuple[Path, StudyKey], bench: Benchmark) -> None:
    output, _ = study
    files = page_bytes(output)
    secrets = [*METHODS, "zanzibar", "recipe"]
    secrets += [secret for row in bench.rows for secret in (row.id, row.scene_sha256)]
    for method in METHODS:
        secrets += [hashlib.new(kind, method.encode()).hexdigest()[:8] for kind in ("md5", "sha1", "sha256")]
    for path, data in files.items():
        for secret in secrets:
            assert secret.encode() not in data, (path, secret)
            assert secret not in path
    assert KEY not in files
    text = files["index.html"] + files["study.js"] + files["study.css"]
    assert b"http" not in text and b"fetch(" not in text and b"@import" not in text


def test_compared_files_are_alike_but_for_their_pixels(
    study: tuple[Path, StudyKey], bench: Benchmark, results: Path
) -> None:
    output, key = study
    pictures = output / "page" / "pictures"
    for question in key.questions:
        sizes = {(pictures / f"{name}.png").stat().st_size for name in question.options}
        assert len(sizes) == 1
        original = [(results / "pictures" / method / f"{question.row}.png").stat().st_size for method in METHODS]
        assert len(set(original)) == 2
        for name, method in question.options.items():
            path = pictures / f"{name}.png"
            assert set(chunks(path.read_bytes())) == {b"IHDR", b"IDAT", b"fiLl", b"IEND"}
            with Image.open(path) as shown, Image.open(results / "pictures" / method / f"{question.row}.png") as made:
                assert shown.info == {}
                assert np.array_equal(np.asarray(shown), np.asarray(made))
    assert len({path.stat().st_mtime for path in (output / "page").rglob("*") if path.is_file()}) == 1


def chunks(png: bytes) -> list[bytes]:
    at, found = 8, []
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append(png[at + 4 : at + 8])
        at += length + 12
    return found


def test_sides_are_balanced_over_questions_and_between_participants(study: tuple[Path, StudyKey]) -> None:
    _, key = study
    cards = [(question.id, tuple(question.options)) for question in key.questions]
    makers = {name: method for question in key.questions for name, method in question.options.items()}
    lefts: Counter[str] = Counter()
    for number in range(1, 11):
        seen = order_for(key.study, str(number), cards, 10)
        assert {one.id for one in seen} == {name for name, _ in cards}
        assert sum(one.options == dict(cards)[one.id] for one in seen) == 15
        lefts.update(one.id for one in seen if makers[one.options[0]] == METHODS[0])
    assert set(lefts.values()) == {5}
    named = [order_for(key.study, name, cards, None) for name in ("ann", "bob")]
    assert [one.id for one in named[0]] != [one.id for one in named[1]]


def test_three_methods_are_compared_in_pairs_or_together(bench: Benchmark, tmp_path: Path) -> None:
    methods = ("a1", "b2", "c3")
    results = make_results(tmp_path / "results", bench, methods)
    pairs = make_study(bench.folder, results, tmp_path / "pairs", methods, questions=12)
    made = Counter(tuple(sorted(question.options.values())) for question in pairs.questions)
    assert made == {("a1", "b2"): 4, ("a1", "c3"): 4, ("b2", "c3"): 4}
    every = make_study(bench.folder, results, tmp_path / "all", methods, questions=6, together=True)
    assert all(sorted(question.options.values()) == list(methods) for question in every.questions)
    cards = [(question.id, tuple(question.options)) for question in every.questions]
    seen = order_for("x", "eve", cards, None)
    assert Counter(dict(cards)[one.id].index(one.options[0]) for one in seen) == {0: 2, 1: 2, 2: 2}


def test_rows_with_bad_pictures_are_replaced_and_counted(bench: Benchmark, tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", bench)
    folder = results / "pictures" / METHODS[1]
    first = make_study(bench.folder, results, tmp_path / "first", METHODS, questions=6)
    gone, changed, *_ = (question.row for question in first.questions)
    (folder / f"{gone}.png").unlink()
    noise(folder / f"{changed}.png", 1, side=30)
    lines = results / "lines" / "0.jsonl"
    kept = [line for line in lines.read_text().splitlines() if '"r047"' not in line]
    lines.write_text("\n".join(kept) + "\n")
    key = make_study(bench.folder, results, tmp_path / "second", METHODS, questions=6)
    assert not {gone, changed, "r047"} & {question.row for question in key.questions}
    assert key.left_out == {"file changed": 1, "file missing": 1, "not painted by every method": 1}
    with pytest.warns(IntarsiaWarning, match="only 45 of 99 questions"):
        make_study(bench.folder, results, tmp_path / "third", METHODS, questions=99)


def test_a_broken_build_leaves_nothing_and_overwrites_only_a_study(
    study: tuple[Path, StudyKey], bench: Benchmark, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("intarsia.evaluation.bench.study.write_page", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_study(bench.folder, results, tmp_path / "out", METHODS)
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "file").write_text("dear")
    with pytest.raises(BenchError, match="is no folder"):
        make_study(bench.folder, results, tmp_path / "file", METHODS)
    (tmp_path / "mine" / "page").mkdir(parents=True)
    (tmp_path / "mine" / "page" / "letter.txt").write_text("dear")
    with pytest.raises(BenchError, match=r"exists already"):
        make_study(bench.folder, results, tmp_path / "mine", METHODS)
    with pytest.raises(BenchError, match="no page of a study"):
        make_study(bench.folder, results, tmp_path / "mine", METHODS, overwrite=True)
    assert (tmp_path / "mine" / "page" / "letter.txt").exists()
    make_study(bench.folder, results, tmp_path / "twice", METHODS, questions=3)
    make_study(bench.folder, results, tmp_path / "twice", METHODS, questions=2, overwrite=True)
    assert len(StudyKey.load(tmp_path / "twice" / KEY).questions) == 2
    assert len(list((tmp_path / "twice" / "page" / "pictures").iterdir())) <= 2 * 5
    (tmp_path / "twice" / KEY).unlink()
    make_study(bench.folder, results, tmp_path / "twice", METHODS, questions=2, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "twice").iterdir()) == [KEY, "page"]


def test_page_and_key_are_replaced_together_or_not_at_all(
    bench: Benchmark, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_study(bench.folder, results, tmp_path / "out", METHODS, questions=3)
    before = page_bytes(tmp_path / "out")
    usual = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name == KEY and Path(target) == tmp_path / "out" / KEY and ".old" not in str(self):
            raise PermissionError(13, "no")
        return usual(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fails)
        with pytest.raises(PermissionError):
            make_study(bench.folder, results, tmp_path / "out", METHODS, questions=2, overwrite=True)
    assert page_bytes(tmp_path / "out") == before and StudyKey.load(tmp_path / "out" / KEY) == first
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [KEY, "page"]


def test_with_all_methods_in_each_question_the_page_is_blind_as_well(bench: Benchmark, tmp_path: Path) -> None:
    methods = ("a1", "b2", "c3")
    turned = dict(zip(methods, (*methods[1:], methods[0]), strict=True))
    for name, swap in (("one", None), ("two", turned)):
        results = make_results(tmp_path / name, bench, methods, swap)
        make_study(bench.folder, results, tmp_path / f"{name}-out", methods, questions=5, together=True)
    assert page_bytes(tmp_path / "one-out") == page_bytes(tmp_path / "two-out")


def test_what_cannot_be_read_is_counted_and_the_commit_told(bench: Benchmark, tmp_path: Path) -> None:
    copy, results = tmp_path / "bench", make_results(tmp_path / "results", bench)
    shutil.copytree(bench.folder, copy)
    with (copy / "manifest.jsonl").open("a") as file:
        file.write('{"id": "r9\n')
    lines = (results / "lines" / "0.jsonl").read_text().splitlines()
    told = [{**json.loads(line), "commit": "abc"} for line in lines]
    text = "".join(json.dumps(one) + "\n" for one in told)
    (results / "lines" / "0.jsonl").write_text(text + '{"row": 7}\n')
    key = make_study(copy, results, tmp_path / "out", METHODS, questions=4)
    assert key.left_out == {"broken line": 1, "broken line of the results": 1, "manifest changed": 1}
    assert key.commit == "abc"
    (results / "lines" / "0.jsonl").write_text(text.replace("abc", "def", 60))
    assert make_study(copy, results, tmp_path / "other", METHODS, questions=40).commit == "several"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"methods": ["quokka"]}, "two or more"),
        ({"methods": ["quokka", "quokka"]}, "different"),
        ({"methods": ["quokka", "imaginary"]}, "'imaginary'; it has: quokka, zanzibar@lam=0.3"),
        ({"questions": 0}, "at least 1"),
        ({"participants": 0}, "at least 1"),
        ({"ask": "  "}, "--ask"),
        ({"results": "nowhere"}, "holds no results"),
        ({"benchmark": "nowhere"}, "no folder"),
    ],
)
def test_bad_input_is_one_line(
    change: dict[str, Any], told: str, bench: Benchmark, results: Path, tmp_path: Path
) -> None:
    call: dict[str, Any] = {"benchmark": bench.folder, "results": results, "methods": METHODS, **change}
    with pytest.raises(IntarsiaError) as caught:
        make_study(output=tmp_path / "out", **call)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_results_of_another_benchmark_are_refused(bench: Benchmark, tmp_path: Path) -> None:
    other = make_bench(tmp_path / "bench", rows=4)
    results = make_results(tmp_path / "results", other)
    with pytest.raises(BenchError, match="another benchmark"):
        make_study(bench.folder, results, tmp_path / "out", METHODS)
