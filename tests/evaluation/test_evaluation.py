"""Cases with known truth, the judges' crop, and results that can be repeated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from intarsia.evaluation import Judges, JudgesError, Results
from intarsia.evaluation.card import GOALS, table, write_markdown
from intarsia.evaluation.cases import make_cases, photos_of
from intarsia.evaluation.judges import crop_around
from intarsia.evaluation.miniature import psnr
from intarsia.tabletop import Subject, level, split_of


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


def test_the_card_says_what_was_reached_and_what_was_not(tmp_path: Path) -> None:
    metrics = {
        "vae_psnr": {"value": 29.0, "n": 3, "seed": 1, "weights": "abc"},
        "text_class": {"value": 0.5, "n": 3, "seed": 1, "weights": "abc"},
        "bytes_changed_outside": {"value": 0, "n": 3, "seed": 1, "weights": "abc"},
    }
    rows = {line.split("`")[1]: line for line in table(metrics).splitlines()[2:]}
    assert set(rows) == set(GOALS)
    assert rows["vae_psnr"].endswith("| floor |")
    assert rows["text_class"].endswith("| 50.0 % | 3 | no |")
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
