"""Answers with a known preference and a known side bias; files that cannot be answers; the tables."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.evaluation.study_world import METHODS, answers_of, likes, make_bench, make_results, save_answers
from typer.testing import CliRunner

from intarsia.cli.bench_study import register_study
from intarsia.errors import IntarsiaError
from intarsia.evaluation.bench.manifest import Benchmark
from intarsia.evaluation.bench.study import KEY, Question, StudyKey, make_study
from intarsia.evaluation.bench.study_report import html, markdown, write_study_tables
from intarsia.evaluation.bench.study_statistics import ClusteredBootstrap, binomial_p, krippendorff_alpha
from intarsia.evaluation.bench.study_table import TIE, Cell, StudyTable, tabulate_study

GOOD, PLAIN = METHODS


def key_of(methods: tuple[str, ...] = METHODS, questions: int = 24, participants: int | None = None) -> StudyKey:
    """A key without a page."""
    pairs = list(combinations(methods, 2))
    asked = [
        Question(
            f"q{at:03d}",
            f"r{at}",
            "s0",
            "identity" if at % 2 else "editing",
            ("small", "medium", "large")[at // 2 % 3],  # type: ignore[arg-type]
            dict(zip((f"{at}a", f"{at}b"), pairs[at % len(pairs)][:: 1 if at % 4 < 2 else -1], strict=True)),
        )
        for at in range(questions)
    ]
    return StudyKey("0123456789abcdef", "noise", "e" * 64, methods, tuple(asked), participants, 0, "Which?")


def cell(table: StudyTable, method: str, task: str = "all", size: str = "all", methods: Any = METHODS) -> Cell:
    return next(
        one for one in table.cells if (one.methods, one.method, one.task, one.size) == (methods, method, task, size)
    )


def test_a_known_preference_is_found_ties_apart_and_no_bias_is_seen(tmp_path: Path) -> None:
    key = key_of(participants=60)

    for number in range(1, 61):
        prefers = {task: likes(GOOD, share, 0.1, seed=number) for task, share in (("identity", 0.5), ("editing", 0.8))}
        told = answers_of(key, str(number), lambda methods, question, p=prefers: p[question.task](methods, question))
        save_answers(tmp_path, str(number), told)
    table = tabulate_study(key, [tmp_path])
    assert (table.participants, table.left_out, table.warnings) == (60, (), [])
    for task, share in (("identity", 0.45), ("editing", 0.72)):
        one = cell(table, GOOD, task)
        assert one.low is not None and one.high is not None
        assert one.low < share < one.high and one.high - one.low < 0.12
        assert one.answers == 720 and one.participants == 60
        total = sum(cell(table, name, task).share for name in (GOOD, PLAIN, TIE))
        assert total == pytest.approx(1)
    low = cell(table, GOOD, "editing").low
    high = cell(table, PLAIN, "editing").high
    assert low is not None and high is not None and low > high
    assert cell(table, TIE).share == pytest.approx(0.1, abs=0.03)
    assert cell(table, GOOD, "editing", "small").answers == 240
    alphas = {one.task: one.alpha for one in table.agreement}
    assert alphas["identity"] == pytest.approx(0, abs=0.05)


def test_a_side_bias_is_found_and_who_has_it_is_named(tmp_path: Path) -> None:
    key = key_of()
    for number in range(20):
        told = answers_of(key, f"p{number}", likes(GOOD, 0.5, left=0.0 if number else 1.0, seed=number))
        save_answers(tmp_path / "one", str(number), told)
        told = answers_of(key, f"p{number}", likes(GOOD, 0.9, left=0.4, seed=number))
        save_answers(tmp_path / "all", str(number), told)
    one = tabulate_study(key, [tmp_path / "one"])
    assert one.one_sided == ("p0",) and "p0" in one.warnings[-1]
    every = tabulate_study(key, [tmp_path / "all"])
    assert every.sides.counts[0] > 1.5 * every.sides.counts[1] and every.sides.p < 1e-6
    assert "side bias" in every.warnings[0] and str(every.sides.counts[0]) in every.warnings[0]
    assert "side bias" in markdown(every) and "side bias" in html(every)
    # Sides are drawn whatever the method is, so the bias weakens the preference and does not turn it.
    assert cell(every, GOOD).share == pytest.approx(0.6 * 0.9 + 0.4 * 0.5, abs=0.06)


def test_the_interval_is_of_participants_not_of_answers(tmp_path: Path) -> None:
    """Ten people of one mind each: 240 answers are worth ten."""
    key = key_of()
    for number in range(10):
        told = answers_of(key, f"p{number}", likes(GOOD if number < 5 else PLAIN, 1.0))
        save_answers(tmp_path, str(number), told)
    one = cell(tabulate_study(key, [tmp_path]), GOOD)
    assert one.share == 0.5 and one.low is not None and one.high is not None
    assert one.high - one.low == pytest.approx(2 * 1.96 * (0.25 / 10) ** 0.5, abs=0.1)
    single = cell(tabulate_study(key, [tmp_path / "0.json"]), GOOD)
    assert (single.share, single.low, single.high) == (1.0, None, None)


def _spoil(told: dict[str, Any], **first: Any) -> dict[str, Any]:
    answers = [{**told["answers"][0], **first}, *told["answers"][1:]]
    return {**told, "answers": answers}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda told: {**told, "study": "f" * 16}, "another page"),
        (lambda told: {**told, "format": 9}, "another version"),
        (lambda told: {**told, "participant": "Ann\nB"}, "no name"),
        (lambda told: {**told, "participant": "99"}, "numbers 1 to 50"),
        (lambda told: {**told, "participant": "02"}, "numbers 1 to 50"),
        (lambda told: {**told, "participant": "3"}, "not shown so"),
        (lambda told: {**told, "participant": None}, "no name"),
        (lambda told: _spoil(told, question="q999"), "unknown question 'q999'"),
        (lambda told: _spoil(told, question=["q000"]), "unknown question"),
        (lambda told: _spoil(told, shown=told["answers"][0]["shown"][::-1]), "not shown so"),
        (lambda told: _spoil(told, choice=2), "impossible choice '2'"),
        (lambda told: _spoil(told, choice=True), "impossible choice"),
        (lambda told: _spoil(told, choice="left"), "impossible choice"),
        (lambda told: _spoil(told, milliseconds=-1), "impossible time"),
        (lambda told: _spoil(told, milliseconds=float("nan")), "impossible time"),
        (lambda told: _spoil(told, milliseconds="3"), "impossible time"),
        (lambda told: {**told, "answers": [told["answers"][0]] * 2}, "answered twice"),
        (lambda told: {**told, "answers": []}, "not one question"),
        (lambda told: {**told, "answers": [7]}, "no JSON object"),
        (lambda told: {**told, "answers": {}}, "no answers"),
        (lambda told: [told], "no answers"),
        (lambda told: answers_of(key_of(participants=50), "2", likes(GOOD, 0.5), 400), "too fast: a median of 0.40 s"),
    ],
)
def test_impossible_answers_are_left_out_with_one_line(spoil: Any, reason: str, tmp_path: Path) -> None:
    key = key_of(participants=50)
    save_answers(tmp_path, "good", answers_of(key, "1", likes(GOOD, 0.5)))
    save_answers(tmp_path, "bad", spoil(answers_of(key, "2", likes(GOOD, 0.5))))
    table = tabulate_study(key, [tmp_path])
    assert table.participants == 1
    (left,) = table.left_out
    assert left.file.endswith("bad.json") and reason in left.reason and "\n" not in left.reason
    assert reason in markdown(table).replace("\\|", "|")


def test_files_that_are_no_answers_and_duplicates_are_left_out(tmp_path: Path) -> None:
    key = key_of()
    told = answers_of(key, "ann", likes(GOOD, 0.5))
    save_answers(tmp_path, "a", {**told, "answers": told["answers"][:5]})
    save_answers(tmp_path, "b", told)
    save_answers(tmp_path, "c", told)
    save_answers(tmp_path, "d", _spoil(told, choice=None))
    (tmp_path / "e.json").write_text('{"format": 1, "answers": [')
    (tmp_path / "f.json").write_bytes(b"\xff\xd8\xff")
    table = tabulate_study(key, [tmp_path, tmp_path / "nowhere.json"])
    reasons = {Path(one.file).stem: one.reason for one in table.left_out}
    assert table.participants == 1 and cell(table, GOOD).answers == 24
    assert reasons["a"].startswith("participant ann twice") and reasons["d"].startswith("participant ann twice")
    assert reasons["c"].startswith("the same file as") and reasons["nowhere"].startswith("cannot be read")
    assert reasons["e"] == reasons["f"] == "no JSON, or cut short"
    with pytest.raises(IntarsiaError, match=r"none of 1 files of answers counts; the first: .*e\.json: no JSON"):
        tabulate_study(key, [tmp_path / "e.json"])


def test_three_methods_have_a_table_each_pair_and_one_over_all(tmp_path: Path) -> None:
    methods = ("a1", "b2", "c3")
    key = key_of(methods)
    for number in range(6):
        told = answers_of(key, f"p{number}", lambda shown, _: shown.index(min(shown)))
        save_answers(tmp_path, str(number), told)
    table = tabulate_study(key, [tmp_path])
    shares = {method: cell(table, method, methods=()).share for method in methods}
    assert shares == {"a1": 1.0, "b2": 0.5, "c3": 0.0}
    assert cell(table, "b2", methods=("b2", "c3")).share == 1.0
    assert all(one.alpha is None for one in table.agreement)


def test_the_tables_are_written_and_say_the_same(tmp_path: Path) -> None:
    key = key_of()
    for number in range(6):
        save_answers(tmp_path / "in", str(number), answers_of(key, f"p{number}", likes(GOOD, 0.7, seed=number)))
    table = tabulate_study(key, [tmp_path / "in"])
    paths = write_study_tables(table, tmp_path / "out")
    text, rows, told, page = (path.read_text() for path in paths)
    one = cell(table, GOOD, "editing")
    assert one.low is not None and one.high is not None
    shown = f"{100 * one.share:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]"
    assert shown in text and shown in page
    lines = {(row["method"], row["task"], row["size"]): row for row in csv.DictReader(rows.splitlines())}
    assert float(lines[GOOD, "editing", "all"]["share"]) == one.share
    assert json.loads(told)["sides"]["counts"] == list(table.sides.counts)
    for tag in ("table", "tr", "td", "th", "li", "ul", "h1", "caption"):
        assert len(re.findall(f"<{tag}[ >]", page)) == page.count(f"</{tag}>")
    assert paths[0].read_text() == markdown(tabulate_study(key, [tmp_path / "in"]))
    with pytest.raises(IntarsiaError, match="exists already"):
        write_study_tables(table, tmp_path / "out")


def test_alpha_is_krippendorffs_example() -> None:
    """Four raters, twelve units, some missing: 0.743 (Krippendorff 2011, C)."""
    raters = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    units = {str(at): [row[at] for row in raters if row[at] != "."] for at in range(12)}
    alpha = krippendorff_alpha(units)
    assert alpha is not None and alpha == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha({"u": ["a"], "v": ["b"]}) is None
    assert krippendorff_alpha({"u": ["a", "a"], "v": ["b", "b"]}) == 1


@pytest.mark.parametrize(
    ("hits", "tries", "chance", "p"),
    [(60, 100, 0.5, 0.05688793364), (50, 100, 0.5, 1.0), (0, 0, 0.5, 1.0), (9, 12, 1 / 3, 0.00385555)],
)
def test_the_binomial_test_is_exact(hits: int, tries: int, chance: float, p: float) -> None:
    assert binomial_p(hits, tries, chance) == pytest.approx(p, rel=1e-5)


def test_few_participants_have_no_interval_and_those_of_one_mind_a_wide_one() -> None:
    bootstrap = ClusteredBootstrap(6)
    assert bootstrap.interval([4, 0, 3, 1, 0, 0], [4, 4, 4, 4, 0, 0]) is None
    assert bootstrap.interval([4, 0, 3, 1, 2, 0], [4, 4, 4, 4, 4, 0]) is not None
    alike = bootstrap.interval([4, 3, 4, 4, 4, 4], [4, 3, 4, 4, 4, 4])
    assert alike == pytest.approx((0.6097, 1), abs=1e-4)  # Wilson's of 6 answers of 6, not of 23
    half = bootstrap.interval([2, 1, 2, 2, 2, 2], [4, 2, 4, 4, 4, 4])
    assert half == pytest.approx((0.1876, 0.8124), abs=1e-4)


def test_a_question_of_several_lines_is_one_line_of_the_table(tmp_path: Path) -> None:
    key = replace(key_of(), ask="Which is better?\n\n# Look | twice")
    save_answers(tmp_path, "a", answers_of(key, "ann", likes(GOOD, 0.5)))
    text = markdown(tabulate_study(key, [tmp_path]))
    assert "- Asked: Which is better? # Look \\| twice\n" in text


def test_both_commands_work_and_fail_in_one_line(tmp_path: Path) -> None:
    bench: Benchmark = make_bench(tmp_path / "bench", rows=12)
    results = make_results(tmp_path / "results", bench)
    app = typer.Typer()
    register_study(app)
    call = CliRunner().invoke
    options = [f"--method={method}" for method in METHODS]
    options += ["--questions", "6", "-o", str(tmp_path / "out"), "--json"]
    done = call(app, ["study", str(bench.folder), str(results), *options])
    assert done.exit_code == 0 and json.loads(done.stdout)["questions"] == 6
    key = StudyKey.load(tmp_path / "out" / KEY)
    save_answers(tmp_path / "in", "ann", answers_of(key, "ann", likes(GOOD, 1.0)))
    save_answers(tmp_path / "in", "bob", {})
    table = ["study-table", str(tmp_path / "out" / KEY), str(tmp_path / "in"), "-o", str(tmp_path / "table")]
    done = call(app, table)
    assert done.exit_code == 0 and f"{GOOD} 100.0 %" in done.stdout
    assert "bob.json: no answers of a study page" in done.stderr
    for bad in (
        ["study", str(bench.folder), str(results), "-o", str(tmp_path / "x")],
        ["study", str(tmp_path / "nowhere"), str(results), *options],
        table,
        ["study-table", str(tmp_path / "in" / "ann.json"), str(tmp_path / "in"), "-o", str(tmp_path / "y")],
        ["study-table", str(tmp_path / "out" / KEY), str(tmp_path / "out"), "-o", str(tmp_path / "y")],
    ):
        done = call(app, bad)
        assert done.exit_code == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_the_key_is_made_by_make_study(tmp_path: Path) -> None:
    bench = make_bench(tmp_path / "bench", rows=12)
    results = make_results(tmp_path / "results", bench)
    key = make_study(bench.folder, results, tmp_path / "out", METHODS, questions=8)
    for number in range(3):
        save_answers(tmp_path / "in", str(number), answers_of(key, f"p{number}", likes(GOOD, 1.0)))
    assert cell(tabulate_study(tmp_path / "out" / KEY, [tmp_path / "in"]), GOOD).share == 1
