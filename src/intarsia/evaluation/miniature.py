"""The miniature's numbers: everything goes through ``Studio``, as a user's edit does; held-out judges look at it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from intarsia.editing import Studio
from intarsia.evaluation.cases import Case, Pixels, as_float, make_cases, photos_of, pixels_of
from intarsia.evaluation.edits import edits_of, is_right
from intarsia.evaluation.gallery import GALLERY, gallery_of, nearest, portraits_of
from intarsia.evaluation.judges import Bools, Judges
from intarsia.evaluation.results import Results
from intarsia.imaging import Picture, fill_hole
from intarsia.learning import LearnConfig, Photos
from intarsia.tabletop import Subject, caption, sample_scene, split_seed

Say = Callable[[str], None]
KINDS = ("class", "colour", "material", "pattern", "accessory")


def psnr(a: Pixels, b: Pixels, where: Bools) -> float:
    """Peak signal-to-noise ratio in dB over the pixels of ``where``."""
    error = np.square(a[where].astype(float) - b[where].astype(float)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def within(mask: Bools, pixels: int) -> Bools:
    """All pixels at most so many rows and columns away from the mask: no support may reach further."""
    image = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * pixels + 1))
    return np.asarray(image, np.uint8) > 127


class MiniatureBench:
    """Each method measures some keys and adds them to the results."""

    def __init__(self, studio: Studio, judges: Judges, results: Results, *, seed: int = 1, say: Say = print) -> None:
        self.studio, self.judges, self.results, self.seed, self.say = studio, judges, results, seed, say
        self.world = judges.level

    def add(self, key: str, values: Sequence[float], *, judged: bool = False, **conditions: object) -> None:
        """Record the mean of some values under a key."""
        value = float(np.mean(values)) if values else float("nan")
        self.results.add(key, value, len(values), judged=judged, **conditions)
        self.say(f"{key} = {value:.4f} (n = {len(values)})")

    def vae(self, n: int = 256) -> None:
        """``vae_psnr``: mean PSNR of reconstructions of held-out pictures at the native side."""
        backbone = self.studio.backbone
        values: list[float] = []
        side = backbone.native_size
        for start in range(0, n, 16):
            scenes = [
                sample_scene(70_000 * self.seed + start + i, self.world, objects=1 + i % 3, split="test")
                for i in range(min(16, n - start))
            ]
            pixels, _ = pixels_of(scenes, side)
            x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1
            with torch.no_grad():
                y = backbone.decode(backbone.encode(x)).clamp(-1, 1)
            error = ((x - y) / 2).square().mean((1, 2, 3))
            values += (-10 * error.log10()).tolist()
        self.add("vae_psnr", values)

    def insert(self, case: Case, prompt: str, seed: int, **options: Any) -> Pixels:
        """The case's scene with what the prompt says painted into its mask, uint8 (H, W, 3)."""
        result = self.studio.insert(
            Picture.from_array(case.absent), mask=case.mask, prompt=prompt, seed=seed, **options
        )
        return np.asarray(result.picture.pixels, np.uint8)[..., :3]

    def text(self, n: int = 500) -> None:
        """``text_*``: insertion from words alone; shares of pictures in which the judge sees the attribute named.

        Plain patterns and the absence of accessories have no words in the prompt; they count as right when the judge
        sees none. ``text_pattern_named`` and ``text_accessory_named`` count only prompts that ask for one.
        """
        right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        named: dict[str, list[bool]] = {"pattern": [], "accessory": []}
        for i, case in enumerate(make_cases(n, self.world, self.seed)):
            truth = case.subject.attributes
            painted = self.insert(case, caption(truth), self.seed * 1_000_000 + i)
            seen = self.judges.named([as_float(painted)], [case.mask])[0]
            for kind in KINDS:
                right[kind].append(is_right(kind, seen, truth))
                if kind in named and truth[kind] not in ("plain", "none"):
                    named[kind].append(seen[kind] == truth[kind])
            if (i + 1) % 50 == 0:
                self.say(f"text: {i + 1}/{n} " + ", ".join(f"{k} {np.mean(v):.2f}" for k, v in right.items()))
        for kind, values in right.items():
            self.add(f"text_{kind}", values, judged=True)
        for kind, values in named.items():
            if values:
                self.add(f"text_{kind}_named", values, judged=True)

    def judges_on_renders(self, n: int = 500) -> None:
        """``judge_*``: the same judge on true renders of ``text``'s cases, through the same crops: its ceiling."""
        right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        for case in make_cases(n, self.world, self.seed):
            seen = self.judges.named([as_float(case.present)], [case.mask])[0]
            for kind in KINDS:
                right[kind].append(is_right(kind, seen, case.subject.attributes))
        for kind, values in right.items():
            self.add(f"judge_{kind}", values, judged=True)

    def removal(self, n: int = 200) -> None:
        """``removal_psnr``: inside the mask, against the scene rendered without the object.

        The mask is a box or bulge together with all that the object changes (shadow, reflection).
        ``removal_psnr_fill``: the same of the smooth fill that sampling starts from, without any model.
        """
        values, filled = [], []
        for i, case in enumerate(make_cases(n, self.world, self.seed + 1)):
            wide = case.full | case.mask
            result = self.studio.remove(Picture.from_array(case.present), mask=wide, seed=self.seed * 2_000_000 + i)
            pixels = np.asarray(result.picture.pixels, np.uint8)[..., :3]
            values.append(psnr(pixels, case.absent, wide))
            smooth = np.rint(np.clip(fill_hole(as_float(case.present), wide), 0, 1) * 255).astype(np.uint8)
            filled.append(psnr(smooth, case.absent, wide))
        self.add("removal_psnr", values)
        self.add("removal_psnr_fill", filled)

    def learned(self, n: int = 30, photos: int = 5, steps: int | None = None) -> None:
        """``learned_top1``, ``edit_attribute``, ``edit_top1``: held-out subjects, learned from five photos each.

        An edited subject is looked for among 50 subjects that all got the same edit, rendered as they then truly look.
        Two controls: ``words_top1`` paints the subject's full caption without having learned it, and ``judge_top1``
        shows the judge a true render. ``edit_colour``, ``edit_material`` and ``edit_accessory`` are the parts of
        ``edit_attribute``.
        """
        draw = random.Random(f"learned-{self.seed}")
        subjects = [Subject.sample(split_seed("test", 90_000 * self.seed + i), self.world) for i in range(GALLERY)]
        gallery = gallery_of(portraits_of(self.judges, subjects))
        top1: dict[str, list[bool]] = {"learned_top1": [], "words_top1": [], "judge_top1": [], "edit_top1": []}
        right: dict[str, list[bool]] = {"edit_colour": [], "edit_material": [], "edit_accessory": []}
        shares: dict[str, list[bool]] = {}
        config = LearnConfig.preset("default") if steps is None else LearnConfig.preset("default", steps=steps)
        for i, subject in enumerate(subjects[:n]):
            shots = photos_of([subject], self.world, photos)[0]
            learned = self.studio.learn(
                Photos.from_arrays([as_float(p) for p, _ in shots], [m for _, m in shots]),
                subject.name,
                config=config,
            )
            case = make_cases(1, self.world, self.seed + 100 + i, subjects=[subject])[0]
            seed = self.seed * 3_000_000 + i
            plain = self.insert(case, f"a photo of a sks {subject.name}", seed, subject=learned)
            words = self.insert(case, caption(subject.attributes), seed)
            for key, pixels in (("learned_top1", plain), ("words_top1", words), ("judge_top1", case.present)):
                top1[key].append(nearest(self.judges, gallery, pixels, case.mask) == i)
            for edit in edits_of(subject, self.world, draw, token="sks"):
                edited = self.insert(case, edit.prompt, seed, subject=learned)
                seen = self.judges.named([as_float(edited)], [case.mask])[0]
                right[f"edit_{edit.kind}"].append(is_right(edit.kind, seen, edit.apply(subject).attributes))
                others = gallery_of(portraits_of(self.judges, [edit.apply(other) for other in subjects], views=2))
                top1["edit_top1"].append(nearest(self.judges, others, edited, case.mask) == i)
            shares = {**top1, "edit_attribute": [x for values in right.values() for x in values]}
            self.say(f"learned: {i + 1}/{n} " + ", ".join(f"{k} {np.mean(v):.2f}" for k, v in shares.items()))
        conditions: dict[str, object] = {} if steps is None else {"learn_steps": steps}
        for key, values in {**right, **shares}.items():
            self.add(key, values, judged=True, **conditions)

    def untouched(self, n: int = 200) -> None:
        """``bytes_changed_outside``: over random verbs, sizes, modes, masks and settings; must be 0 in total.

        Counted are channel values outside the reported support, and outside what growth and feather may reach, so a
        support that is reported too large is no excuse.
        """
        changed = 0
        for i in range(n):
            draw = random.Random(f"untouched-{self.seed}-{i}")
            numbers = np.random.default_rng(draw.randrange(2**31))
            height, width = draw.randint(24, 160), draw.randint(24, 160)
            channels = draw.choice((1, 2, 3, 4))
            kind = draw.choice((np.uint8, np.uint16))
            pixels = numbers.integers(0, np.iinfo(kind).max + 1, (height, width, channels), dtype=kind)
            mask = np.zeros((height, width), bool)
            for _ in range(draw.randint(1, 3)):
                y, x = draw.randrange(height), draw.randrange(width)
                mask[y : y + draw.randint(1, height // 2), x : x + draw.randint(1, width // 2)] = True
            options: dict[str, Any] = {
                "steps": draw.randint(1, 3),
                "seed": i,
                "preset": draw.choice(("paper", "default")),
                "feather": draw.randint(0, 6),
                "growth": draw.randint(0, 6),
            }
            scene = Picture.from_array(pixels)
            if draw.random() < 0.5:
                result = self.studio.insert(scene, mask=mask, prompt="a red mug", **options)
            else:
                result = self.studio.remove(scene, mask=mask, **options)
            outside = ~(result.support & within(mask, options["growth"] + options["feather"]))
            changed += int((np.asarray(result.picture.pixels)[outside] != np.asarray(scene.pixels)[outside]).sum())
        self.results.add("bytes_changed_outside", changed, n)
        self.say(f"bytes_changed_outside = {changed} (n = {n})")
