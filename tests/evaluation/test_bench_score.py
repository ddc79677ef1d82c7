"""Scoring a small benchmark: what is written, what is left out, going on, and going again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from intarsia.cli import app
from intarsia.evaluation import Judges
from intarsia.evaluation.bench import (
    BenchError,
    Benchmark,
    BenchSubject,
    Result,
    Row,
    Shot,
    Truth,
    lineup,
    score_results,
    write_benchmark,
)
from intarsia.evaluation.bench import score as scoring
from intarsia.evaluation.bench.manifest import file_sha256
from intarsia.evaluation.bench.results_folder import write_run
from intarsia.evaluation.bench.row_scorer import RowScorer
from intarsia.evaluation.bench.scores_folder import read_features, read_scores
from intarsia.evaluation.bench.tabletop_encoders import tabletop_encoders
from intarsia.evaluation.cases import as_float, make_cases, photos_of, pixels_of
from intarsia.tabletop import Subject, level, split_seed

ENCODERS = tabletop_encoders()


@pytest.fixture(scope="module", autouse=True)
def few_candidates() -> Iterator[None]:
    """Three candidates, seen once each, and parts of two rows: rendering is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lineup, "GALLERY", 3)
        patch.setattr(lineup, "VIEWS", 1)
        patch.setattr(lineup, "EDITED_VIEWS", 1)
        patch.setattr(scoring, "_CHUNK", 2)
        yield


def save(folder: Path, name: str, pixels: Any) -> tuple[str, str]:
    """Its name and its hash."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)
    return name, file_sha256(folder / name)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Two subjects, each once as it is and once in another colour."""
    folder, world = tmp_path_factory.mktemp("bench"), level("small")
    seeds = {f"s{n}": split_seed("test", 10 + n) for n in range(2)}
    rows, subjects = [], {}
    for key, seed in seeds.items():
        subject = Subject.sample(seed, world)
        shots = []
        for n, (pixels, mask) in enumerate(photos_of([subject], world, 2, side=64)[0]):
            image, cut = save(folder, f"photos/{key}-{n}.png", pixels), save(folder, f"photos/{key}-{n}-mask.png", mask)
            shots.append(Shot(*image, *cut))
        subjects[key] = BenchSubject(subject.name, tuple(shots), subject.attributes)
        case = make_cases(1, world, seed, 96, [subject])[0]
        colour = next(c for c in world.colours if c not in (subject.colour, subject.second_colour))
        for task, changes in (("identity", {}), ("editing", {"colour": colour})):
            shown = replace(subject, **changes)
            present = pixels_of([case.scene.with_subject(0, shown)], 96)[0][0]
            true = Truth(*save(folder, f"truth/{key}-{task}.png", present), shown.attributes, changes)
            scene, mask = save(folder, f"scenes/{key}.png", case.absent), save(folder, f"masks/{key}.png", case.mask)
            words = f"a photo of a {changes.get('colour', '')} {subject.name}".replace("  ", " ")
            edit = "colour" if changes else None
            rows.append(
                Row(f"{key}-{task}", task, *scene, *mask, key, subject.name, words, 0, "medium", "box", edit, true)  # type: ignore[arg-type]
            )
    write_benchmark(folder, "tabletop", rows, subjects, {"level": "small", "subject_seeds": seeds})
    return Benchmark.open(folder)


@pytest.fixture
def results(benchmark: Benchmark, tmp_path: Path) -> Path:
    """Of "scene", which changes nothing, and of "painted", the truth with a grain."""
    write_run(tmp_path, {"manifest_sha256": benchmark.manifest_sha256, "methods": {}})
    lines = []
    for number, row in enumerate(benchmark.rows):
        assert row.truth is not None
        true = np.asarray(Image.open(benchmark.folder / row.truth.present).convert("RGB")).astype(int)
        grain = np.random.default_rng(number).normal(0, 4, true.shape)
        for method in ("scene", "painted"):
            place = tmp_path / "pictures" / method / f"{row.id}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            if method == "scene":
                shutil.copy(benchmark.folder / row.scene, place)
            else:
                Image.fromarray((true + grain).clip(0, 255).astype(np.uint8)).save(place)
            lines.append(Result(row.id, method, 0, place.relative_to(tmp_path).as_posix(), file_sha256(place), 1.0))
    write_lines(tmp_path, lines)
    return tmp_path


def write_lines(results: Path, lines: list[Result]) -> None:
    (results / "lines").mkdir(exist_ok=True)
    text = "".join(json.dumps(asdict(line)) + "\n" for line in lines)
    (results / "lines" / "a.jsonl").write_text(text)


def lines_of(results: Path) -> list[Result]:
    return [Result(**json.loads(line)) for line in (results / "lines" / "a.jsonl").read_text().splitlines()]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_scores_say_what_is_true_of_the_pictures(benchmark: Benchmark, results: Path) -> None:
    folder = score_results(benchmark, results, encoders=ENCODERS)
    assert folder == results / "scores" / "tabletop"
    found = read_scores(folder)
    ids = [row.id for row in benchmark.rows]
    assert [(s.method, s.row) for s in found] == [(m, row) for m in ("painted", "scene", "truth") for row in ids]
    values = {(s.method, s.row): s.values for s in found}
    for row in benchmark.rows:
        same, painted, true = (values[method, row.id] for method in ("scene", "painted", "truth"))
        assert same["psnr_outside"] == 100 and same["bytes_outside"] == 0 and same["lpips_outside"] == 0
        assert 25 < painted["psnr_outside"] < 45 and painted["bytes_outside"] > 1000 and painted["lpips_outside"] > 0
        for metric in ("clip_i_crop", "dino_crop"):
            assert row.task == "editing" or true[metric] > same[metric] + 0.2
            assert abs(true[metric] - painted[metric]) < 0.1
        assert true["seam"] > same["seam"]
        assert (true["attribute"] is None) == (row.task == "identity")
        assert all(value is None or np.isfinite(value) for value in true.values())
    assert np.mean([values["truth", row]["top1"] for row in ids]) > np.mean(
        [values["scene", row]["top1"] for row in ids]
    )
    edited = [row.id for row in benchmark.rows if row.task == "editing"]
    assert [values["truth", row]["attribute"] for row in edited] == [1.0] * len(edited)
    for method in ("painted", "truth"):
        features = read_features(folder, method)
        assert features is not None and features.rows == tuple(ids)
        assert features.crop.shape == features.whole.shape == (len(ids), 192)
        assert not np.allclose(features.crop, features.whole, atol=0.1)
    reference, own = read_features(folder, "reference"), read_features(folder, "truth")
    assert reference is not None and own is not None and np.array_equal(reference.crop, own.crop)
    about = json.loads((folder / "encoders.json").read_text())
    assert about["judges"] == Judges.load().hash == about["metrics"]["top1"]["hash"]
    assert set(about["metrics"]) >= {"clip_t_crop", "clip_i_whole", "dino_crop", "kid_crop", "fid_whole"}


def test_scoring_goes_on_and_gives_the_same_bytes(
    benchmark: Benchmark, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = score_results(benchmark, results, encoders=ENCODERS)
    first = files_of(folder)
    shutil.rmtree(folder)
    asked: list[int] = []
    usual = RowScorer.score

    def stops(self: RowScorer, rows: Any, pictures: Any) -> Any:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(len(rows))
        return usual(self, rows, pictures)

    monkeypatch.setattr(RowScorer, "score", stops)
    with pytest.raises(KeyboardInterrupt):
        score_results(benchmark, results, encoders=ENCODERS)
    assert not (folder / "scores.jsonl").exists()
    asked.clear()
    score_results(benchmark, results, encoders=ENCODERS)
    assert len(asked) == 3 and files_of(folder) == first  # three of six parts were there
    damaged = next((folder / "parts").rglob("*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:50])
    asked.clear()
    score_results(benchmark, results, encoders=ENCODERS)
    assert len(asked) == 1 and files_of(folder) == first


def test_pictures_that_cannot_be_used_are_left_out_and_listed(benchmark: Benchmark, results: Path) -> None:
    lines = lines_of(results)
    ids = [row.id for row in benchmark.rows]
    at = {(line.method, line.row): n for n, line in enumerate(lines)}

    def change(method: str, row: str, **values: Any) -> None:
        lines[at[method, row]] = replace(lines[at[method, row]], **values)

    (results / str(lines[at["painted", ids[0]]].picture)).unlink()
    small = results / "pictures" / "painted" / "small.png"
    Image.new("RGB", (20, 30)).save(small)
    change("painted", ids[1], picture="pictures/painted/small.png", picture_sha256=file_sha256(small))
    change("painted", ids[2], picture=None, picture_sha256=None, error="out of memory: at step 3")
    change("scene", ids[0], picture_sha256="0" * 64)
    text = results / "pictures" / "scene" / "text.png"
    text.write_text("no picture")
    change("scene", ids[1], picture="pictures/scene/text.png", picture_sha256=file_sha256(text))
    change("scene", ids[2], picture="../elsewhere.png")
    write_lines(results, [*lines, Result("no such row", "scene", 0, None, None, 0.0)])
    folder = score_results(benchmark, results, encoders=ENCODERS)
    told = json.loads((folder / "left_out.json").read_text())
    reasons = {(one["method"], one["row"]): one["reason"] for one in told["results"]}
    assert reasons["painted", ids[0]] == "picture missing"
    assert reasons["painted", ids[1]] == "other size: 20x30, its scene 96x96"
    assert reasons["painted", ids[2]] == "failed: out of memory: at step 3"
    assert reasons["scene", ids[0]].startswith("picture changed")
    assert reasons["scene", ids[1]].startswith("picture unreadable")
    assert reasons["scene", ids[2]].startswith("failed: no picture in")
    assert told["counts"]["failed"] == 2 and len(reasons) == 6
    scored = {(s.method, s.row) for s in read_scores(folder)}
    assert scored == {(m, row) for m in ("painted", "scene", "truth") for row in ids} - set(reasons)


def test_methods_are_chosen_and_faults_are_named(benchmark: Benchmark, results: Path, tmp_path: Path) -> None:
    folder = score_results(benchmark.limited(2), results, encoders=ENCODERS, methods=["scene"])
    assert {s.method for s in read_scores(folder)} == {"scene", "truth"}
    assert sorted(path.stem for path in (folder / "features").iterdir()) == ["reference", "scene", "truth"]
    with pytest.raises(BenchError, match=r"no results of 'paper'.*painted, scene"):
        score_results(benchmark, results, encoders=ENCODERS, methods=["paper"])
    with pytest.raises(BenchError, match="use tabletop or real"):
        score_results(benchmark, results, encoders="clip")
    with pytest.raises(BenchError, match="'dino' is given"):
        score_results(benchmark, results, models={"dino": "folder"})
    with pytest.raises(BenchError, match="another benchmark"):
        score_results(replace(benchmark, manifest_sha256="0"), results, encoders=ENCODERS)
    with pytest.raises(BenchError, match="bench run"):
        score_results(benchmark, tmp_path / "nowhere", encoders=ENCODERS)
    with pytest.raises(BenchError, match="holds 0 pictures"):
        score_results(benchmark, results, encoders=ENCODERS, reference=tmp_path / "nowhere")


def test_a_folder_of_real_pictures_is_what_fid_compares_with(benchmark: Benchmark, results: Path) -> None:
    real = results / "real"
    real.mkdir()
    for number in range(3):
        Image.new("RGB", (40 + number, 30), (90 * number, 20, 80)).save(real / f"{number}.png")
    folder = score_results(benchmark.limited(2), results, encoders=ENCODERS, methods=["scene"], reference=real)
    found = read_features(folder, "reference")
    assert found is not None and found.rows == () and len(found.crop) == 0
    pictures = [np.asarray(Image.open(path)) for path in sorted(real.iterdir())]
    assert ENCODERS.features is not None
    assert np.allclose(found.whole, ENCODERS.features.images(pictures), atol=1e-5)


def test_a_network_has_no_say_inside_the_mask(benchmark: Benchmark) -> None:
    scorer, row = RowScorer(benchmark, ENCODERS), benchmark.rows[0]
    scene, mask = scorer.scene(row)
    inside, outside = scene.copy(), scene.copy()
    inside[mask] = 255 - inside[mask]
    outside[0, 0] ^= 64
    values = [told["lpips_outside"] for told in scorer.score([row, row], [inside, outside]).values]
    assert values[0] == 0 and values[1] > 0
    assert ENCODERS.perceptual is not None
    maps = ENCODERS.perceptual.maps(scene)
    assert [len(weights) for weights in ENCODERS.perceptual.weights] == [x.shape[1] for x in maps]
    pooled = torch.cat([maps[-1].mean((2, 3)), maps[-1].amax((2, 3))], 1)
    with torch.no_grad():
        whole = torch.from_numpy(as_float(scene)).permute(2, 0, 1)[None] * 2 - 1
        assert torch.allclose(pooled, Judges.load().attributes.trunk(whole), atol=1e-4)


def test_the_command_scores_and_tells(benchmark: Benchmark, results: Path) -> None:
    lines = lines_of(results)
    (results / str(lines[0].picture)).unlink()
    done = CliRunner().invoke(
        app, ["bench", "score", str(benchmark.folder), str(results), "--method", "scene", "--json"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["scored"] == {"scene": 3, "truth": 4} and told["left_out"] == {"picture missing": 1}
    assert f"left out scene of row {lines[0].row}: picture missing" in done.stderr
    for arguments, words in (
        (["--encoders", "clip"], "use tabletop or real"),
        (["--clip", "folder"], "'clip' is given"),
        (["--method", "none"], "no results of 'none'"),
        (["--encoders", "real", "--dino", "none"], "need a dino"),
        (["--reference", "nowhere"], "holds 0 pictures"),
    ):
        failed = CliRunner().invoke(app, ["bench", "score", str(benchmark.folder), str(results), *arguments])
        assert failed.exit_code == 2 and words in failed.stderr, failed.output
        assert len(failed.stderr.strip().splitlines()) == 1
