"""The numbers of inserting without learning: held-out subjects, shown in one photo, in words, or in both."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from intarsia.editing import Studio
from intarsia.evaluation.case_values import CaseValues, Values
from intarsia.evaluation.cases import Bools, Case, Pixels, as_float, make_cases, photos_of
from intarsia.evaluation.chains import LINKS, changed_in_chain
from intarsia.evaluation.edits import EDIT_KINDS, Edit, edits_of, is_right
from intarsia.evaluation.gallery import GALLERY, VIEWS, Candidates, embedded_views
from intarsia.evaluation.judges import Judges
from intarsia.evaluation.results import Results
from intarsia.evaluation.statistics import bootstrap_interval, spearman, steps_against
from intarsia.imaging import Picture
from intarsia.tabletop import Level, Subject, split_seed

Say = Callable[[str], None]
STRENGTHS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0, 1.5, 2.0)
# Which way each curve of the sweep should go with growing strength.
SWEPT = {"attribute": False, "instance": True, "top1": True}


class ZeroShotBench:
    """Each method measures some keys and adds them to the results; those of a part of the cases only keep values.

    Case i has a subject, a scene and a reference photo of its own, all of the test split, and a seed that every method
    of painting shares. ``options`` go to every edit with a reference (``reference_model``).
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
        **options: Any,
    ) -> None:
        self.studio, self.judges, self.results, self.seed, self.say = studio, judges, results, seed, say
        self.world, self.options = judges.level, options
        self.values = CaseValues({}) if values is None else values

    def reference(self, n: int = 200) -> None:
        """``assign_top1``, ``refine_top1``, ``refine_gain``: a photo and no words, Refine bypassed and not.

        Found among 50 by the instance judge; the gain is the mean of paired differences in similarity to four other
        views of the subject, by the image judge (as CLIP-I) and the instance judge; ``refine_gain`` is the smaller one.
        """
        found = self._measured("reference", n, self._reference_case)
        if found is None:
            return
        columns = {name: [row[name] for row in found] for name in found[0]}
        for way in ("assign", "refine"):
            self._add(f"{way}_top1", columns[f"{way}_top1"])
        self._add("reference_judge_top1", columns["judge_top1"])
        gains: dict[str, tuple[float, list[float], dict[str, object]]] = {}
        for by in ("clip_i", "instance"):
            conditions: dict[str, object] = {"image_judge": self.judges.image.hash} if by == "clip_i" else {}
            for way in ("assign", "refine", "judge"):
                self._add(f"reference_{way}_{by}", columns[f"{way}_{by}"], bounds=True, **conditions)
            paired = [b - a for a, b in zip(columns[f"assign_{by}"], columns[f"refine_{by}"], strict=True)]
            self._add(f"refine_gain_{by}", paired, bounds=True, **conditions)
            gains[by] = float(np.mean(paired)), paired, conditions
        by = min(gains, key=lambda name: gains[name][0])
        self._add("refine_gain", gains[by][1], bounds=True, by=by, **gains[by][2])

    def _reference_case(self, i: int) -> Values:
        case = self.case(i)
        instance, image = embedded_views([self.judges.portraits, self.judges.looks], self.judges, [case.subject], VIEWS)
        gallery = self.candidates.gallery(i, case.subject, own=instance[0])
        pictures = {
            "assign": self.paint(i, detail_strength=0.0),
            "refine": self.paint(i, detail_strength=1.0),
            "judge": case.present,
        }
        values: Values = {}
        for way, pixels in pictures.items():
            portrait = self.portrait(pixels, case.mask)
            values[f"{way}_top1"] = float(int((gallery @ portrait).argmax()) == self.candidates.row(i))
            values[f"{way}_instance"] = _similarity(instance[0], portrait)
            values[f"{way}_clip_i"] = _similarity(image[0], self.judges.looks([as_float(pixels)], [case.mask])[0])
        return values

    def both(self, n: int = 200) -> None:
        """``both_attribute``, ``both_top1``: a photo, and words that change one attribute, at the default strengths.

        Right as in ``edit_attribute``; found as in ``edit_top1``, among 50 that all got the same edit.
        ``both_attribute_unedited`` is the same judgement of true renders of the subject without the edit.
        """
        found = self._measured("both", n, self._both_case)
        if found is None:
            return
        for measure in ("attribute", "top1", "attribute_unedited"):
            self._add(f"both_{measure}", [row[measure] for row in found])
        for number, kind in enumerate(EDIT_KINDS):
            right = [row["attribute"] for row in found[number :: len(EDIT_KINDS)]]
            if right:
                self._add(f"both_{kind}", right)

    def _both_case(self, i: int) -> Values:
        case, edit = self.case(i), self.edit(i)
        values = self._edited(i, self.paint(i, edit.prompt))
        seen = self.judges.named([as_float(case.present)], [case.mask])[0]
        unedited = is_right(edit.kind, seen, edit.apply(case.subject).attributes)
        return {**values, "attribute_unedited": float(unedited)}

    def _edited(self, i: int, pixels: Pixels) -> Values:
        case, edit = self.case(i), self.edit(i)
        seen = self.judges.named([as_float(pixels)], [case.mask])[0]
        gallery = self.candidates.gallery(i, case.subject, edit)
        place = int((gallery @ self.portrait(pixels, case.mask)).argmax())
        return {
            "attribute": float(is_right(edit.kind, seen, edit.apply(case.subject).attributes)),
            "top1": float(place == self.candidates.row(i)),
        }

    def beta(self, n: int = 40) -> None:
        """``beta_*``: the same edits with the same seeds at growing strength of the photo (β of Assign).

        Refine stays at its default. ``beta_instance_*`` is the similarity to the subject *without* the edit: how much
        of the photo is kept. ``*_spearman`` is the means' rank correlation with β; ``steps_against`` counts
        steps the wrong way.
        """
        found = self._measured("beta", n, self._beta_case)
        if found is None:
            return
        for measure, rising in SWEPT.items():
            curve: list[float] = []
            for strength in STRENGTHS:
                values = [row[f"{measure}_{strength:g}"] for row in found]
                self._add(f"beta_{measure}_{strength:g}", values, bounds=measure == "instance", beta=strength)
                curve.append(float(np.mean(values)))
            against = steps_against(curve, rising=rising)
            key, rho = f"beta_{measure}_spearman", spearman(curve)
            self.results.add(key, rho, n, judged=True, strengths=len(curve), steps_against=against)
            self.say(f"{key} = {rho:.3f}, {against} of {len(curve) - 1} steps the other way")

    def _beta_case(self, i: int) -> Values:
        case, edit = self.case(i), self.edit(i)
        own = embedded_views([self.judges.portraits], self.judges, [case.subject], VIEWS)[0][0]
        values: Values = {}
        for strength in STRENGTHS:
            pixels = self.paint(i, edit.prompt, reference_strength=strength)
            seen = {**self._edited(i, pixels), "instance": _similarity(own, self.portrait(pixels, case.mask))}
            values |= {f"{measure}_{strength:g}": value for measure, value in seen.items()}
        return values

    def chain(self, n: int = 5) -> None:
        """``chain_bytes_changed``: channel values that change where they may not, in chains of ten random edits."""

        def changed(i: int) -> Values:
            seed = self.seed * 1_000 + i
            return {"changed": changed_in_chain(self.studio, self.world, seed, **self.options)}

        found = self._measured("chain", n, changed)
        if found is not None:
            total = int(sum(row["changed"] for row in found))
            self.results.add("chain_bytes_changed", total, n, edits=LINKS * n)
            self.say(f"chain_bytes_changed = {total} (n = {n})")

    def quadruplets(self, scenes: int = 2_000) -> None:
        """``quadruplet_*`` of the data engine on rendered scenes, a fifth of its helpers' answers wrong."""
        from intarsia.evaluation.engine_runs import NOISE, quadruplet_numbers

        def measure(_: int) -> Values:
            report = quadruplet_numbers(scenes, self.seed, self.studio.model)
            counts = {"kept": report.kept, "candidates": report.candidates, "objects": report.objects}
            shares = {
                "precision": report.precision,
                "precision_before": report.precision_before,
                "recall": report.recall,
            }
            return {**counts, **shares}

        found = self._measured(f"quadruplets-{scenes}", 1, measure)
        if found is not None:
            for name, of in (("precision", "kept"), ("precision_before", "candidates"), ("recall", "objects")):
                n = int(found[0][of])
                self.results.add(f"quadruplet_{name}", found[0][name], n, scenes=scenes, noise=NOISE)
                self.say(f"quadruplet_{name} = {found[0][name]:.4f} (n = {n})")

    def kills(self, n: int = 30) -> None:
        """``kill_lost``, ``kill_doubled``: rows, over so many kills of the engine's command at random moments."""
        from intarsia.evaluation.engine_runs import kill_numbers

        def measure(_: int) -> Values:
            lost, doubled, different = kill_numbers(n, self.seed, self.studio.model)
            return {"lost": lost, "doubled": doubled, "different": different}

        found = self._measured(f"kills-{n}", 1, measure)
        if found is not None:
            for name in ("lost", "doubled"):
                value = int(found[0][name])
                self.results.add(f"kill_{name}", value, n, files_different=int(found[0]["different"]))
                self.say(f"kill_{name} = {value} (n = {n})")

    @cached_property
    def candidates(self) -> Candidates:
        """The fixed list among which subjects are looked for; the first cases' own."""
        return Candidates(self.judges, [self.subject(i) for i in range(GALLERY)])

    def subject(self, i: int) -> Subject:
        """The held-out subject of a case."""
        return Subject.sample(split_seed("test", 120_000 * self.seed + i), self.world)

    def case(self, i: int) -> Case:
        """The held-out scene of a case."""
        return _case(self.world, self.subject(i), 10_000 * self.seed + 1_000 + i)

    def photo(self, i: int) -> tuple[Pixels, Bools]:
        """The reference of a case: its subject alone, from another side, on another table; and the exact mask."""
        return _photo(self.world, self.subject(i))

    def edit(self, i: int) -> Edit:
        """A colour, a material, an accessory edit, in turn."""
        draw = random.Random(f"both-{self.seed}-{i}")
        return edits_of(self.subject(i), self.world, draw)[i % len(EDIT_KINDS)]

    def paint(self, i: int, prompt: str = "", **options: Any) -> Pixels:
        """The case's scene with what its photo and the prompt say painted into its mask, uint8 (H, W, 3)."""
        case, (photo, silhouette) = self.case(i), self.photo(i)
        result = self.studio.insert(
            Picture.from_array(case.absent),
            mask=case.mask,
            prompt=prompt,
            reference=Picture.from_array(photo),
            reference_mask=silhouette,
            seed=self.seed * 4_000_000 + i,
            **{**self.options, **options},
        )
        return np.asarray(result.picture.pixels, np.uint8)[..., :3]

    def portrait(self, pixels: Pixels, mask: Bools) -> Tensor:
        """The instance judge's embedding (D,) of a picture's place."""
        return self.judges.portraits([as_float(pixels)], [mask])[0]

    def _measured(self, experiment: str, n: int, one: Callable[[int], Values]) -> list[Values] | None:
        return self.values.measure(experiment, n, one, self.say)

    def _add(self, key: str, values: Sequence[float], *, bounds: bool = False, **conditions: object) -> None:
        value = float(np.mean(values))
        if bounds:
            low, high = bootstrap_interval(values, self.seed)
            conditions |= {"low": round(low, 4), "high": round(high, 4)}
        self.results.add(key, value, len(values), judged=True, **conditions)
        self.say(f"{key} = {value:.4f} (n = {len(values)})")


@lru_cache(maxsize=4)
def _case(world: Level, subject: Subject, seed: int) -> Case:
    return make_cases(1, world, seed, subjects=[subject])[0]


@lru_cache(maxsize=4)
def _photo(world: Level, subject: Subject) -> tuple[Pixels, Bools]:
    return photos_of([subject], world, 1)[0][0]


def _similarity(views: Tensor, picture: Tensor) -> float:
    """Mean cosine of a picture (D,) with some views (V, D), all of unit length."""
    return float((views @ picture).mean())
