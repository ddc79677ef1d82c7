"""Inserting without learning: paired cases, split runs, chains, and what the card makes of the numbers."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest_tiny import save_tiny, tiny_backbone

from intarsia.adapters import Assign, AssignConfig, Refine, RefineConfig, load_reference, save_reference
from intarsia.backbones import Backbone
from intarsia.editing import ReferenceModelError, Studio
from intarsia.evaluation import CaseValues, ImageJudge, ImageJudgeError, Judges, Results, ResultsError, ZeroShotBench
from intarsia.evaluation.__main__ import main
from intarsia.evaluation.card import ZERO_SHOT_BESIDE, ZERO_SHOT_GOALS, sweep_lines, table, write_markdown
from intarsia.evaluation.chains import changed_in_chain, random_mask
from intarsia.evaluation.edits import edits_of
from intarsia.evaluation.gallery import EDITED_VIEWS, Candidates, gallery_of, portraits_of
from intarsia.evaluation.identity import adapters_hash, settings_hash
from intarsia.evaluation.statistics import bootstrap_interval, spearman, steps_against
from intarsia.evaluation.zero_shot import STRENGTHS
from intarsia.evaluation.zero_shot_pictures import draw_sheet, draw_sweep, sheet_rows
from intarsia.imaging import Picture
from intarsia.result import EditResult
from intarsia.tabletop import Subject, level, split_of
from intarsia.training import AttributeJudge, InstanceJudge

WORLD = level("small")


def save_adapters(folder: Path, backbone: Backbone) -> Path:
    """Random Assign and Refine weights for a tiny backbone."""
    config = AssignConfig(16, 40, tokens=3, width=8, depth=1, heads=2, head_width=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assign = Assign.from_unet(backbone.unet, config)
        refine = Refine.from_unet(backbone.unet, RefineConfig(feature_width=16), torch.randn(1, 24))
    save_reference(folder, assign, refine, backbone.hash)
    return folder


@pytest.fixture(scope="module")
def reference_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_adapters(tmp_path_factory.mktemp("adapters") / "reference", tiny_backbone()))


def save_judges(folder: Path) -> Path:
    """Random judges of every kind."""
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    folder.mkdir()
    sizes = {"hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 1}
    config = CLIPVisionConfig(**sizes, image_size=64, patch_size=16, projection_dim=12, hidden_act="gelu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = {
            "attributes": AttributeJudge(8, WORLD),
            "instances": InstanceJudge(8, 8),
            "image": CLIPVisionModelWithProjection(config),
        }
    for name, module in parts.items():
        save_file(
            {key: value.contiguous() for key, value in module.state_dict().items()}, folder / f"{name}.safetensors"
        )
    (folder / "config.json").write_text(
        json.dumps({"recipe": {"level": "small", "evaluators": {"width": 8, "embedding": 8}}})
    )
    return folder


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Judges:
    return Judges.load(save_judges(tmp_path_factory.mktemp("judges") / "judges"))


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intarsia.evaluation.zero_shot.GALLERY", 2)


def make_bench(
    studio: Any, judges: Judges, path: Path, values: CaseValues | None = None, **options: Any
) -> ZeroShotBench:
    results = Results.open(path, "w" * 64, 1, judges.hash, "adapters-1")
    return ZeroShotBench(studio, judges, results, say=lambda line: None, values=values, **options)


@pytest.fixture
def tiny(reference_model: str, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """Paints in one step with random weights."""
    studio = Studio(tiny_backbone())
    monkeypatch.setattr(studio, "insert", partial(studio.insert, steps=1, reference_model=reference_model))
    return studio


class Fake:
    """Paints what a function makes of the call's options; remembers the calls."""

    def __init__(self, paint: Any) -> None:
        self.paint, self.calls = paint, list[dict[str, Any]]()
        self.model = "fake"

    def insert(self, scene: Picture, **options: Any) -> Any:
        self.calls.append({"scene": scene, **options})
        return type("Result", (), {"picture": Picture.from_array(self.paint(scene, options))})


def test_cases_are_held_out_paired_and_never_the_scenes_own_pixels(judges: Judges, tmp_path: Path) -> None:
    studio = Fake(lambda scene, options: scene.pixels)
    bench = make_bench(studio, judges, tmp_path / "z.json")
    bench.reference(2)
    assert len(studio.calls) == 4
    for i in range(2):
        alone, refined = studio.calls[2 * i : 2 * i + 2]
        assert (alone["detail_strength"], refined["detail_strength"]) == (0.0, 1.0)
        assert alone["prompt"] == refined["prompt"] == "" and alone["seed"] == refined["seed"]
        assert alone["scene"].sha256 == refined["scene"].sha256 != alone["reference"].sha256
        assert alone["reference"].sha256 == refined["reference"].sha256
        assert np.array_equal(alone["mask"], refined["mask"])
        assert split_of(bench.subject(i).seed) == "test"
        assert bench.case(i).subject == bench.subject(i)
        photo, mask = bench.photo(i)
        assert mask.any() and photo.shape[:2] == mask.shape != bench.case(i).mask.shape
    assert studio.calls[0]["seed"] != studio.calls[2]["seed"]
    assert studio.calls[0]["reference"].sha256 != studio.calls[2]["reference"].sha256


def test_a_studio_that_paints_the_truth_is_found_like_the_render(judges: Judges, tmp_path: Path) -> None:
    """Refine that paints the truth over an Assign that paints nothing: the gain is the judge's own, row by row."""
    path = tmp_path / "z.json"
    bench = make_bench(None, judges, path)
    truths = {Picture.from_array(bench.case(i).absent).sha256: bench.case(i).present for i in range(3)}
    bench.studio = Fake(  # type: ignore[assignment]
        lambda scene, options: truths[scene.sha256] if options["detail_strength"] else scene.pixels
    )
    bench.reference(3)
    rows: dict[str, Any] = bench.results.metrics
    assert rows["refine_top1"]["value"] == rows["reference_judge_top1"]["value"]
    for by in ("instance", "clip_i"):
        assert rows[f"reference_refine_{by}"]["value"] == rows[f"reference_judge_{by}"]["value"]
        kept = [bench.values.values["reference"][i] for i in range(3)]
        by_hand = [row[f"refine_{by}"] - row[f"assign_{by}"] for row in kept]
        gain = rows[f"refine_gain_{by}"]
        assert gain["value"] == pytest.approx(np.mean(by_hand), abs=1e-4)
        assert gain["low"] <= gain["value"] <= gain["high"]
        assert min(by_hand) - 1e-4 <= gain["low"] and gain["high"] <= max(by_hand) + 1e-4
    smaller = min(("instance", "clip_i"), key=lambda by: rows[f"refine_gain_{by}"]["value"])
    assert rows["refine_gain"]["by"] == smaller
    assert rows["refine_gain"]["value"] == rows[f"refine_gain_{smaller}"]["value"]
    assert rows["refine_gain_clip_i"]["image_judge"] == judges.image.hash
    for row in rows.values():
        assert {"n", "seed", "weights", "judges", "adapters"} <= set(row) and row["n"] == 3


def test_both_changes_one_attribute_in_turn_at_the_default_strength(judges: Judges, tmp_path: Path) -> None:
    studio = Fake(lambda scene, options: scene.pixels)
    bench = make_bench(studio, judges, tmp_path / "z.json")
    bench.both(3)
    assert [bench.edit(i).kind for i in range(3)] == ["colour", "material", "accessory"]
    for i, call in enumerate(studio.calls):
        subject, prompt = bench.subject(i), call["prompt"]
        assert subject.name in prompt and "reference_strength" not in call and "detail_strength" not in call
        assert all(value in prompt for _, value in bench.edit(i).changes)
        changed = bench.edit(i).apply(subject)
        assert (
            changed != subject
            and replace(changed, **{k: getattr(subject, k) for k, _ in bench.edit(i).changes}) == subject
        )
    rows = bench.results.metrics
    assert {"both_attribute", "both_top1", "both_attribute_unedited", "both_colour", "both_material"} <= set(rows)
    assert rows["both_attribute"]["n"] == 3 and rows["both_accessory"]["n"] == 1


def test_every_strength_of_the_sweep_paints_the_same_case(judges: Judges, tmp_path: Path) -> None:
    studio = Fake(lambda scene, options: scene.pixels)
    bench = make_bench(studio, judges, tmp_path / "z.json")
    bench.beta(1)
    assert [call.pop("reference_strength") for call in studio.calls] == list(STRENGTHS)
    assert len({(call["prompt"], call["seed"], call["scene"].sha256) for call in studio.calls}) == 1
    rows: dict[str, Any] = bench.results.metrics
    assert rows["beta_instance_0.45"]["beta"] == 0.45 and "low" in rows["beta_instance_0.45"]
    for measure in ("attribute", "instance", "top1"):  # nothing changes with β, so nothing rises or falls
        assert rows[f"beta_{measure}_spearman"]["value"] == 0 and rows[f"beta_{measure}_spearman"]["steps_against"] == 0


def test_two_parts_resumed_are_one_run_exactly(tiny: Studio, judges: Judges, tmp_path: Path) -> None:
    identity = {"weights": "w"}
    whole = make_bench(tiny, judges, tmp_path / "whole.json")
    whole.reference(3)
    path = tmp_path / "split.json"
    for k in (1, 2):
        part = make_bench(tiny, judges, path, CaseValues.beside(path, identity, (k, 2)))
        part.reference(3)
        assert not path.exists()
    untouched = Fake(None)
    merged = make_bench(untouched, judges, path, CaseValues.beside(path, identity, resume=True))
    merged.reference(3)
    assert not untouched.calls
    assert json.loads(path.read_text()) == json.loads((tmp_path / "whole.json").read_text())


def test_kept_cases_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "z.json"
    kept = CaseValues.beside(path, {"weights": "a", "seed": 1})
    kept.put("both", 1, {"top1": 1.0})
    again = CaseValues.beside(path, {"weights": "a", "seed": 1}, resume=True)
    assert again.waiting("both", 3) == [0, 2] and again.complete("both", 2) is None
    assert CaseValues.beside(path, {"weights": "a", "seed": 1}, (2, 2), resume=True).waiting("both", 4) == [3]
    again.put("both", 0, {"top1": 0.0})
    assert again.complete("both", 2) == [{"top1": 0.0}, {"top1": 1.0}]
    with pytest.raises(ResultsError, match="another weights"):
        CaseValues.beside(path, {"weights": "b", "seed": 1}, resume=True)
    assert CaseValues.beside(path, {"weights": "b", "seed": 1}).waiting("both", 2) == [0, 1]
    assert not list(tmp_path.iterdir())
    (tmp_path / "z.cases-1-of-2.json").write_text("[]")
    with pytest.raises(ResultsError, match="delete it") as caught:
        CaseValues.beside(path, {"weights": "b"}, resume=True)
    assert "\n" not in str(caught.value)


def test_candidates_are_the_gallery_of_a_learned_subject(judges: Judges) -> None:
    subjects = [Subject.sample(seed, WORLD) for seed in (9, 19)]
    stranger = Subject.sample(29, WORLD)
    found = Candidates(judges, subjects)
    assert torch.equal(found.gallery(1, subjects[1]), gallery_of(portraits_of(judges, subjects)))
    assert torch.equal(found.gallery(3, stranger), gallery_of(portraits_of(judges, [subjects[0], stranger])))
    edit = edits_of(stranger, WORLD, random.Random(3))[2]
    after = [edit.apply(subjects[0]), edit.apply(stranger)]
    assert torch.equal(found.gallery(1, stranger, edit), gallery_of(portraits_of(judges, after, EDITED_VIEWS)))
    assert torch.equal(found.gallery(0, subjects[0]), gallery_of(portraits_of(judges, subjects)))


def test_the_image_judge_is_read_by_its_shapes(judges: Judges, tmp_path: Path) -> None:
    assert judges.image.tower.config.num_hidden_layers == 2 and judges.image.tower.config.patch_size == 16
    seen = judges.image.embed([torch.zeros(3, 64, 64), torch.ones(3, 64, 64)])
    assert seen.shape == (2, 12) and torch.allclose(seen.norm(dim=1), torch.ones(2))
    with pytest.raises(ImageJudgeError, match=r"image\.safetensors is missing"):
        ImageJudge.load(tmp_path / "image.safetensors")
    (tmp_path / "image.safetensors").write_bytes(b"nothing")
    with pytest.raises(ImageJudgeError, match="holds no image tower") as caught:
        ImageJudge.load(tmp_path / "image.safetensors")
    assert "\n" not in str(caught.value)


class Careless:
    """Changes every pixel, once, and reports everything as support."""

    def __init__(self, studio: Any) -> None:
        self.studio, self.done = studio, False

    def __getattr__(self, verb: str) -> Any:
        def edit(scene: Any, **options: Any) -> EditResult:
            result: EditResult = getattr(self.studio, verb)(scene, **options)
            if self.done:
                return result
            self.done = True
            pixels = result.picture.pixels.copy()
            pixels ^= 1
            return replace(result, picture=Picture.from_array(pixels), support=np.ones_like(result.support))

        return edit


def test_chains_of_all_kinds_change_nothing_outside(
    tiny: Studio, judges: Judges, tmp_path: Path, reference_model: str
) -> None:
    studio = Studio(tiny.backbone)
    bench = make_bench(studio, judges, tmp_path / "z.json", reference_model=reference_model)
    bench.chain(1)
    assert bench.results.metrics["chain_bytes_changed"]["value"] == 0
    assert bench.results.metrics["chain_bytes_changed"]["edits"] == 10
    assert changed_in_chain(Careless(studio), WORLD, 4, links=2, reference_model=reference_model) > 0  # type: ignore[arg-type]


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_random_masks_mark_something(height: int, width: int, seed: int) -> None:
    mask = random_mask(height, width, random.Random(seed))
    assert mask.shape == (height, width) and mask.dtype == np.bool_ and mask.any()


def test_the_adapters_hash_is_that_of_the_files(reference_model: str) -> None:
    studio = Studio(tiny_backbone())
    loaded = load_reference(Path(reference_model), studio.backbone.unet, studio.backbone.hash)
    assert adapters_hash(studio, reference_model=reference_model) == loaded.hash
    with pytest.raises(ReferenceModelError):
        adapters_hash(studio)
    assert settings_hash() == settings_hash() and len(settings_hash()) == 64


def test_bootstrap_and_ranks_by_hand() -> None:
    assert bootstrap_interval([0.25] * 7) == (0.25, 0.25)
    values = np.random.default_rng(3).normal(0.1, 0.2, 400).tolist()
    low, high = bootstrap_interval(values, seed=2)
    half = 1.96 * np.std(values) / 20
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.003)
    assert bootstrap_interval(values, seed=2) == (low, high) != bootstrap_interval(values, seed=3)
    assert spearman([1, 2, 4, 8]) == pytest.approx(1) and spearman([3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 3, 2]) == pytest.approx(0.5) and spearman([5, 5, 5]) == 0
    assert spearman([1, 1, 2]) == pytest.approx(0.8660, abs=1e-4)
    assert steps_against([0, 2, 1, 1], rising=True) == 1 and steps_against([0, 2, 1, 1], rising=False) == 1


@pytest.mark.parametrize(
    ("key", "row", "ends"),
    [
        ("refine_gain", {"value": 0.06, "low": -0.01, "high": 0.1}, "| 0.060 (-0.010 to 0.100) | 5 | no |"),
        ("refine_gain", {"value": 0.02, "low": 0.01, "high": 0.1}, "| 0.020 (0.010 to 0.100) | 5 | floor |"),
        ("refine_gain", {"value": 0.05, "low": 0.01, "high": 0.1}, "| aim |"),
        ("kill_lost", {"value": 1}, "| 0.0 | 0.0 | 1.0 | 5 | no |"),
        ("chain_bytes_changed", {"value": 0}, "| aim |"),
        ("both_top1", {"value": 0.4}, "| 35.0 % | 65.0 % | 40.0 % (12 to 77) | 5 | floor |"),
    ],
)  # fmt: skip
def test_the_cards_second_table(key: str, row: dict[str, Any], ends: str) -> None:
    lines = {line.split("`")[1]: line for line in table({key: {"n": 5, **row}}, ZERO_SHOT_GOALS).splitlines()[2:]}
    assert set(lines) == set(ZERO_SHOT_GOALS)
    assert lines[key].endswith(ends)
    assert all("not measured" in line for other, line in lines.items() if other != key)


def swept(attribute: list[float]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for strength, value in zip(STRENGTHS, attribute, strict=True):
        for measure in ("attribute", "instance", "top1"):
            rows[f"beta_{measure}_{strength:g}"] = {"value": value, "n": 4, "beta": strength}
    for measure, rising in (("attribute", False), ("instance", True), ("top1", True)):
        against = steps_against(attribute, rising=rising)
        rows[f"beta_{measure}_spearman"] = {
            "value": spearman(attribute), "n": 4, "strengths": len(STRENGTHS), "steps_against": against,
        }  # fmt: skip
    return rows


def test_the_sweep_is_told_honestly_and_drawn(tmp_path: Path) -> None:
    rows = swept([0.9, 0.8, 0.85, 0.6, 0.5, 0.4, 0.1, 0.05, 0.0])
    falls, rises, _ = sweep_lines(rows).splitlines()
    assert "should go down): 90.0 % (" in falls and "1 of 8 steps go the other way" in falls
    assert "should go up" in rises and "-0.98" in rises and "7 of 8 steps" in rises
    assert sweep_lines({}) == "- not measured"
    picture = draw_sweep(rows)
    other = draw_sweep(swept([0.1] * 9))
    assert picture.size == other.size and (picture.pixels != other.pixels).any()
    del rows["beta_top1_0.6"]
    with pytest.raises(ResultsError, match="--only beta"):
        draw_sweep(rows)


def test_the_sheet_shows_the_first_cases(judges: Judges, tmp_path: Path) -> None:
    def paint(scene: Picture, options: dict[str, Any]) -> Any:
        level_of = 40 if options["prompt"] else 80 if options["detail_strength"] else 120
        return np.full_like(scene.pixels, level_of)

    bench = make_bench(Fake(paint), judges, tmp_path / "z.json")
    rows = sheet_rows(bench, 2)
    assert [int(row.assign[0, 0, 0]) for row in rows] == [120, 120]
    assert [(int(row.refine[0, 0, 0]), int(row.both[0, 0, 0])) for row in rows] == [(80, 40)] * 2
    assert [row.prompt for row in rows] == [bench.edit(i).prompt for i in range(2)]
    sheet = draw_sheet(rows)
    assert sheet.size[0] > draw_sheet(rows[:1]).size[0] > 300


def test_the_card_holds_both_tables(tmp_path: Path) -> None:
    card = {
        "level": "small", "native_size": 64, "license": "Apache-2.0", "recipe_hash": "feed",
        "recipe": {"scale": "cpu"}, "stages": {},
    }  # fmt: skip
    (tmp_path / "model_card.json").write_text(json.dumps(card))
    row = {"value": 0.5, "n": 40, "seed": 1, "weights": "abc", "adapters": "def" * 10}
    metrics = {"assign_top1": row, **{key: {**row, "low": 0.4, "high": 0.6} for key in ZERO_SHOT_BESIDE}}
    (tmp_path / "z.json").write_text(json.dumps({"metrics": metrics}))
    write_markdown(tmp_path, tmp_path / "none.json", tmp_path / "CARD.md", tmp_path / "z.json")
    text = (tmp_path / "CARD.md").read_text()
    assert "(`assign_top1`) | 30.0 % | 60.0 % | 50.0 % (35 to 65) | 40 | floor |" in text
    assert "adapters: `defdefdefdefdefd`" in text
    assert all(f"(`{key}`): " in text for key in ZERO_SHOT_BESIDE)
    (tmp_path / "z.json").write_text("{}")
    with pytest.raises(ResultsError, match="measure again"):
        write_markdown(tmp_path, tmp_path / "none.json", tmp_path / "CARD.md", tmp_path / "z.json")


def test_numbers_of_other_adapters_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "z.json"
    Results.open(path, "aaa", 1, "j", "one").add("assign_top1", 0.5, 4, judged=True)
    assert json.loads(path.read_text())["metrics"]["assign_top1"]["adapters"] == "one"
    assert Results.open(path, "aaa", 1, "j", "one").metrics and Results.open(path, "aaa", 1, "j").metrics
    assert not Results.open(path, "aaa", 1, "j", "two").metrics


def test_the_engine_is_measured_on_scenes_of_its_own(
    judges: Judges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that is killed is the one users type; here it runs to its end in this process."""
    from typer.testing import CliRunner

    from intarsia.cli import app
    from intarsia.engines import KillReport
    from intarsia.evaluation import engine_runs

    def killed(command: Any, output: Path, reference_output: Path, kills: int, seed: int) -> KillReport:
        words = list(command(output))
        assert words[1:3] == ["-c", "from intarsia.cli import main; main()"]
        done = CliRunner().invoke(app, words[3:])
        assert done.exit_code == 0, done.output
        assert (output / "manifest.json").is_file()
        return KillReport(kills, 1, 0, 2, ("a", "b"))

    monkeypatch.setattr(engine_runs, "measure_kills", killed)
    monkeypatch.setattr(engine_runs, "kill_numbers", partial(engine_runs.kill_numbers, scenes=1))
    studio = Fake(None)
    studio.model = "miniature"
    bench = make_bench(studio, judges, tmp_path / "z.json")
    bench.kills(7)
    bench.quadruplets(3)
    rows: dict[str, Any] = bench.results.metrics
    assert rows["kill_lost"]["value"] == 0 and rows["kill_doubled"]["value"] == 2
    assert rows["kill_doubled"]["n"] == 7 and rows["kill_doubled"]["files_different"] == 2
    assert rows["quadruplet_precision"]["scenes"] == 3 and 0 <= rows["quadruplet_precision"]["value"] <= 1
    assert rows["quadruplet_recall"]["n"] >= 1 and rows["quadruplet_precision_before"]["n"] >= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bench", "zero_shot", "--only", "text"], "'text' is no part of --bench zero_shot"),
        (["--only", "beta"], "'beta' is no part of --bench miniature"),
        (["--resume"], "--resume is for --bench zero_shot"),
        (["--bench", "zero_shot", "--learn-steps", "3"], "--learn-steps is for --bench miniature"),
        (["--bench", "zero_shot", "--part", "3/2"], "'3/2' is no part"),
        (["--bench", "zero_shot", "--model", "tiny", "--judges", "nowhere"], "error: no judges in nowhere"),
        (["--bench", "zero_shot", "--model", "tiny", "--judges", "judges"], "has no weights for references"),
        (["--bench", "zero_shot", "--model", "tiny", "--judges", "judges", "--plot", "p.png"], "is not measured"),
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
    if "--model" in arguments:
        save_tiny(tiny_backbone(), tmp_path / "tiny")
        save_judges(tmp_path / "judges")
    monkeypatch.setattr("sys.argv", ["evaluation", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} <= {"tiny", "judges"}


def test_the_command_line_measures_merges_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny(tiny_backbone(), tmp_path / "tiny")
    save_adapters(tmp_path / "adapters", Studio.load(tmp_path / "tiny").backbone)
    save_judges(tmp_path / "judges")
    insert = Studio.insert
    monkeypatch.setattr(Studio, "insert", lambda self, scene, **options: insert(self, scene, **{**options, "steps": 1}))
    common = ["--bench", "zero_shot", "--model", "tiny", "--judges", "judges", "--reference-model", "adapters"]
    for more in (["--part", "1/2"], ["--part", "2/2"], ["--resume"]):
        monkeypatch.setattr(
            "sys.argv", ["e", *common, "--only", "both", "--limit", "2", "--output", "out/z.json", *more]
        )
        main()
    said = capsys.readouterr().out
    assert said.count("resume without part") == 2 and "both_top1 = " in said
    rows = json.loads((tmp_path / "out" / "z.json").read_text())["metrics"]
    assert rows["both_attribute"]["n"] == 2 and len(rows["both_attribute"]["adapters"]) == 64
    monkeypatch.setattr("sys.argv", ["e", *common, "--sheet", "sheet.png", "--limit", "1", "--output", "out/z.json"])
    main()
    assert Picture.load(tmp_path / "sheet.png").size[1] > 1000
    assert json.loads((tmp_path / "out" / "z.json").read_text())["metrics"] == rows
