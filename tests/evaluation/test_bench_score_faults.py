"""Scoring goes on past what it cannot use, says so, and sees pictures upright."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.study_world import METHODS, SIDE, make_bench, make_results, noise
from typer.testing import CliRunner

from intarsia.cli import app
from intarsia.evaluation.bench import (
    BenchError,
    Benchmark,
    BenchSubject,
    EncoderSet,
    Row,
    Shot,
    score_results,
    write_benchmark,
)
from intarsia.evaluation.bench import score as scoring
from intarsia.evaluation.bench.manifest import file_sha256
from intarsia.evaluation.bench.results_folder import Result, ResultLines, write_run
from intarsia.evaluation.bench.scores_folder import read_features, read_scores

ORIENTATION = 0x0112


class Colours:
    """The mean colour of each picture; of ``poison`` there is none."""

    name, hash = "mean colour", "0"

    def __init__(self, poison: Any = None) -> None:
        self.poison, self.seen = poison, list[Any]()

    def images(self, crops: Sequence[Any]) -> Any:
        self.seen += crops
        if self.poison is not None and any(np.array_equal(crop, self.poison) for crop in crops):
            raise RuntimeError("singular\nand more")
        return np.array([crop.reshape(-1, 3).mean(0) for crop in crops], np.float32)

    def texts(self, texts: Sequence[str]) -> Any:
        return np.ones((len(texts), 3), np.float32)


def encoders(clip: Colours | None = None) -> EncoderSet:
    return EncoderSet("fake", clip=clip or Colours(), dino=Colours(), features=Colours())


@pytest.fixture
def bench(tmp_path: Path) -> Benchmark:
    return make_bench(tmp_path / "bench", rows=8)


@pytest.fixture
def results(bench: Benchmark, tmp_path: Path) -> Path:
    return make_results(tmp_path / "results", bench)


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "left_out.json").read_text())
    return found


def test_what_is_passed_over_is_counted(bench: Benchmark, results: Path) -> None:
    lines = ResultLines(results, "1")
    picture = f"pictures/{METHODS[1]}/r000.png"
    digest = file_sha256(results / picture)
    for row, method in (("r000", "nested/method"), ("r001", ".."), ("r999", METHODS[1])):
        lines.add(Result(row, method, 0, picture, digest, 1.0))
    with (results / "lines" / "1.jsonl").open("a") as file:
        file.write("{broken\n")
    folder = score_results(bench, results, encoders=encoders())
    assert told(folder)["passed_over"] == {
        "the method's name '..' is no folder's": 1,
        "the method's name 'nested/method' is no folder's": 1,
        "the row is none of those that are scored": 1,
    }
    assert told(folder)["broken_lines"] == {"1.jsonl": 1}
    assert len(read_scores(folder)) == 16


def test_the_command_says_what_was_passed_over_and_that_there_is_no_fid(
    bench: Benchmark, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ResultLines(results, "1").add(Result("r999", METHODS[1], 0, None, None, 1.0, "late"))
    monkeypatch.setattr(scoring, "encoder_set", lambda *_: encoders())
    command = ["bench", "score", str(bench.folder), str(results), "--encoders", "real", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "warning: passed over 1 results: the row is none of those" in done.stderr.replace("\n", " ")
    assert "FID and KID are not measured" in done.stderr
    assert json.loads(done.stdout)["passed_over"] == {"the row is none of those that are scored": 1}
    done = CliRunner().invoke(app, [*command, "--reference", str(bench.folder / "scenes")])
    assert done.exit_code == 0 and "FID and KID" not in done.stderr


def test_one_picture_never_ends_the_scoring(bench: Benchmark, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_CHUNK", 4)
    poison = results / "pictures" / METHODS[1] / "r002.png"
    clip = Colours(np.asarray(Image.open(poison).convert("RGB")))
    folder = score_results(bench, results, encoders=encoders(clip))
    (left,) = told(folder)["results"]
    assert left == {"row": "r002", "method": METHODS[1], "reason": "cannot be measured: singular"}
    assert len(read_scores(folder)) == 15
    features = read_features(folder, METHODS[1])
    assert features is not None and len(features.rows) == len(features.crop) == 7 and "r002" not in features.rows
    clip.poison = None  # what may have been the machine's fault is tried again
    folder = score_results(bench, results, encoders=encoders(clip))
    assert told(folder)["results"] == [] and len(read_scores(folder)) == 16


def test_an_encoder_that_fails_with_every_picture_is_told(bench: Benchmark, results: Path) -> None:
    class Broken(Colours):
        def texts(self, texts: Sequence[str]) -> Any:
            raise MemoryError("the machine's fault")

    with pytest.raises(MemoryError, match="machine"):
        score_results(bench, results, encoders=encoders(Broken()))


def test_pictures_that_pillow_chokes_on_are_left_out(
    bench: Benchmark, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of too many pixels, a torn scene whose hash is right, and a photo that is none."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    large = results / "pictures" / METHODS[1] / "r001.png"
    noise(large, 1, side=60)
    lines = (results / "lines" / "0.jsonl").read_text().splitlines()
    changed = [json.loads(line) for line in lines]
    for line in changed:
        if line["picture"] == large.relative_to(results).as_posix():
            line["picture_sha256"] = file_sha256(large)
    (results / "lines" / "0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    scene = bench.folder / bench.rows[3].scene
    scene.write_bytes(scene.read_bytes()[:-300])
    (bench.folder / "subjects" / "s2-1.png").write_text("no picture")
    folder = score_results(bench, results, encoders=encoders())
    reasons = {(one["method"], one["row"]): one["reason"] for one in told(folder)["results"]}
    assert reasons.pop((METHODS[1], "r001")).startswith("picture unreadable: ")
    for method in METHODS:
        assert reasons.pop((method, "r003")).startswith("scene or mask unreadable: ")
        for row in ("r002", "r006"):
            assert reasons.pop((method, row)).startswith("photo of the subject unusable: subjects/s2-1.png: ")
    assert reasons == {} and len(read_scores(folder)) == 9
    assert all("\n" not in one["reason"] for one in told(folder)["results"])


def test_reference_pictures_that_are_none_are_left_out(bench: Benchmark, results: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    for number in range(3):
        noise(real / f"{number}.png", number)
    (real / "1.png").write_text("no picture")
    for _ in range(2):
        folder = score_results(bench, results, encoders=encoders(), reference=real)
        (left,) = told(folder)["results"]
        assert (left["row"], left["method"]) == ("1.png", "reference")
        found = read_features(folder, "reference")
        assert found is not None and found.whole.shape == (2, 3)
    (real / "2.png").write_text("no picture either")
    with pytest.raises(BenchError, match=r"of the 3 pictures of the reference 2 cannot be read \(1\.png: "):
        score_results(bench, results, encoders=encoders(), reference=real)


def lying(path: Path, pixels: Any) -> tuple[str, str]:
    """Save so that EXIF turns it upright: the stored rows are the columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    image.getexif()[ORIENTATION] = 6
    image.save(path, exif=image.getexif())
    return f"{path.parent.name}/{path.name}", file_sha256(path)


def test_pictures_are_measured_upright(tmp_path: Path) -> None:
    """Scene, photo and result are stored on their side; masks are upright."""
    home, results = tmp_path / "bench", tmp_path / "results"
    scene = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 30:50] = 255
    photo = np.where(mask[..., None] > 0, (255, 0, 0), (0, 0, 255)).astype(np.uint8)
    (home / "masks").mkdir(parents=True)
    Image.fromarray(mask).save(home / "masks" / "0.png")
    cut = "masks/0.png", file_sha256(home / "masks" / "0.png")
    shot = Shot(*lying(home / "photos" / "0.png", photo), *cut)
    row = Row(
        "r0", "identity", *lying(home / "scenes" / "0.png", scene), *cut, "s0", "duck", "a duck", 0, "large", "box"
    )
    write_benchmark(home, "turned", [row], {"s0": BenchSubject("duck", (shot,))}, {})
    bench = Benchmark.open(home)
    assert not bench.faults
    painted = scene.copy()
    painted[mask > 0] = (255, 0, 0)
    write_run(results, {"manifest_sha256": bench.manifest_sha256, "methods": {}})
    lines = ResultLines(results, "0")
    (results / "flat").mkdir()
    Image.fromarray(painted).save(results / "flat" / "0.png")
    flat = "flat/0.png", file_sha256(results / "flat" / "0.png")
    for method, place in (("flat", flat), ("turned", lying(results / "turned" / "0.png", painted))):
        lines.add(Result("r0", method, 0, *place, 1.0))
    clip = Colours()
    found = read_scores(score_results(bench, results, encoders=encoders(clip)))
    assert [one.method for one in found] == ["flat", "turned"] and found[0].values == found[1].values
    assert found[0].values["bytes_outside"] == 0 and found[0].values["psnr_outside"] == 100
    cropped = next(crop for crop in clip.seen if (crop == 128).all(-1).any())
    inside = ~(cropped == 128).all(-1)
    assert (cropped[inside] == (255, 0, 0)).all() and inside.sum() == 15 * 20, "the photo's mask is on its subject"


def test_a_side_that_does_not_fit_is_the_rows_own_fault(bench: Benchmark, results: Path) -> None:
    noise(bench.folder / "masks" / "0.png", 3, side=SIDE + 1)
    folder = score_results(replace(bench, faults=()), results, encoders=encoders())
    reasons = {one["row"]: one["reason"] for one in told(folder)["results"]}
    assert reasons == {"r000": "mask empty or off its scene"}
