"""The pairs engine as a whole, on drawn scenes whose removals are known."""

from __future__ import annotations

import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest_tiny import tiny_backbone
from tests.engines.pairs_scenes import THRESHOLDS, ColourScorer, draw_pairs, truth_tools
from tests.engines.test_quadruplets import files_of
from typer.testing import CliRunner

from intarsia.cli.data import data
from intarsia.engines import EngineChangedError, EngineError, iterate_samples, pairs, read_dead_rows, read_rows
from intarsia.engines.pairs import PairOptions, RemovalTask, StudioRemover, painting
from intarsia.engines.pairs.calibration import FILTERS
from intarsia.engines.pairs.removing import make_remove
from intarsia.engines.pairs.survival_rates import _stage_of
from intarsia.engines.runner.thresholds import decide
from intarsia.errors import DiskFullError, NonFiniteError
from intarsia.imaging import Picture
from intarsia.perception import Helpers, Photo

COUNT = 28


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return draw_pairs(tmp_path_factory.mktemp("pairs"), COUNT)


@pytest.fixture(autouse=True)
def colours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Helpers, "load_scorer", lambda self: ColourScorer())


@pytest.fixture(scope="module")
def noisy(scenes: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("noisy") / "out"
    patch = pytest.MonkeyPatch()
    patch.setattr(Helpers, "load_scorer", lambda self: ColourScorer())
    tools = truth_tools(*scenes, noise=0.35)
    pairs.run_pairs(scenes[0], None, output, tools, thresholds=THRESHOLDS, shard_size=16)
    patch.undo()
    return output


def psnr(pair: pairs.Pair, without: Path) -> float:
    clean = np.array(Image.open(pairs.removed_path(without, pair.row["source"], int(pair.row["ann_id"]))))
    error = (pair.source.astype(float) - clean)[pair.mask]
    return float(10 * np.log10(255**2 / max(1e-9, (error**2).mean())))


def success(run: Path, without: Path, *, candidates: bool, cut: Path | None = None) -> tuple[float, int]:
    right = [psnr(pair, without) > 22 for pair in pairs.read_pairs(run, candidates=candidates, cut=cut)]
    return float(np.mean(right)), len(right)


def test_filters_raise_the_success_of_removals(noisy: Path, scenes: tuple[Path, Path]) -> None:
    before, every = success(noisy, scenes[1], candidates=True)
    after, kept = success(noisy, scenes[1], candidates=False)
    assert before < 0.9 and after >= before + 0.08 and after >= 0.95 and kept >= 0.4 * every


def test_pairs_are_whole_and_in_pipes_columns(noisy: Path, scenes: tuple[Path, Path]) -> None:
    for pair in pairs.read_pairs(noisy):
        x, y, w, h = pair.box
        assert pair.rejected is None and pair.mask[y : y + h, x : x + w].sum() == pair.mask.sum()
        assert not (pair.mask & ~pair.painted).any() and pair.source.shape == pair.target.shape
        assert pair.instructions["class"] in (f"add a {pair.class_name}", f"add an {pair.class_name}")
        assert pair.row["target_img_dataset"] == "tabletop" and pair.row["engine"] == "pairs/1"
        assert len(json.loads(pair.row["seeds"])) == 3 and pair.row["remover"].startswith("truth-remover")
    sample = next(iter(iterate_samples(noisy)))
    assert {"Instruction_VLM-LLM", "Instruction_Class", "Instruction_Ref_Dataset", "object_location"} <= set(sample)
    assert {"source_img.jpg", "target_img.jpg", "mask.png", "painted.png", "img_id", "ann_id"} <= set(sample)


def test_the_same_run_gives_the_same_bytes(scenes: tuple[Path, Path], tmp_path: Path) -> None:
    few, without = draw_pairs(tmp_path / "few", 3)
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        tools = truth_tools(few, without, 0.4, seed)
        report = pairs.run_pairs(
            few, None, tmp_path / name, tools, thresholds=THRESHOLDS, shard_size=4, removal_batch=3
        )
        assert report.run.quarantined == 0
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two") != files_of(tmp_path / "other")
    again = pairs.run_pairs(
        few,
        None,
        tmp_path / "one",
        truth_tools(few, without, 0.4),
        thresholds=THRESHOLDS,
        shard_size=4,
        removal_batch=3,
    )
    assert again.run.shards_resumed == again.run.shards and files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_steps_travel_to_other_processes(scenes: tuple[Path, Path]) -> None:
    steps = pairs.pair_steps(scenes[0], None, truth_tools(*scenes), PairOptions.preset("paper"), gpus=0.5)
    assert pickle.loads(pickle.dumps(steps)) is not steps
    assert [step.name for step in steps if step.gpus] == ["prescore", "gate", "remove", "judge", "blend", "importance"]


def test_cutting_again_needs_no_model(noisy: Path, scenes: tuple[Path, Path], tmp_path: Path) -> None:
    strict = {**THRESHOLDS, "distance": (None, 0.02)}
    funnel = pairs.recut_pairs(noisy, tmp_path / "cut", strict, repack=8)
    assert (
        funnel.kept
        == len(list(pairs.read_pairs(noisy, cut=tmp_path / "cut")))
        == len(list(iterate_samples(tmp_path / "cut")))
    )
    assert 0 < funnel.kept < len(list(pairs.read_pairs(noisy)))
    with pytest.raises(EngineError, match="holds no"):
        next(pairs.read_pairs(tmp_path))


def test_survival_is_counted_as_in_table_s8(scenes: tuple[Path, Path], tmp_path: Path) -> None:
    bounds = {**THRESHOLDS, "side": (23.0, None)}
    tools = truth_tools(*scenes, noise=0.35)
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(scenes[0].iterdir())[:16]:
        (few / path.name).write_bytes(path.read_bytes())
    for gated in (True, False):
        options = PairOptions.preset("best", gate=gated)
        report = pairs.run_pairs(few, None, tmp_path / f"out-{gated}", tools, options, thresholds=bounds)
        found = pairs.survival(tmp_path / f"out-{gated}")
        counts = list(found.left.values())
        assert counts == sorted(counts, reverse=True) and counts[-1] == report.run.kept and found.unusable == 0
        assert counts[0] == report.run.source_rows > counts[1] > counts[-1] > 0
        tried = report.run.funnel.step("remove").entered
        assert tried == (counts[1] if gated else counts[0]), "what falls before is spared the removal"
    assert "Table S8" in str(found) and "32.2 %" in str(found)


def test_calibration_chooses_where_the_slope_flattens(noisy: Path, scenes: tuple[Path, Path], tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    every = {p.row["key"]: psnr(p, scenes[1]) > 22 for p in pairs.read_pairs(noisy, candidates=True)}
    labels.write_text("key,success\n" + "".join(f"{key},{int(right)}\n" for key, right in every.items()))
    found = pairs.calibrate(noisy, pairs.read_labels(labels), ["strangeness"])
    (curve,) = found.curves
    assert curve.auc > 0.8 and found.labelled == len(every)
    assert curve.chosen is not None and curve.success[curve.chosen] > found.success + 0.05
    assert curve.rejected == tuple(sorted(curve.rejected)) and curve.bound == (None, curve.threshold)
    pairs.draw_calibration(found).save(tmp_path / "curves.png")
    assert Picture.load(tmp_path / "curves.png").size == (680, 1080)
    (tmp_path / "chosen.yaml").write_text(found.thresholds_yaml())
    pairs.recut_pairs(noisy, tmp_path / "cut", tmp_path / "chosen.yaml")
    assert success(noisy, scenes[1], candidates=False, cut=tmp_path / "cut")[0] == pytest.approx(
        curve.success[curve.chosen]
    )
    with pytest.raises(EngineError, match="label at least"):
        pairs.calibrate(noisy, {})
    with pytest.raises(EngineError, match="say the same"):
        pairs.calibrate(noisy, dict.fromkeys(every, True))
    with pytest.raises(EngineError, match="cannot be calibrated"):
        pairs.calibrate(noisy, every, ["beauty"])


def test_calibrated_thresholds_can_stand_in_one_file(
    noisy: Path, scenes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(3)
    count = 400
    truth = draw.random(count) < 0.7
    rows: list[dict[str, Any]] = [{"key": f"k{n}", "rejected": None} for n in range(count)]
    for name, more in FILTERS.items():
        # Each of them says a little, and all on their own.
        for row, right in zip(rows, truth, strict=True):
            row[name] = round(float(draw.normal() + (0.7 if right == more else -0.7)), 6)
    table = type("Table", (), {"to_pylist": lambda self: rows})()
    monkeypatch.setattr("intarsia.engines.pairs.calibration.read_rows", lambda run: table)
    found = pairs.calibrate(tmp_path, {row["key"]: bool(right) for row, right in zip(rows, truth, strict=True)})
    assert [curve.score for curve in found.curves] == list(FILTERS) and "multimodal" not in FILTERS
    (tmp_path / "all.yaml").write_text(found.thresholds_yaml())
    bounds = pairs.pair_thresholds(tmp_path / "all.yaml")
    kept = np.array([decide(row, bounds) is None for row in rows])
    rejected, success = found.curves[-1].together
    assert (1 - kept.mean(), truth[kept].mean()) == pytest.approx((rejected, success))
    assert len(bounds) > 1 and rejected <= 0.6 and success > found.success + 0.1
    successes = [found.success, *(curve.together[1] for curve in found.curves)]
    assert successes == sorted(successes), "no threshold lowers what those before it reached"
    stages = ["pre-removal", "consensus", "multimodal", "importance"]
    reached = [stages.index(_stage_of(f"thresholds: {name} below 1")) for name in FILTERS]
    assert reached == sorted(reached), "rows are counted for the stages in the paper's order"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [(b"key,success\nk,\xff\n", "save them as CSV in UTF-8"), (b'key,success\n"' + b"k" * 200_000, "no CSV text")],
)
def test_labels_that_are_no_text_are_one_line(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(pairs.AnnotationsError, match=complaint) as caught:
        pairs.read_labels(tmp_path / "labels.csv")
    assert "\n" not in str(caught.value)


def test_labels_may_begin_with_the_mark_of_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("key,success\nä,1\nb,0\n".encode("utf-8-sig"))
    assert pairs.read_labels(tmp_path / "labels.csv") == {"ä": True, "b": False}


def made_pairs(count: int, amount: float, decoys: bool) -> list[pairs.Pair]:
    """Noise with a smoothed disc in each, and perhaps a second one."""
    made = []
    for seed in range(count):
        draw = np.random.default_rng(seed)
        rgb = draw.integers(60, 200, (64, 64, 3)).astype(np.float32)
        ys, xs = np.indices((64, 64))
        painted = (ys - 32) ** 2 + (xs - 16) ** 2 <= 64
        other = (ys - 32) ** 2 + (xs - 46) ** 2 <= 64
        for mask in (painted, other) if decoys else (painted,):
            rgb[mask] = (1 - amount) * rgb[mask] + amount * 130
        row = {"key": f"k{seed}", "source": f"{seed}.png", "decoy": "[38, 24, 17, 17]" if decoys else None}
        pixels = rgb.astype(np.uint8)
        made.append(pairs.Pair(pixels, pixels, painted, painted, (8, 24, 17, 17), "mug", {}, "", row, None))
    return made


def test_the_probe_finds_what_is_smoothed_and_decoys_hide_it() -> None:
    plain = pairs.probe_edits(made_pairs(40, 0.5, False))
    hidden = pairs.probe_edits(made_pairs(40, 0.5, True))
    nothing = pairs.probe_edits(made_pairs(40, 0.0, False), untouched=[p.source for p in made_pairs(40, 0.0, False)])
    assert plain.where > 0.9 and 0.3 < hidden.where < 0.68 and 0.3 < nothing.where < 0.7
    assert nothing.whether == pytest.approx(0.5, abs=0.01), "the same picture twice"
    assert nothing.prior == pytest.approx(nothing.where) and plain.prior is None
    assert plain.where_interval[0] <= plain.where <= plain.where_interval[1]
    with pytest.raises(EngineError, match="too few"):
        pairs.probe_edits(made_pairs(3, 0.5, False))


def test_parquet_has_pipes_columns(noisy: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    written = pairs.write_parquet(noisy, tmp_path / "pipe", rows_per_file=20)
    kept = list(pairs.read_pairs(noisy))
    assert written[0].name == f"train-00000-of-{len(written):05d}.parquet"
    rows = [row for path in written for row in parquet.read_table(path).to_pylist()]
    assert len(rows) == len(kept) and [row["sample_id"] for row in rows] == [pair.row["key"] for pair in kept]
    names = ["source_img", "target_img", *("Instruction_VLM-LLM", "Instruction_Class", "Instruction_Ref_Dataset")]
    assert list(rows[0])[:9] == [*names, "object_location", "target_img_dataset", "img_id", "ann_id"]
    assert rows[0]["source_img"]["bytes"][:2] == b"\xff\xd8" and rows[0]["mask"]["bytes"][:4] == b"\x89PNG"
    with pytest.raises(EngineError, match="already"):
        pairs.write_parquet(noisy, tmp_path / "pipe")


def test_parquet_files_are_one_table_and_appear_together(
    scenes: tuple[Path, Path], noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import parquet

    monkeypatch.setattr("intarsia.engines.pairs.engine.make_remove", partial(_noting_removal, make_remove))
    few, without = draw_pairs(tmp_path / "few", 4)
    run = tmp_path / "run"
    pairs.run_pairs(few, None, run, truth_tools(few, without), thresholds={"area": (0, 1)}, shard_size=3)
    written = pairs.write_parquet(run, tmp_path / "pipe", rows_per_file=1)
    assert len({parquet.read_schema(path).to_string() for path in written}) == 1 < len(written)
    table = parquet.read_table(tmp_path / "pipe")
    kinds = {field.name: str(field.type) for field in table.schema}
    assert table.num_rows == len(written) and kinds["sometimes"] == "double" and kinds["never"] == "string"
    assert "runs" not in kinds and kinds["area"] == "double" and kinds["width"] == "int64"

    from intarsia.engines.pairs import export

    def full(path: Path, data: bytes) -> None:
        if "00001" in path.name:
            raise DiskFullError("no space left")
        path.write_bytes(data)

    monkeypatch.setattr(export, "write_file_atomically", full)
    with pytest.raises(DiskFullError, match="nothing of it is kept"):
        pairs.write_parquet(run, tmp_path / "other", rows_per_file=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few", "pipe", "run"]


def _noting_removal(make: Any, *arguments: Any) -> Any:
    """The real step, which also notes a number for the last rows only, and one for none."""
    step = make(*arguments)

    def note(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        return [
            [{**one, "sometimes": 0.5 if one["key"] > "tabletop/002" else None, "never": None} for one in made]
            for made in step(rows)
        ]

    return note


def test_poison_rows_are_quarantined_and_the_rest_goes_on(scenes: tuple[Path, Path], tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir(), masks.mkdir()
    for name in ("000", "001"):
        (photos / f"{name}.png").write_bytes((scenes[0] / f"{name}.png").read_bytes())
    (photos / "broken.png").write_bytes(b"no picture")
    good = np.zeros((96, 96), bool)
    good[20:50, 20:50] = True
    for name in ("000-0", "001-0", "broken-0", "nowhere-0"):
        Image.fromarray(good).save(masks / f"{name}.png")
    Image.fromarray(good[:50]).save(masks / "001-1.png")
    (photos / "000.truth.json").write_bytes((scenes[0] / "000.truth.json").read_bytes())
    (photos / "001.truth.json").write_bytes((scenes[0] / "001.truth.json").read_bytes())
    tools = truth_tools(photos, scenes[1])
    report = pairs.run_pairs(photos, masks, tmp_path / "out", tools, class_name="ball", thresholds={"area": (0, 1)})
    dead = {row["key"]: row["message"] for row in read_dead_rows(tmp_path / "out").to_pylist()}
    assert report.run.kept == 2 and set(dead) == {"folder/001/1", "folder/broken/0", "folder/nowhere/0"}
    assert "96x50 px" in dead["folder/001/1"] and "no photo nowhere" in dead["folder/nowhere/0"]
    assert report.notes and report.away == 0, "a described ball that is none is noted"
    assert read_rows(tmp_path / "out").num_rows == 2
    told = CliRunner().invoke(data, ["funnel", str(tmp_path / "out")])
    assert told.exit_code == 0 and all(f"- {key}, read: {message}" in told.stdout for key, message in dead.items())


def test_a_models_removals_do_not_depend_on_their_company() -> None:
    remover = StudioRemover(tiny_backbone(), steps=2, batch=2)
    draw = np.random.default_rng(0)
    photos = [Photo(str(n), draw.integers(0, 256, (70 + 10 * n, 80, 3), np.uint8)) for n in range(2)]

    def task(number: int, seed: int) -> RemovalTask:
        mask = np.zeros(photos[number].size, bool)
        mask[20:44, 22:50] = True
        return RemovalTask(photos[number], mask, mask, "mug", seed)

    tasks = [task(0, 1), task(1, 5), task(0, 2), task(0, 1)]
    together = remover.remove(tasks)
    alone = [remover.remove([one])[0] for one in tasks]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert np.array_equal(together[0], together[3]) and not np.array_equal(together[0], together[2])
    assert together[1].shape == photos[1].rgb.shape and "tiny@" in remover.name
    paper = StudioRemover(tiny_backbone(), words="paper", steps=2, batch=1)
    assert not np.array_equal(paper.remove([tasks[0]])[0], together[0]) and paper.settings.guidance_scale == 7.5


def test_nothing_that_is_no_number_is_painted() -> None:
    remover = StudioRemover(tiny_backbone(), steps=2, batch=2)
    mask = np.zeros((70, 80), bool)
    mask[20:44, 22:50] = True
    task = RemovalTask(Photo("a", np.full((70, 80, 3), 90, np.uint8)), mask, mask, "mug", 1)
    remover.remove([task])
    with torch.no_grad():
        remover.backbone.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="painted NaN or infinity"):
        remover.remove([task])


def test_a_remover_in_another_number_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def load(name: Any, device: Any, dtype: Any, **options: Any) -> Any:
        asked.append(dtype)
        backbone = tiny_backbone()
        for part in (backbone.unet, backbone.vae, backbone.text_encoder, backbone.text_encoder_2):
            part.to(dtype)
        return backbone

    monkeypatch.setattr("intarsia.editing.opening.load_backbone", load)
    option = pairs.RemoverOption("studio:tiny", tmp_path, steps=2, batch=1, device="cpu", dtype="bfloat16")
    remover = option.load()
    mask = np.zeros((70, 80), bool)
    mask[20:44, 22:50] = True
    photo = Photo("a", np.full((70, 80, 3), 90, np.uint8))
    (made,) = remover.remove([RemovalTask(photo, mask, mask, "mug", 1)])
    assert asked == [torch.bfloat16] and made.shape == (70, 80, 3) and remover.name.endswith(" bfloat16")
    assert option.to_json()["dtype"] == "bfloat16"
    assert not StudioRemover(tiny_backbone(), steps=2).name.endswith("32")
    with pytest.raises(EngineError, match="float32, float16, bfloat16"):
        pairs.RemoverOption(dtype="int8")


def test_a_batch_of_things_is_painted_in_calls_of_one_things_windows(
    scenes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[pairs.PairTools] = []

    def plan(photos: Any, masks: Any, output: Any, tools: pairs.PairTools, options: Any, **rest: Any) -> Any:
        seen.append(tools)
        raise EngineError("enough")

    monkeypatch.setattr(pairs, "plan_pairs", plan)
    for batch in (1, 8):
        run("pipe", scenes[0], "-", tmp_path / "out", "--removal-batch", batch, "--dry-run", "--dtype", "float16")
    assert [tools.remover.batch for tools in seen] == [4, 4], "three candidates and a decoy"
    assert seen[0].remover.dtype == "float16"

    remover = StudioRemover(tiny_backbone(), steps=1, batch=4)
    painted: list[int] = []
    real = painting.run_stages

    def counted(backbone: Any, scheduler: Any, stages: Any, scenes: Any, *rest: Any, **options: Any) -> Any:
        painted.append(len(scenes))
        return real(backbone, scheduler, stages, scenes, *rest, **options)

    monkeypatch.setattr(painting, "run_stages", counted)
    tasks = []
    for number in range(3):
        photo = Photo(str(number), np.full((64, 64 + 64 * number, 3), 90, np.uint8))
        mask = np.zeros(photo.size, bool)
        mask[10:20, 10 : 20 + 40 * number] = True
        tasks += [RemovalTask(photo, mask, mask, "mug", seed) for seed in range(4)]
    remover.remove(tasks)
    assert sum(painted) == len(tasks), "photos of several sizes cost no window more"


def test_other_weights_or_devices_are_another_run(
    scenes: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    for part in ("unet", "vae", "text_encoder"):
        (model / part).mkdir(parents=True)
        name = "model" if part.startswith("text") else "diffusion_pytorch_model"
        (model / part / f"{name}.safetensors").write_bytes(b"weights")
    (model / "model_index.json").write_text('{"_class_name": "StableDiffusionInpaintPipeline"}')
    few, without = draw_pairs(tmp_path / "few", 1)

    def settings(device: str = "cpu", runner: Any = "local", gpus: float = 0.0) -> dict[str, Any]:
        helpers = Helpers(scorer=f"towers:{model}", folder=few, device=device)
        remover = pairs.RemoverOption(f"studio:{model}", few, device=device)
        given = pairs.pair_run(few, None, tmp_path / "out", pairs.PairTools(helpers, remover), runner=runner, gpus=gpus)
        found: dict[str, Any] = given["settings"]
        return found

    first = settings()
    assert first == settings() and first["devices"] == {"scorer": "cpu", "remover": "cpu"}
    assert settings("cuda:1")["devices"] == settings("auto", "ray", 0.5)["devices"] != first["devices"]
    assert settings("auto", "ray")["devices"] == first["devices"]
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"others!")
    assert {name for name, value in settings().items() if value != first[name]} == {"weights"}

    tools = truth_tools(few, without)
    pairs.run_pairs(few, None, tmp_path / "run", tools, thresholds={"area": (0, 1)})
    identity = json.loads((tmp_path / "run" / "engine.json").read_text())
    for name in ("weights", "devices"):
        del identity["settings"][name]
    (tmp_path / "run" / "engine.json").write_text(json.dumps(identity))
    with pytest.raises(EngineChangedError, match=r"another run: the setting 'devices' was None and is now .*'weights'"):
        pairs.run_pairs(few, None, tmp_path / "run", tools, thresholds={"area": (0, 1)})


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(data, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_line(scenes: tuple[Path, Path], tmp_path: Path) -> None:
    few, without = draw_pairs(tmp_path / "few", 12)
    easy = tmp_path / "easy.yaml"
    easy.write_text("area: {min: 0.001}\n")
    made = (
        "pipe",
        few,
        "-",
        tmp_path / "out",
        "--remover",
        f"truth:{without}",
        "--thresholds",
        easy,
        "--least-side",
        32,
    )
    code, said, errors = run(*made, "--dry-run", "--sample", 1, "--price", 2)
    assert code == 0 and "pairs 1" in said and "remove" in said and not (tmp_path / "out").exists()
    assert "remove saw 1" in errors and "raise --sample" in errors
    code, said, errors = run(*made, "--dry-run", "--json")
    assert code == 0 and json.loads(said)["sampled"] == 8 and json.loads(said)["warnings"] == []
    code, said, errors = run(*made, "--json")
    first: dict[str, Any] = json.loads(said)
    assert code == 0 and first["kept"] == first["source_rows"] >= 24 and first["survival"]["left"]["importance"]
    removing = first["rates"]["remove"]
    assert removing["rows"] == first["source_rows"] and removing["rows_per_second"] > 0
    code, said, errors = run(*made)
    assert code == 0 and "Table S8" in errors and "rows/s of a worker" in errors and f"{first['kept']} pairs of" in said
    code, said, _ = run("recut", tmp_path / "out", tmp_path / "cut", "--thresholds", "tabletop")
    assert code == 0 and "pairs by tabletop" in said
    code, said, _ = run("survival", tmp_path / "out", "--cut", tmp_path / "cut")
    assert code == 0 and "pre-removal" in said
    code, said, _ = run("probe", tmp_path / "out", "--json")
    assert code == 0 and 0 <= json.loads(said)["where"] <= 1
    code, said, _ = run("parquet", tmp_path / "out", tmp_path / "parquet")
    assert code == 0 and len(list((tmp_path / "parquet").iterdir())) == 1
    labels = tmp_path / "labels.csv"
    keys = [row["key"] for row in read_rows(tmp_path / "out").to_pylist()]
    labels.write_text("key,success\n" + "".join(f"{key},{n % 3 > 0:d}\n" for n, key in enumerate(keys)))
    code, said, _ = run(
        "calibrate", tmp_path / "out", labels, "--plot", tmp_path / "c.png", "--scores", "distance,outline"
    )
    assert code == 0 and "successes" in said and (tmp_path / "c.png").is_file()
    code, said, errors = run(*made, "--describer", "openai:http://127.0.0.1:9/v1#none", "--overwrite", "--json")
    assert code == 0 and json.loads(said)["kept"] == first["kept"]
    assert any("language model did not answer" in line for line in json.loads(said)["warnings"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["pipe", "PHOTOS", "-", "OUT", "--runner", "spark"], "use local or ray"),
        (["pipe", "PHOTOS", "-", "OUT", "--preset", "worst"], "no preset"),
        (["pipe", "PHOTOS", "-", "OUT", "--remover", "magic"], "remover 'magic' is unknown"),
        (["pipe", "PHOTOS", "-", "OUT", "--annotations", "yolo:x"], "no known kind"),
        (["pipe", "PHOTOS", "-", "OUT", "--thresholds", "none.yaml"], "no file of thresholds"),
        (["pipe", "PHOTOS", "-", "OUT", "--writer", "poet"], "writer 'poet' is unknown"),
        (["pipe", "PHOTOS", "-", "OUT", "--candidates", "1"], "use 2 to 16"),
        (["pipe", "PHOTOS", "PHOTOS/none", "OUT"], "is not a folder"),
        (["pipe", "PHOTOS/none", "-", "OUT"], "is not a folder"),
        (["calibrate", "PHOTOS", "none.csv"], "cannot be read"),
        (["survival", "PHOTOS"], "run the engine"),
        (["probe", "PHOTOS"], "run the engine"),
        (["parquet", "PHOTOS", "OUT"], "engine"),
        (["removals", "PHOTOS", "OUT"], "no rendered scenes"),
    ],
)
def test_faults_are_one_line_and_leave_nothing(
    scenes: tuple[Path, Path], tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    out = tmp_path / "out"
    named = [word.replace("PHOTOS", str(scenes[0])).replace("OUT", str(out)) for word in arguments]
    code, said, errors = run(*named)
    assert code == 2 and said == "" and complaint in errors and errors.count("\n") == 1, errors
    assert not out.exists()
