"""Cases with known truth, the judges' crop, and results that can be repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest_tiny import save_tiny, tiny_backbone

from intarsia.editing import Studio
from intarsia.evaluation import Judges, JudgesError, MiniatureBench, Results, ResultsError
from intarsia.evaluation.__main__ import main
from intarsia.evaluation.card import GOALS, beside, interval, table, write_markdown
from intarsia.evaluation.cases import make_cases, photos_of
from intarsia.evaluation.judges import crop_around
from intarsia.evaluation.miniature import KINDS, psnr, within
from intarsia.imaging import Picture
from intarsia.learning import LearnConfig
from intarsia.result import EditResult
from intarsia.tabletop import Subject, level, split_of
from intarsia.training import AttributeJudge, InstanceJudge


def test_cases_come_from_the_test_split_and_hold_the_truth() -> None:
    cases = make_cases(3, level("small"), seed=4, side=64)
    for case in cases:
        assert split_of(case.subject.seed) == "test"
        assert (case.mask | ~case.silhouette).all() or (case.mask & case.silhouette).sum() > 0.9 * case.silhouette.sum()
        untouched = ~case.full
        assert np.abs(case.present[untouched].astype(int) - case.absent[untouched].astype(int)).max() <= 5
        assert (case.present[case.silhouette] != case.absent[case.silhouette]).any()
    again = make_cases(3, level("small"), seed=4, side=64)
    for a, b in zip(cases, again, strict=True):
        assert np.array_equal(a.absent, b.absent) and np.array_equal(a.mask, b.mask)


def test_cases_of_given_subjects_show_them() -> None:
    subject = Subject.sample(19, level("small"))
    assert [c.subject for c in make_cases(2, level("small"), 1, 64, [subject])] == [subject, subject]
    shots = photos_of([subject], level("small"), 3, 48)[0]
    assert len(shots) == 3
    assert all(mask.any() for _, mask in shots)


@pytest.mark.parametrize("size", [(40, 90), (200, 130)])
def test_the_judges_crop_centres_the_mask(size: tuple[int, int]) -> None:
    mask = np.zeros(size, bool)
    mask[10:30, 15:35] = True
    rgb = np.repeat(mask[..., None], 3, 2).astype(np.float32)
    crop = (crop_around(rgb, mask, margin=2.0)[0].numpy() + 1) / 2
    assert crop[32, 32] > 0.9
    assert abs(crop.mean() - 0.25) < 0.03
    assert np.allclose(crop, crop[::-1], atol=0.35) and np.allclose(crop, crop[:, ::-1], atol=0.35)


def test_psnr_by_hand() -> None:
    a = np.zeros((2, 2, 3), np.uint8)
    b = a.copy()
    b[0, 0] = 255
    where = np.array([[True, True], [False, False]])
    assert psnr(a, b, where) == pytest.approx(10 * np.log10(2))


def test_results_are_kept_for_the_same_weights_only(tmp_path: Path) -> None:
    path = tmp_path / "results" / "miniature.json"
    Results.open(path, "aaa", 1).add("vae_psnr", 30.123456, 5)
    assert json.loads(path.read_text()) == {
        "metrics": {"vae_psnr": {"value": 30.1235, "n": 5, "seed": 1, "weights": "aaa"}}
    }
    assert Results.open(path, "aaa", 1).metrics
    assert not Results.open(path, "bbb", 1).metrics


def test_numbers_of_other_judges_are_dropped_and_odd_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "miniature.json"
    results = Results.open(path, "aaa", 1, "judge-1")
    results.add("vae_psnr", 30.0, 5)
    results.add("text_class", 0.5, 5, judged=True, learn_steps=3)
    assert results.metrics["text_class"]["judges"] == "judge-1" and results.metrics["text_class"]["learn_steps"] == 3
    assert set(Results.open(path, "aaa", 1, "judge-1").metrics) == {"vae_psnr", "text_class"}
    assert set(Results.open(path, "aaa", 1, "judge-2").metrics) == {"vae_psnr"}
    before = path.read_bytes()
    for value, n in ((float("nan"), 5), (1.0, 0)):
        with pytest.raises(ResultsError, match="at least one sample"):
            results.add("text_class", value, n)
    assert path.read_bytes() == before
    for text in ("not json", "[]", '{"metrics": {"vae_psnr": 3}}'):
        path.write_text(text)
        with pytest.raises(ResultsError, match=r"miniature\.json"):
            Results.open(path, "aaa", 1)


def test_the_card_says_what_was_reached_and_what_was_not(tmp_path: Path) -> None:
    metrics = {
        "vae_psnr": {"value": 29.0, "n": 3, "seed": 1, "weights": "abc"},
        "text_class": {"value": 0.5, "n": 3, "seed": 1, "weights": "abc"},
        "bytes_changed_outside": {"value": 0, "n": 3, "seed": 1, "weights": "abc"},
    }
    rows = {line.split("`")[1]: line for line in table(metrics).splitlines()[2:]}
    assert set(rows) == set(GOALS)
    assert rows["vae_psnr"].endswith("| floor |")
    assert rows["text_class"].endswith("| 50.0 % (13 to 87) | 3 | no |")
    assert rows["bytes_changed_outside"].endswith("| aim |")
    assert "not measured" in rows["learned_top1"]
    (tmp_path / "model_card.json").write_text(
        json.dumps(
            {
                "level": "small", "native_size": 64, "license": "Apache-2.0",
                "recipe_hash": "feed", "recipe": {"scale": "cpu"},
                "stages": {"vae": {"images": 8, "loss": 0.1, "seconds": 60}},
            }
        )
    )  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps({"metrics": metrics}))
    write_markdown(tmp_path, tmp_path / "r.json", tmp_path / "CARD.md")
    text = (tmp_path / "CARD.md").read_text()
    assert "| vae | 8 | 0.1000 | 1.0 |" in text and "feed" in text


def test_missing_judges_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(JudgesError, match=r"intarsia\.training"):
        Judges.load(tmp_path)


def test_the_interval_is_wilsons() -> None:
    assert interval(0.5, 30) == pytest.approx((0.331, 0.669), abs=1e-3)
    assert interval(0.0, 10) == pytest.approx((0.0, 0.278), abs=1e-3)
    assert interval(1.0, 10) == pytest.approx((0.722, 1.0), abs=1e-3)


def test_the_card_tells_the_controls_and_unusual_learning() -> None:
    row = {"value": 0.2, "n": 30, "seed": 1, "weights": "abc"}
    text = beside({"words_top1": row, "learned_top1": {**row, "learn_steps": 40}})
    assert "`words_top1`): 20.0 % (10 to 37), n = 30" in text and "40 steps" in text
    assert beside({}) == "- not measured"


def test_within_reaches_so_many_pixels() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    assert within(mask, 0).sum() == 1 and within(mask, 2).sum() == 25


class Careless:
    """A studio that changes one pixel far from the mask and reports everything as support."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def insert(self, *args: Any, **options: Any) -> EditResult:
        return self._spoiled(self.studio.insert(*args, **options))

    def remove(self, *args: Any, **options: Any) -> EditResult:
        return self._spoiled(self.studio.remove(*args, **options))

    def _spoiled(self, result: EditResult) -> EditResult:
        pixels = result.picture.pixels.copy()
        pixels[:] ^= 1
        support = np.ones_like(result.support)
        return replace(result, picture=Picture.from_array(pixels), support=support)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> MiniatureBench:
    """A tiny random model and random judges."""
    torch.manual_seed(0)
    world = level("small")
    judges = Judges(AttributeJudge(8, world).eval(), InstanceJudge(8, 8).eval(), world, "random")
    path = tmp_path_factory.mktemp("results") / "miniature.json"
    studio = Studio(tiny_backbone())
    return MiniatureBench(studio, judges, Results.open(path, studio.backbone.hash, 1, "random"), say=lambda line: None)


def test_untouched_is_counted_whatever_support_is_reported(bench: MiniatureBench) -> None:
    bench.untouched(4)
    assert bench.results.metrics["bytes_changed_outside"]["value"] == 0
    honest, bench.studio = bench.studio, Careless(bench.studio)  # type: ignore[assignment]
    bench.untouched(2)
    bench.studio = honest
    assert bench.results.metrics["bytes_changed_outside"]["value"] > 0  # type: ignore[operator]


def test_every_part_writes_its_keys(bench: MiniatureBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intarsia.evaluation.miniature.GALLERY", 2)
    insert, remove = bench.studio.insert, bench.studio.remove
    monkeypatch.setattr(bench.studio, "insert", partial(insert, steps=1))
    monkeypatch.setattr(bench.studio, "remove", partial(remove, steps=1))
    learn = LearnConfig.preset("smoke", steps=1, regular_images=0)
    monkeypatch.setattr(LearnConfig, "preset", lambda name, steps: learn)
    bench.vae(3)
    bench.text(2)
    bench.judges_on_renders(2)
    bench.removal(1)
    bench.learned(1, photos=2, steps=1)
    rows = bench.results.metrics
    assert set(GOALS) <= set(rows)
    assert {f"judge_{kind}" for kind in KINDS} <= set(rows)
    assert rows["vae_psnr"]["n"] == 3 and rows["text_class"]["n"] == 2 and rows["edit_attribute"]["n"] == 3
    assert rows["edit_top1"]["learn_steps"] == 1 and rows["text_class"]["judges"] == "random"
    assert rows["removal_psnr_fill"]["value"] > 5  # type: ignore[operator]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "0"], "0 is not 1 or more"),
        (["--only"], "expected at least one"),
        (["--only", "everything"], "'everything'"),
        (["--model", "imaginary"], "error: unknown model 'imaginary'"),
        (["--judges", "nowhere"], "error: no judges in nowhere"),
        (["--card", "CARD.md"], "model_card.json"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = [] if arguments[0] == "--model" else ["--model", str(tmp_path / "tiny")]
    if arguments[0] in ("--judges", "--card"):
        save_tiny(tiny_backbone(), tmp_path / "tiny")
    monkeypatch.setattr("sys.argv", ["evaluation", *model, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} <= {"tiny"}
