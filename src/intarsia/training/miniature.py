"""The whole recipe, stage by stage: pictures → VAE → towers → cached latents → U-Net → judges → weights.

Each stage keeps its result in the run's folder and is skipped when that is there, so the same command continues a run
that was killed, and ``minutes`` cuts a long run into pieces.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from intarsia.errors import IntarsiaError
from intarsia.tabletop import background_caption, level, vocabulary_words
from intarsia.training.examples import ExampleSet, render_examples
from intarsia.training.export import export_judges, export_miniature, write_card
from intarsia.training.judges import (
    SEED_OFFSET,
    AttributeJudge,
    InstanceJudge,
    attribute_accuracy,
    instance_top1,
    train_attribute_judge,
    train_instance_judge,
)
from intarsia.training.latents import LatentCache, cache_latents
from intarsia.training.recipe import Recipe
from intarsia.training.tokenizer import build_tokenizer
from intarsia.training.towers import Towers, train_towers, zero_shot_accuracy
from intarsia.training.unet import build_unet, caption_bank, train_unet
from intarsia.training.vae import build_vae, reconstruction_psnr, train_vae

Say = Callable[[str], None]
VALIDATION = 512


class OtherRecipeError(IntarsiaError):
    """The folder of a run was begun with other settings."""


class Run:
    """One training run in one folder."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        device: str = "cpu",
        minutes: float | None = None,
        say: Say = print,
    ) -> None:
        self.recipe, self.folder, self.device, self.say = recipe, folder, device, say
        self.deadline = None if minutes is None else time.monotonic() + minutes * 60
        self._examples: dict[str, ExampleSet] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._claim()

    def _claim(self) -> None:
        """A run's folder belongs to one recipe: stages of different recipes must not be mixed unseen."""
        path = self.folder / "recipe.json"
        mine = json.dumps(asdict(self.recipe), indent=1)
        if not path.exists():
            path.write_text(mine)
        elif path.read_text() != mine:
            raise OtherRecipeError(
                f"{self.folder} holds a run of another recipe; give another folder with --run, or undo the change"
            )

    def left(self) -> float | None:
        """Minutes left of this call's allowance, None when there is no limit."""
        return None if self.deadline is None else max(0.0, (self.deadline - time.monotonic()) / 60)

    def report(self, name: str) -> Callable[[dict[str, float]], None]:
        """What the training loop calls with each row of its log."""

        def show(row: dict[str, float]) -> None:
            rate = row["images"] / max(row["seconds"], 1e-6)
            self.say(f"{name}: {row['images']:.0f} images, loss {row['loss']:.4f}, {rate:.1f} images/s")

        return show

    def note(self, **values: object) -> None:
        """Keep measured numbers of a stage in ``numbers.json``."""
        path = self.folder / "numbers.json"
        numbers = json.loads(path.read_text()) if path.exists() else {}
        numbers.update(values)
        path.write_text(json.dumps(numbers, indent=1))
        self.say(json.dumps(values))

    def examples(self, split: str = "train") -> ExampleSet:
        """Rendered examples of a split (rendering what is missing)."""
        if split not in self._examples:
            count = self.recipe.examples if split == "train" else min(VALIDATION, self.recipe.examples)
            paths = list(
                render_examples(
                    self.recipe,
                    self.folder / "examples",
                    count,
                    split=split,
                    device=self.device,
                    workers=os.cpu_count() or 1,
                )
            )
            self._examples[split] = ExampleSet.load(paths)
        return self._examples[split]

    def native(self, split: str = "train") -> ExampleSet:
        """The examples at the side that the U-Net paints at."""
        return self.examples(split).resized(self.recipe.side)

    def _finished(self, name: str, module: Any) -> bool:
        path = self.folder / f"{name}.final.pt"
        if path.exists():
            module.load_state_dict(torch.load(path, map_location=self.device, weights_only=True))
            module.to(self.device).eval()
        return path.exists()

    def _keep(self, name: str, module: Any) -> None:
        part = self.folder / f"{name}.final.part"
        torch.save(module.state_dict(), part)
        os.replace(part, self.folder / f"{name}.final.pt")

    def vae(self) -> Any | None:
        """The trained ``AutoencoderKL``; None when the minutes ran out (so do the other stages)."""
        vae: Any = build_vae(self.recipe)
        if not self._finished("vae", vae):
            vae = train_vae(
                self.recipe,
                self.native().present,
                self.folder,
                device=self.device,
                minutes=self.left(),
                report=self.report("vae"),
            )
            if vae is None:
                return None
            self._keep("vae", vae)
            values = reconstruction_psnr(vae, self.native("validation").present, self.device)
            self.note(vae_psnr_validation=sum(values) / len(values))
        return vae

    def _towers(self, name: str, offset: int) -> tuple[Towers, Any] | None:
        world = level(self.recipe.level)
        tokenizer = build_tokenizer(vocabulary_words(), self.recipe.towers.context)
        towers = Towers(self.recipe, tokenizer, world)
        if not self._finished(name, towers):
            trained = train_towers(
                self.recipe,
                self.examples(),
                self.folder,
                name=name,
                seed_offset=offset,
                minutes=self.left(),
                report=self.report(name),
            )
            if trained is None:
                return None
            towers = trained[0]
            self._keep(name, towers)
            self.note(
                **{f"{name}_zero_shot": zero_shot_accuracy(towers, tokenizer, self.examples("validation"), world)}
            )
        return towers, tokenizer

    def towers(self) -> tuple[Towers, Any] | None:
        """The text and image towers that condition the miniature, and their tokenizer."""
        return self._towers("towers", 0)

    def judges(self) -> dict[str, Any] | None:
        """The held-out judges by name: ``attributes``, ``instances``."""
        e, world = self.recipe.evaluators, level(self.recipe.level)
        attributes: AttributeJudge | None = AttributeJudge(e.width, world)
        if not self._finished("judge-attributes", attributes):
            attributes = train_attribute_judge(
                self.recipe,
                self.examples(),
                self.folder,
                minutes=self.left(),
                report=self.report("judge-attributes"),
            )
            if attributes is None:
                return None
            self._keep("judge-attributes", attributes)
            self.note(judge_attributes=attribute_accuracy(attributes, self.examples("validation"), world))
        instances: InstanceJudge | None = InstanceJudge(e.width, e.embedding)
        if not self._finished("judge-instances", instances):
            instances = train_instance_judge(
                self.recipe,
                self.examples(),
                self.folder,
                minutes=self.left(),
                report=self.report("judge-instances"),
            )
            if instances is None:
                return None
            self._keep("judge-instances", instances)
            self.note(judge_instances_top1=instance_top1(instances, self.examples("validation")))
        return {"attributes": attributes, "instances": instances}

    def text_judge(self) -> tuple[Towers, Any] | None:
        """The held-out image-text encoder: the towers' recipe from another seed, used for measurements only."""
        return self._towers("judge-towers", SEED_OFFSET)

    def latents(self) -> LatentCache | None:
        """The cached training samples of the U-Net."""
        path = self.folder / "latents.pt"
        if path.exists():
            return LatentCache.load(path)
        vae = self.vae()
        if vae is None:
            return None
        began = time.monotonic()

        def report(done: int, total: int) -> None:
            if done % 1024 < 16 or done == total:
                self.say(f"latents: {done}/{total} examples, {time.monotonic() - began:.0f} s")

        pictures = self.examples().first(self.recipe.unet.examples).resized(self.recipe.side)
        cache = cache_latents(vae, pictures, self.recipe.seed, device=self.device, report=report)
        cache.save(path)
        return cache

    def unet(self, *, bf16: bool = False) -> Any | None:
        """The trained U-Net with its averaged weights."""
        unet = build_unet(self.recipe)
        if not self._finished("unet", unet):
            cache, towers = self.latents(), self.towers()
            if cache is None or towers is None:
                return None
            bank = caption_bank(
                towers[0].eval(), towers[1], cache, self.examples(), self.recipe.seed, self.recipe.unet.captions
            )
            unet = train_unet(
                self.recipe,
                cache,
                bank,
                self.folder,
                device=self.device,
                minutes=self.left(),
                bf16=bf16,
                report=self.report("unet"),
            )
            if unet is None:
                return None
            self._keep("unet", unet)
        return unet

    def card(self) -> dict[str, Any]:
        """The world's level, the recipe with its hash, and the images and seconds that each stage took so far."""
        stages: dict[str, dict[str, float]] = {}
        for log in sorted(self.folder.glob("*.jsonl")):
            last = json.loads(log.read_text().splitlines()[-1])
            stages[log.stem] = {key: last[key] for key in ("images", "loss", "seconds")}
        numbers = self.folder / "numbers.json"
        return {
            "name": "miniature",
            "license": "Apache-2.0",
            "level": self.recipe.level,
            "native_size": self.recipe.side,
            "recipe_hash": self.recipe.hash,
            "recipe": asdict(self.recipe),
            "stages": stages,
            "training_numbers": json.loads(numbers.read_text()) if numbers.exists() else {},
            "background_prompt": background_caption("plain"),
        }

    def export(self, weights: Path, *, unfinished: bool = False) -> bool:
        """Write the miniature and its judges under ``weights``; with ``unfinished`` the U-Net's running average."""
        vae, towers, judges, text = self.vae(), self.towers(), self.judges(), self.text_judge()
        if vae is None or towers is None or judges is None or text is None:
            return False
        unet: Any = build_unet(self.recipe)
        if not self._finished("unet", unet):
            if not unfinished:
                return False
            state = torch.load(self.folder / "unet.pt", map_location="cpu", weights_only=True)
            with torch.no_grad():
                for p, a in zip(unet.parameters(), state["average"], strict=True):
                    p.copy_(a)
        export_miniature(weights / "miniature", vae, unet, *towers, level(self.recipe.level))
        write_card(weights / "miniature", self.card())
        export_judges(
            weights / "judges",
            {
                "attributes": judges["attributes"],
                "instances": judges["instances"],
                "text": text[0].text[1],
                "image": text[0].vision[1],
            },
            {"recipe": asdict(self.recipe), "recipe_hash": self.recipe.hash},
        )
        return True
