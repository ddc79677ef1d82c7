"""Adding: held-out instructions, where things stand, removals with truth, and what the card makes of the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest_tiny import save_tiny, tiny_backbone
from tests.evaluation.test_zero_shot import save_judges

from intarsia.editing import NothingAddedError
from intarsia.errors import KnobError, OutputExistsError, PictureError
from intarsia.evaluation import AddBench, CaseValues, Judges, Results, write_removals
from intarsia.evaluation.__main__ import main
from intarsia.evaluation.add import _of_kind
from intarsia.evaluation.card import ADD_BESIDE, ADD_GOALS, beside, table, write_markdown
from intarsia.evaluation.identity import add_settings_hash, settings_hash
from intarsia.evaluation.placement import free_places, is_at, other_masks, placement_of, table_area
from intarsia.evaluation.quadruplets import write_tabletop
from intarsia.evaluation.removals import REMOVED_PSNR, judge_removals
from intarsia.imaging import Picture
from intarsia.perception import Truth, parse_instruction, place_of
from intarsia.tabletop import split_of


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Judges:
    return Judges.load(save_judges(tmp_path_factory.mktemp("judges") / "judges"))


def make_bench(studio: Any, judges: Judges, path: Path, values: CaseValues | None = None) -> AddBench:
    results = Results.open(path, "w" * 64, 1, judges.hash, "add-1")
    return AddBench(studio, judges, results, say=lambda line: None, values=values)


class Fake:
    """Adds what a function makes of (scene, the case's number): pixels and support."""

    model = "fake"

    def __init__(self, paint: Any) -> None:
        self.paint, self.calls = paint, list[dict[str, Any]]()

    def add(self, scene: Picture, instruction: str, **options: Any) -> Any:
        number = len(self.calls)
        self.calls.append({"scene": scene, "instruction": instruction, **options})
        pixels, support = self.paint(scene, number)
        return type("Result", (), {"picture": Picture.from_array(pixels), "support": support})


def test_instructions_name_held_out_things_and_every_second_one_a_place(judges: Judges, tmp_path: Path) -> None:
    bench = make_bench(None, judges, tmp_path / "a.json")
    for i in range(4):
        case, ask, subject = bench.case(i), bench.ask(i), bench.subject(i)
        assert case.subject == subject and split_of(subject.seed) == "test"
        told = parse_instruction(ask.words)
        assert told.thing == f"{subject.colour} {subject.name}" and told.place == ask.place
        others = other_masks(case.scene.without(0), len(case.mask))
        assert ask.place in (free_places(others, len(case.mask)) or [place_of(case.silhouette)]) if i % 2 else True
        assert (ask.place is None) == (i % 2 == 0) and bench.ask(i) == ask
    assert len({bench.ask(i).place for i in range(1, 42, 2)}) == 3
    assert len({bench.subject(i) for i in range(20)}) == 20


def test_the_truth_is_judged_like_the_control_in_every_kind_of_picture(judges: Judges, tmp_path: Path) -> None:
    bench = make_bench(None, judges, tmp_path / "a.json")

    def truth(scene: Picture, number: int) -> tuple[Any, Any]:
        case = bench.case(number)
        assert np.array_equal(np.rint(scene.rgb() * 255).astype(np.uint8), case.absent)
        pixels = np.array(scene.pixels)
        pixels[case.full] = np.asarray(_of_kind(case.present, number).pixels)[case.full]
        return pixels, case.full

    bench.studio = Fake(truth)  # type: ignore[assignment]
    bench.add(3)
    kinds = [np.asarray(call["scene"].pixels) for call in bench.studio.calls]  # type: ignore[attr-defined]
    assert [(kind.shape[2], kind.dtype) for kind in kinds] == [(3, np.uint8), (4, np.uint8), (3, np.uint16)]
    assert len({call["seed"] for call in bench.studio.calls}) == 3  # type: ignore[attr-defined]
    rows: dict[str, Any] = bench.results.metrics
    for kind in ("class", "colour"):
        assert rows[f"add_{kind}"]["value"] == rows[f"add_judge_{kind}"]["value"]
    assert rows["add_truth_placement"]["value"] == 1.0
    told = [None if (place := bench.ask(i).place) is None else is_at(bench.case(i).full, place) for i in range(3)]
    assert rows["add_placement"]["value"] == pytest.approx(np.mean([place is not False for place in told]), abs=1e-4)
    assert rows["add_place"] == {**rows["add_place"], "value": float(bool(told[1])), "n": 1}
    assert rows["add_place_elsewhere"]["value"] == (0 if told[1] else 0.5)
    assert 0 <= rows["add_before_class"]["value"] <= 1 and rows["add_before_colour"]["judges"] == judges.hash
    assert rows["add_bytes_changed"]["value"] == 0 and rows["add_nothing"]["value"] == 0
    assert rows["add_class"]["judges"] == judges.hash and "judges" not in rows["add_placement"]
    assert 0 < rows["add_support"]["value"] < 0.5 and rows["add_class"]["adapters"] == "add-1"


def test_nothing_added_is_wrong_and_careless_adding_is_counted(judges: Judges, tmp_path: Path) -> None:
    def nothing(scene: Picture, number: int) -> Any:
        raise NothingAddedError("nothing has changed: try another seed")

    bench = make_bench(Fake(nothing), judges, tmp_path / "a.json")
    bench.add(2)
    rows: dict[str, Any] = bench.results.metrics
    for key in ("add_class", "add_colour", "add_placement", "add_place", "add_place_elsewhere", "add_bytes_changed"):
        assert rows[key]["value"] == 0
    assert rows["add_nothing"]["value"] == 1

    def careless(scene: Picture, number: int) -> Any:
        pixels = np.array(scene.pixels)
        support = np.zeros(pixels.shape[:2], bool)
        support[:40, :40] = True
        pixels[:41, :40] ^= 1
        return pixels, support

    bench = make_bench(Fake(careless), judges, tmp_path / "b.json")
    bench.add(1)
    assert bench.results.metrics["add_bytes_changed"]["value"] == 40 * 3
    assert bench.results.metrics["add_table"]["value"] == 0  # the upper left corner shows the wall


def test_parts_are_merged_and_the_engines_numbers_outlive_another_instruction_model(
    judges: Judges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intarsia.evaluation import pair_runs

    monkeypatch.setattr(pair_runs, "kill_numbers", lambda kills, seed: (0, 1, 2))
    monkeypatch.setattr(pair_runs, "same_numbers", lambda n, seed, model: {"different": 0, "kept": 4, "ray": 0.0})
    found = {"auc": 0.55, "auc_n": 40, "auc_low": 0.5, "auc_high": 0.6}
    monkeypatch.setattr(pair_runs, "probe_numbers", lambda n, seed, model, preset, folder: found)
    removal = {**found, "masks": 9, "gated": 7, "kept": 6, "overhead": 0.02, "seconds": 3.0, "timed_rows": 10}
    names = ("success", "success_16db", "success_24db", "psnr", "gone")
    removal |= {f"{name}_{when}": 0.5 for name in names for when in ("before", "gated", "after")}
    monkeypatch.setattr(pair_runs, "removal_numbers", lambda *given: {**removal, "success_after": 0.75})
    path = tmp_path / "add.json"

    def blank(scene: Picture, number: int) -> Any:
        return scene.pixels, np.ones(scene.size, bool)

    for k in (1, 2):
        part = make_bench(Fake(blank), judges, path, CaseValues.beside(path, {"w": 1}, (k, 2)))
        part.add(3)
        assert not path.exists()
    merged = make_bench(Fake(blank), judges, path, CaseValues.beside(path, {"w": 1}, resume=True))
    merged.add(3)
    merged.finishes(2)
    merged.kills(7)
    merged.engine_same(2)
    merged.edit_detection(5)
    merged.removal_success(10)
    rows: dict[str, Any] = merged.results.metrics
    assert (rows["kill_doubled"]["value"], rows["kill_doubled"]["n"]) == (1, 7)
    assert rows["engine_same"]["value"] == 1 and "Ray is not installed" in rows["engine_same"]["runs"]
    assert rows["edit_detection_auc_paper"]["preset"] == "paper" and rows["edit_detection_auc"]["n"] == 40
    assert rows["removal_success_gain"]["value"] == 25 and rows["removal_success_before"]["n"] == 9
    assert rows["engine_overhead"]["workers"] == 1 and rows["removal_kept_of_masks"]["value"] == pytest.approx(0.6667)
    assert set(ADD_GOALS) | set(ADD_BESIDE) <= set(rows)
    later = Results.open(path, "w" * 64, 1, judges.hash, "add-2").metrics
    assert "add_class" not in later and "removal_success_after" in later
    told = table(rows, ADD_GOALS)
    assert "not measured" not in told and "> 1" not in told and "| aim |" in told
    assert "(`add_nothing`): 0.0 %" in beside(rows, ADD_BESIDE)


def test_where_things_stand_by_hand() -> None:
    floor = np.zeros((90, 90), bool)
    floor[40:] = True

    def box(top: int, left: int, bottom: int, right: int) -> Any:
        mask = np.zeros((90, 90), bool)
        mask[top:bottom, left:right] = True
        return mask

    standing = placement_of(box(20, 5, 60, 25), floor, [], "the left")
    assert standing.right and (standing.table, standing.clear, standing.place) == (True, True, True)
    assert not placement_of(box(5, 5, 35, 25), floor, [], None).table  # on the wall
    neighbour = box(50, 20, 70, 40)
    assert not placement_of(box(40, 10, 65, 30), floor, [neighbour], None).clear
    assert placement_of(box(40, 10, 65, 21), floor, [neighbour], None).clear
    assert placement_of(box(40, 10, 65, 30), floor, [box(0, 0, 0, 0)], None).right
    assert placement_of(box(20, 5, 60, 25), floor, [], "the right").place is False
    assert not placement_of(box(20, 5, 60, 25), floor, [], "the right").right
    assert placement_of(box(40, 22, 50, 42), floor, [], "the left").place  # a little beyond the cell
    assert not placement_of(box(40, 26, 50, 46), floor, [], "the left").place
    assert free_places([], 90) == ["the left", "the center", "the right"]
    assert free_places([box(40, 20, 60, 45), box(0, 0, 30, 90)], 90) == ["the right"]


def test_the_table_is_found_and_true_things_stand_on_it(judges: Judges, tmp_path: Path) -> None:
    bench = make_bench(None, judges, tmp_path / "a.json")
    for i in range(3):
        case = bench.case(i)
        area = table_area(case.scene, len(case.mask))
        assert area[-1].all() and not area[0].any()
        assert (np.diff(area.astype(int), axis=0) >= 0).all()  # one line between wall and table
        ys = np.nonzero(case.silhouette)[0]
        assert area[ys.max()].all()
        others = other_masks(case.scene, len(case.mask))
        assert np.array_equal(others[0], case.silhouette) and len(others) == len(case.scene.placements)


def test_scenes_without_each_thing_and_removals_judged_against_them(judges: Judges, tmp_path: Path) -> None:
    photos, scenes = tmp_path / "photos", tmp_path / "removals"
    write_tabletop(photos, 3, seed=7, side=96)
    things = {path.stem: Truth.load(path).objects for path in sorted(photos.glob("*.png"))}
    assert write_removals(photos, scenes) == sum(map(len, things.values())) and write_removals(photos, scenes) == 0
    for stem, objects in things.items():
        present = np.asarray(Picture.load(photos / f"{stem}.png").pixels)
        for number, thing in enumerate(objects):
            absent = np.asarray(Picture.load(scenes / f"{stem}-{number}.png").pixels)
            differs = np.abs(present.astype(int) - absent).max(2) > 12
            assert differs[thing.mask].mean() > 0.5
            for other, rest in enumerate(objects):
                assert other == number or differs[rest.mask].mean() < 0.5
            gone, left, nearly = judge_removals(judges, [absent, present, absent ^ 1], present, absent, thing.mask)
            assert gone.success and gone.psnr > 60 and not left.gone and not left.success
            assert nearly.gone and REMOVED_PSNR < nearly.psnr < 60
    with pytest.raises(PictureError, match="no rendered scenes"):
        write_removals(scenes, tmp_path / "none")
    Picture.from_array(np.zeros((96, 96, 3), np.uint8)).save(photos / "00001.png", overwrite=True)
    with pytest.raises(PictureError, match="not the scene"):
        write_removals(photos, scenes, overwrite=True)


def test_scenes_to_learn_from_are_not_those_of_the_measurements(tmp_path: Path) -> None:
    learn, test = tmp_path / "learn", tmp_path / "test"
    write_tabletop(learn, 1, seed=7, side=64, split="train")
    write_tabletop(test, 1, seed=7, side=64)
    assert Picture.load(learn / "00000.png").sha256 != Picture.load(test / "00000.png").sha256
    with pytest.raises(OutputExistsError, match="something else"):
        write_tabletop(learn, 1, seed=7, side=64)
    assert write_removals(learn, tmp_path / "removals") == len(Truth.load(learn / "00000.png").objects)
    with pytest.raises(KnobError, match="split is 'validation'"):
        write_tabletop(tmp_path / "other", 1, split="validation")


def test_settings_of_adding_do_not_touch_those_of_references() -> None:
    assert settings_hash() != add_settings_hash() and len(add_settings_hash()) == 64


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bench", "add", "--only", "text"], "'text' is no part of --bench add"),
        (["--bench", "add", "--plot", "p.png"], "--plot is for --bench zero_shot"),
        (["--part", "1/2"], "--part is for --bench zero_shot or add"),
        (["--bench", "zero_shot", "--engine-folder", "x"], "--engine-folder is for --bench add"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["evaluation", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and words in capsys.readouterr().err.splitlines()[-1]


def test_the_command_line_measures_and_the_card_has_a_third_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intarsia.editing import Studio
    from intarsia.evaluation import identity

    monkeypatch.chdir(tmp_path)
    save_tiny(tiny_backbone(), tmp_path / "tiny")
    save_judges(tmp_path / "judges")
    monkeypatch.setattr(identity, "add_model_hash", lambda name: f"hash of {name}")
    seen: list[dict[str, Any]] = []

    def add(self: Studio, scene: Picture, words: str, **options: Any) -> Any:
        seen.append(options)
        return type("Result", (), {"picture": scene, "support": np.ones(scene.size, bool)})

    monkeypatch.setattr(Studio, "add", add)
    common = ["--bench", "add", "--model", "tiny", "--judges", "judges", "--only", "add", "--limit", "1"]
    monkeypatch.setattr("sys.argv", ["e", *common, "--add-model", "mine", "--output", "out/add.json"])
    main()
    assert seen == [{"seed": 5_000_000, "add_model": "mine"}]
    rows = json.loads((tmp_path / "out" / "add.json").read_text())["metrics"]
    assert rows["add_class"]["adapters"] == "hash of mine" and rows["add_bytes_changed"]["value"] == 0
    (tmp_path / "tiny" / "model_card.json").write_text(
        json.dumps(
            {
                "recipe": {"scale": "cpu"},
                "level": "small",
                "native_size": 64,
                "license": "none",
                "recipe_hash": "0",
                "stages": {},
            }
        )
    )
    write_markdown(
        tmp_path / "tiny", tmp_path / "m.json", tmp_path / "c.md", tmp_path / "z.json", tmp_path / "out" / "add.json"
    )
    card = (tmp_path / "c.md").read_text()
    assert "## Adding on an instruction" in card and "hash of mine" in card and "`add_class`" in card
