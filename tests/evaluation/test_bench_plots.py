"""Curves over one setting, and what methods and numbers are called in them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.evaluation.bench_scores import benchmark_of, cells_of, results_of, rich

from intarsia.evaluation.bench.measures import in_order, measure_of, title_of
from intarsia.evaluation.bench.plots import draw_sweeps, sweeps_of
from intarsia.evaluation.bench.svg import Path as Line
from intarsia.evaluation.bench.svg import Point, chart, ticks


def test_a_curve_tells_how_many_rows_and_subjects_it_has(tmp_path: Path) -> None:
    methods = ("paper@lam=0.3", "paper@lam=1")
    for subjects, told in ((12, "editing: 24 rows of 12 subjects<"), (4, "4 subjects (fewer than 10: the intervals")):
        bench = benchmark_of(tmp_path / f"bench{subjects}", 48, subjects)
        cells = cells_of(bench, results_of(tmp_path / f"out{subjects}", bench, rich, methods))
        ((_, drawn),) = draw_sweeps(cells, sweeps_of(methods))
        assert told in drawn and ("fewer than" in drawn) == (subjects == 4)


def test_methods_and_variants_have_an_order_and_a_name() -> None:
    methods = {"truth", "paper@lam=1.0", "paper@lam=0.3", "zebra", "paper", "cut_and_paste", "default", "paper@a=b"}
    assert in_order(methods) == [
        "cut_and_paste", "paper", "paper@a=b", "paper@lam=0.3", "paper@lam=1.0", "default", "zebra", "truth",
    ]  # fmt: skip
    assert title_of("paper@lam=0.3,steps=5", {"paper": "P"}) == "P, lam 0.3, steps 5"
    found = sweeps_of(["paper", "paper@lam=0.3", "paper@lam=1", "paper@lam=x", "paper@a=1,b=2", "default@q=1"], {})
    assert [(one.base, one.field, one.points) for one in found] == [
        ("paper", "lam", ((0.3, "paper@lam=0.3"), (1.0, "paper@lam=1")))
    ]


def test_numbers_are_written_as_their_measure_wants() -> None:
    assert measure_of("top1").write(0.5) == "50.0" and measure_of("top1").head == "found among 50, % ↑"
    assert measure_of("kid_crop").write(-0.00123) == "\N{MINUS SIGN}1.23"
    assert measure_of("clip_t_crop").write(-0.0001) == "0.000"
    assert measure_of("kid_crop").head.endswith("↓") and measure_of("my_metric").head == "my metric"


def test_charts_have_round_numbers_and_stay_within() -> None:
    assert ticks(0.21, 0.345) == pytest.approx([0.22, 0.24, 0.26, 0.28, 0.3, 0.32, 0.34]) and ticks(0.5, 0.5) == [0.5]
    assert ticks(-3, 104) == pytest.approx([0, 20, 40, 60, 80, 100])
    points = (Point((60, None, None), (0.2, 0.1, 0.3), "60"), Point((240, 230, 250), (0.25, None, None), "<240>"))
    drawn = ElementTree.fromstring(chart("a & b", "x", "y", [Line("one", points)], places=[60, 240]))
    for circle in drawn.iter("circle"):
        assert 0 < float(circle.get("cx", 0)) < 340 and 0 < float(circle.get("cy", 0)) < 250
    assert {"60", "240", "<240>"} <= {text.text for text in drawn.iter("text")}
