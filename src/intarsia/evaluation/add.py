"""The numbers of adding: held-out scenes and instructions, and the engine of pairs that teaches it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from intarsia.editing import Studio
from intarsia.evaluation.case_values import CaseValues, Values
from intarsia.evaluation.cases import Bools, Case, Pixels, as_float, make_cases
from intarsia.evaluation.edits import is_right
from intarsia.evaluation.judges import Judges
from intarsia.evaluation.placement import Placement, free_places, is_at, other_masks, placement_of, table_area
from intarsia.evaluation.removals import OTHER_PSNRS
from intarsia.evaluation.results import Results
from intarsia.imaging import Picture
from intarsia.perception import PLACES, place_of
from intarsia.tabletop import Level, Subject, split_seed

if TYPE_CHECKING:
    from intarsia.result import EditResult

Say = Callable[[str], None]
_ASKED = PLACES[3:6]
_FINISHES: dict[str, dict[str, Any]] = {
    "direct": {"finish": "direct"},
    "repaint": {"finish": "repaint", "repaint_strength": 0.8},
}
_SHARES = ("class", "colour", "placement", "table", "clear")


@dataclass(frozen=True)
class Ask:
    """An instruction, what it names, and the place that it says (one of `PLACES`) or None."""

    words: str
    attributes: dict[str, str]
    place: str | None


class AddBench:
    """Each method measures some keys and adds them to the results; those of a part of the cases only keep values.

    Case i of `add` has a subject and a scene of its own, of the test split; the thing is asked for by its class and
    colour, in every second case at a place drawn from those where there is room. ``options`` go to every
    `Studio.add`. ``folder``: where runs of the engine are kept, so that a stopped one goes on; else they are temporary.
    """

    def __init__(
        self,
        studio: Studio,
        judges: Judges,
        results: Results,
        *,
        seed: int = 1,
        say: Say = print,
        values: CaseValues | None = None,
        folder: Path | None = None,
        **options: Any,
    ) -> None:
        self.studio, self.judges, self.results, self.seed, self.say = studio, judges, results, seed, say
        self.world, self.folder, self.options = judges.level, folder, options
        self.values = CaseValues({}) if values is None else values

    def add(self, n: int = 300) -> None:
        """``add_class``, ``add_colour``, ``add_placement``, ``add_bytes_changed`` and what they are to be read against.

        Where nothing was added, nothing is right. ``add_judge_*`` and ``add_truth_placement``: the same measures of
        true renders with their true change masks, the ceiling. ``add_before_*``: of the scene itself in the change
        masks, and ``add_place_elsewhere``: how often what was added stands at a place that was not asked for, of the
        other two; the floor, and as high as ``add_place`` where words are ignored.
        """
        found = self._measured("add", n, self._add_case)
        if found is None:
            return
        for name in _SHARES:
            self._share(f"add_{name}", [row[name] for row in found])
        for name in ("place", "place_elsewhere"):
            self._share(f"add_{name}", [row[name] for row in found if name in row])
        for name in ("judge_class", "judge_colour", "before_class", "before_colour", "truth_placement"):
            self._share(f"add_{name}", [row[name] for row in found])
        for name in ("nothing", "support"):
            self._share(f"add_{name}", [row[name] for row in found])
        changed = int(sum(row["changed"] for row in found))
        self.results.add("add_bytes_changed", changed, n)
        self.say(f"add_bytes_changed = {changed} (n = {n})")

    def _add_case(self, i: int) -> Values:
        case, ask = self.case(i), self.ask(i)
        scene = _of_kind(case.absent, i)
        table, others = table_area(case.scene, len(case.mask)), other_masks(case.scene.without(0), len(case.mask))
        truth = self._seen(case.present, case.full, ask)
        values: Values = {f"judge_{kind}": right for kind, right in truth.items()}
        true_place = None if ask.place is None else place_of(case.silhouette)
        values["truth_placement"] = float(placement_of(case.full, table, others, true_place).right)
        result = self.add_to(scene, ask, i)
        if result is None:
            zeros: Values = dict.fromkeys((*_SHARES, "changed", "support", "before_class", "before_colour"), 0.0)
            placed = {} if ask.place is None else {"place": 0.0, "place_elsewhere": 0.0}
            return values | zeros | {"nothing": 1.0} | placed
        pixels = np.asarray(np.rint(result.picture.rgb() * 255), np.uint8)
        where = placement_of(result.support, table, others, ask.place)
        values |= self._seen(pixels, result.support, ask)
        before = self._seen(case.absent, result.support, ask)
        values |= {f"before_{kind}": right for kind, right in before.items()}
        if ask.place is not None:
            elsewhere = [is_at(result.support, other) for other in _ASKED if other != ask.place]
            values["place_elsewhere"] = float(np.mean(elsewhere))
        values |= {"nothing": 0.0, "support": float(result.support.mean()), **_placed(where)}
        values["changed"] = float(_changed(scene, result.picture, ~result.support))
        return values

    def finishes(self, n: int = 60) -> None:
        """``add_direct_class``, ``add_repaint_class`` and so on: with the instruction model's own pixels, and repainted
        from these by the inpainting model."""
        for finish, options in _FINISHES.items():
            found = self._measured(finish, n, partial(self._finished_case, options=options))
            for name in () if found is None else ("class", "colour"):
                self._share(f"add_{finish}_{name}", [row[name] for row in found or ()])

    def _finished_case(self, i: int, options: Mapping[str, Any]) -> Values:
        case, ask = self.case(i), self.ask(i)
        result = self.add_to(_of_kind(case.absent, 0), ask, i, **options)
        if result is None:
            return {"class": 0.0, "colour": 0.0}
        return self._seen(np.asarray(result.picture.pixels, np.uint8), result.support, ask)

    def add_to(self, scene: Picture, ask: Ask, i: int, **options: Any) -> EditResult | None:
        """The case's picture with what was asked for; None where the model has added nothing, or lost the scene."""
        from intarsia.editing import NothingAddedError, SceneLostError

        try:
            return self.studio.add(scene, ask.words, seed=self.seed * 5_000_000 + i, **{**self.options, **options})
        except (NothingAddedError, SceneLostError):
            return None

    def removal_success(self, n: int = 1_000) -> None:
        """``removal_success_before``, ``removal_success_after``, ``engine_overhead``, ``edit_detection_auc``; see
        `removal_numbers`."""
        from intarsia.evaluation.pair_runs import removal_numbers

        row = self._once(
            f"removal-{n}", lambda: removal_numbers(n, self.seed, self.studio.model, self.judges, self.folder)
        )
        if row is None:
            return
        counts = {"before": int(row["masks"]), "gated": int(row["gated"]), "after": int(row["kept"])}
        for when, count in counts.items():
            for name in ("success", *(f"success_{least}db" for least in OTHER_PSNRS), "psnr", "gone"):
                self._engine(f"removal_{name}_{when}", row[f"{name}_{when}"], count, judged=name != "psnr", masks=n)
        gain = 100 * (row["success_after"] - row["success_before"])
        self._engine("removal_success_gain", gain, counts["after"], judged=True, masks=n)
        self._engine("removal_kept_of_masks", row["kept"] / row["masks"], counts["before"], masks=n)
        if "auc" in row:
            self._probed("edit_detection_auc", row, "best", n)
        if row["timed_rows"]:
            told: dict[str, Any] = {"workers": 1, "seconds": round(row["seconds"], 1)}
            self._engine("engine_overhead", row["overhead"], int(row["timed_rows"]), **told)

    def engine_same(self, n: int = 6) -> None:
        """``engine_same``: 1 if the local runner and Ray, with one worker and with two, write the same files."""
        from intarsia.evaluation.pair_runs import same_numbers

        row = self._once(f"same-{n}", lambda: same_numbers(n, self.seed, self.studio.model))
        if row is not None:
            runs = "local 1, local 2, ray 1, ray 2" if row["ray"] else "local 1, local 2; Ray is not installed"
            told: dict[str, Any] = {"runs": runs, "files_different": int(row["different"]), "kept": int(row["kept"])}
            self._engine("engine_same", float(row["different"] == 0), n, **told)

    def kills(self, n: int = 30) -> None:
        """``kill_lost``, ``kill_doubled``: rows, over so many kills of `intarsia data pipe` at random moments."""
        from intarsia.evaluation.pair_runs import kill_numbers

        def measure() -> Values:
            lost, doubled, different = kill_numbers(n, self.seed)
            return {"lost": lost, "doubled": doubled, "different": different}

        row = self._once(f"kills-{n}", measure)
        if row is not None:
            for name in ("lost", "doubled"):
                self._engine(f"kill_{name}", int(row[name]), n, files_different=int(row["different"]))

    def edit_detection(self, n: int = 300) -> None:
        """``edit_detection_auc_paper``: how well a small classifier tells where in a picture of the preset ``paper`` a
        thing was removed; 0.5 is chance. That of ``best`` is measured beside the removals, on the same pairs."""
        from intarsia.evaluation.pair_runs import probe_numbers

        row = self._once(f"probe-{n}", partial(probe_numbers, n, self.seed, self.studio.model, "paper", self.folder))
        if row is not None:
            self._probed("edit_detection_auc_paper", row, "paper", n)

    def _probed(self, key: str, row: Values, preset: str, masks: int) -> None:
        low, high = round(row["auc_low"], 4), round(row["auc_high"], 4)
        self._engine(key, row["auc"], int(row["auc_n"]), preset=preset, masks=masks, low=low, high=high)

    def subject(self, i: int) -> Subject:
        """What case i asks for."""
        return Subject.sample(split_seed("test", 200_000 * self.seed + i), self.world)

    def case(self, i: int) -> Case:
        """The held-out scene of a case, with and without its thing."""
        return _case(self.world, self.subject(i), 20_000 * self.seed + 2_000 + i)

    def ask(self, i: int) -> Ask:
        """The instruction of a case: "add a red mug", and of every second one "add a red mug at the left", drawn from
        the places where there is room, or, if there are none, where the thing truly stands."""
        named = self.subject(i).attributes
        article = "an" if named["colour"][0] in "aeiou" else "a"
        words = f"add {article} {named['colour']} {named['class']}"
        place = self._place(i) if i % 2 else None
        asked = {"class": named["class"], "colour": named["colour"], "pattern": "plain"}
        return Ask(words if place is None else f"{words} at {place}", asked, place)

    def _place(self, i: int) -> str:
        case = self.case(i)
        free = free_places(other_masks(case.scene.without(0), len(case.mask)), len(case.mask))
        return random.Random(f"place-{self.seed}-{i}").choice(free or [place_of(case.silhouette)])

    def _seen(self, pixels: Pixels, mask: Bools, ask: Ask) -> Values:
        seen = self.judges.named([as_float(pixels)], [mask])[0]
        return {kind: float(is_right(kind, seen, ask.attributes)) for kind in ("class", "colour")}

    def _measured(self, experiment: str, n: int, one: Callable[[int], Values]) -> list[Values] | None:
        return self.values.measure(experiment, n, one, self.say)

    def _once(self, experiment: str, measure: Callable[[], Values]) -> Values | None:
        """What is measured in one piece; None while another part has it."""
        found = self._measured(experiment, 1, lambda _: measure())
        return None if found is None else found[0]

    def _engine(self, key: str, value: float, n: int, *, judged: bool = False, **conditions: object) -> None:
        """A number of the engine, in which the instruction model has no say."""
        replace(self.results, adapters="").add(key, value, n, judged=judged, **conditions)  # the same metrics
        self.say(f"{key} = {value:.4f} (n = {n})")

    def _share(self, key: str, values: Sequence[float]) -> None:
        if values:
            self.results.add(key, float(np.mean(values)), len(values), judged=key.endswith(("_class", "_colour")))
            self.say(f"{key} = {np.mean(values):.4f} (n = {len(values)})")


@lru_cache(maxsize=4)
def _case(world: Level, subject: Subject, seed: int) -> Case:
    return make_cases(1, world, seed, subjects=[subject])[0]


def _of_kind(pixels: Pixels, i: int) -> Picture:
    """The same picture as 8-bit RGB, with an opaque alpha channel, or with 16 bits, in turn."""
    if i % 3 == 1:
        return Picture.from_array(np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2))
    return Picture.from_array(pixels.astype(np.uint16) * 257 if i % 3 == 2 else pixels)


def _placed(where: Placement) -> Values:
    told = {"placement": float(where.right), "table": float(where.table), "clear": float(where.clear)}
    return told if where.place is None else {**told, "place": float(where.place)}


def _changed(scene: Picture, result: Picture, outside: Bools) -> int:
    """Channel values that differ there; all of them where size, channels or depth are others."""
    before, after = np.asarray(scene.pixels), np.asarray(result.pixels)
    if before.shape != after.shape or before.dtype != after.dtype:
        return int(before.size)
    return int((before != after)[outside].sum())
