"""The quadruplet engine as a whole, on drawn scenes with known truth."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from tests.engines.quadruplet_scenes import THRESHOLDS, PixelScorer, draw_scenes

from intarsia.engines import EngineChangedError, EngineError, read_rows
from intarsia.engines.quadruplets import (
    Blacklist,
    list_photos,
    quadruplet_steps,
    read_quadruplets,
    recut_quadruplets,
    run_quadruplets,
)
from intarsia.errors import IntarsiaError, KnobError, OutputExistsError
from intarsia.evaluation.quadruplets import fault_of, measure_quadruplets, write_tabletop
from intarsia.perception import Helpers, Noise, Truth, Vocabulary

COUNT = 60


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_scenes(tmp_path_factory.mktemp("photos"), COUNT)


@pytest.fixture(autouse=True)
def pixels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Helpers, "load_scorer", lambda self: PixelScorer())


def helpers(photos: Path, noise: float = 0.2, seed: int = 0) -> Helpers:
    return Helpers(folder=photos, noise=Noise(noise, seed))


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_without_noise_nearly_all_is_kept_and_right(photos: Path, tmp_path: Path) -> None:
    run_quadruplets(photos, tmp_path / "out", helpers(photos, 0.0), thresholds=THRESHOLDS)
    report = measure_quadruplets(tmp_path / "out", photos)
    assert report.precision == report.precision_before == 1 and report.recall >= 0.95


def test_filters_earn_their_precision_under_noise(photos: Path, tmp_path: Path) -> None:
    run_quadruplets(photos, tmp_path / "out", helpers(photos), thresholds=THRESHOLDS)
    report = measure_quadruplets(tmp_path / "out", photos)
    assert 0.4 < report.precision_before < 0.75
    assert report.precision >= 0.93 and report.kept >= 25 and report.candidate_recall > 0.25
    assert f"{report.precision:.1%}" in str(report) and report.to_json()["kept"] == report.kept


def test_the_same_run_gives_the_same_bytes_and_another_seed_others(photos: Path, tmp_path: Path) -> None:
    small = tmp_path / "few"
    small.mkdir()
    for path in sorted(photos.iterdir())[:16]:
        (small / path.name).write_bytes(path.read_bytes())
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        run_quadruplets(small, tmp_path / name, helpers(small, seed=seed), thresholds=THRESHOLDS, shard_size=3)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two") != files_of(tmp_path / "other")
    before = files_of(tmp_path / "one")
    report = run_quadruplets(small, tmp_path / "one", helpers(small), thresholds=THRESHOLDS, shard_size=3)
    assert report.shards_resumed == report.shards and files_of(tmp_path / "one") == before
    with pytest.raises(EngineChangedError):
        run_quadruplets(small, tmp_path / "one", helpers(small, 0.3), thresholds=THRESHOLDS, shard_size=3)


def test_steps_travel_to_other_processes(photos: Path) -> None:
    steps = quadruplet_steps(photos, helpers(photos), Blacklist.load())
    assert pickle.loads(pickle.dumps(steps)) is not steps
    (row,) = pickle.loads(pickle.dumps(steps))[0].make()(list_photos(photos)[0])
    assert row["image.png"] == (photos / row["source"]).read_bytes()


def test_cutting_again_is_a_fresh_run_with_the_new_thresholds(photos: Path, tmp_path: Path) -> None:
    looser = {**THRESHOLDS, "box_score": (0.0, None), "captions_agree": (0.0, None)}
    run_quadruplets(photos, tmp_path / "strict", helpers(photos), thresholds=THRESHOLDS)
    run_quadruplets(photos, tmp_path / "loose", helpers(photos), thresholds=looser)
    recut_quadruplets(tmp_path / "strict", tmp_path / "cut", looser)
    for one, other in (("strict", "loose"), ("cut", "loose")):
        same = (tmp_path / one / "selection.parquet").read_bytes() == (
            tmp_path / other / "selection.parquet"
        ).read_bytes()
        assert same is (one == "cut")
    fresh = [made.row["key"] for made in read_quadruplets(tmp_path / "loose")]
    again = [made.row["key"] for made in read_quadruplets(tmp_path / "strict", cut=tmp_path / "cut")]
    strict = [made.row["key"] for made in read_quadruplets(tmp_path / "strict")]
    assert fresh == again and set(strict) < set(fresh)


def test_what_is_read_back_belongs_together(photos: Path, tmp_path: Path) -> None:
    run_quadruplets(photos, tmp_path / "out", helpers(photos, 0.0), thresholds=THRESHOLDS, shard_size=7)
    for made in read_quadruplets(tmp_path / "out"):
        x, y, w, h = made.box
        inside = made.mask[y : y + h, x : x + w]
        assert made.mask.sum() == inside.sum() == (made.subject[..., 3] == 255).sum()
        assert np.array_equal(made.scene[y : y + h, x : x + w][inside], made.subject[inside][:, :3])
        assert made.rejected is None and made.row["source"].endswith(".png")
    with pytest.raises(EngineError, match="holds no"):
        next(read_quadruplets(tmp_path))


def test_rejected_rows_keep_their_scores(photos: Path, tmp_path: Path) -> None:
    run_quadruplets(photos, tmp_path / "out", helpers(photos), thresholds={**THRESHOLDS, "box_score": (0.99, None)})
    assert list(read_quadruplets(tmp_path / "out")) == []
    rows = [row for row in read_rows(tmp_path / "out").to_pylist() if row["instance"] == 1]
    scored = [row for row in rows if row["caption"] is not None]
    assert len(scored) > COUNT and all(row["colour_margin"] is not None for row in scored)


def test_what_counts_as_right(photos: Path, tmp_path: Path) -> None:
    run_quadruplets(photos, tmp_path / "out", helpers(photos, 0.0), thresholds=THRESHOLDS)
    vocabulary = Vocabulary.load()
    for made in read_quadruplets(tmp_path / "out"):
        truth = Truth.load(photos / made.row["source"])
        number, fault = fault_of(made, truth, vocabulary)
        noun, colour = truth.objects[number].nouns[0], truth.objects[number].colours[0]
        hat = truth.objects[number].attributes.get("accessories")
        assert fault is None

        def judged(caption: str, made: object = made, truth: Truth = truth) -> str | None:
            return fault_of(dataclasses.replace(made, caption=caption), truth, vocabulary)[1]  # type: ignore[type-var]

        other = next(word for word in truth.words["colour"] if word != colour)
        assert judged(f"a {colour} {noun}") is None and judged(f"a {noun}") == "colour"
        assert judged(f"a {other} {noun}") == "colour" and judged(f"a {colour} thing") == "noun"
        strange = next(word for word in truth.words["nouns"] if word != noun)
        assert judged(f"a {colour} {strange}") == "noun" and judged(f"a {colour} {noun} and {strange}") == "noun"
        assert judged(f"a {colour} {noun} wearing a green scarf") == "accessories"
        assert judged(f"a {colour} {noun} with white stripes") == "pattern"
        if hat is not None:
            assert judged(f"a {colour} {noun} wearing a {hat}") is None
            assert judged(f"a {colour} {noun} wearing a black hat") == "accessories"
        half = dataclasses.replace(made, mask=made.mask & (np.indices(made.mask.shape)[1] % 3 > 0))
        assert fault_of(half, truth, vocabulary)[1] == "mask"


def test_rendered_scenes_have_their_truth_beside_them(tmp_path: Path) -> None:
    assert write_tabletop(tmp_path / "a", 2, seed=5, side=48) == 2
    assert write_tabletop(tmp_path / "a", 3, seed=5, side=48) == 1, "those that are there stay"
    write_tabletop(tmp_path / "b", 3, seed=5, side=48)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    truth = Truth.load(tmp_path / "a" / "00000.png")
    assert truth.size == (48, 48) and truth.objects and "table" in truth.background
    with pytest.raises(OutputExistsError, match="something else"):
        write_tabletop(tmp_path / "a", 3, seed=6, side=48)
    for arguments in ({"count": 0}, {"count": 1, "side": 8}, {"count": 1, "seed": -1}):
        with pytest.raises(KnobError):
            write_tabletop(tmp_path / "c", **arguments)
    with pytest.raises(IntarsiaError, match="unknown Tabletop level"):
        write_tabletop(tmp_path / "c", 1, level_name="huge")
