"""The stages that train: VAE, towers, judges, cached latents, U-Net, Assign, Refine.

Each keeps its result in the run's folder and is skipped when that is there, so the same command continues a run that
was killed, and ``minutes`` cuts a long run into pieces.
"""

from __future__ import annotations

import time
from typing import Any

from intarsia.tabletop import level, vocabulary_words
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
from intarsia.training.processes import is_there, main_first
from intarsia.training.references import ReferenceCache, cache_references
from intarsia.training.run import RunFolder
from intarsia.training.tokenizer import build_tokenizer
from intarsia.training.towers import Towers, tokens_of, train_towers, zero_shot_accuracy
from intarsia.training.unet import build_unet, caption_bank, embed, train_unet
from intarsia.training.vae import build_vae, reconstruction_psnr, train_vae
from intarsia.training.vision import tower_top1, train_vision
from intarsia.training.zero_shot import Phase, ZeroShot, build_zero_shot, train_zero_shot


class Stages(RunFolder):
    """What is trained, in the order in which one stage needs another; None wherever the minutes ran out."""

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

    def vision(self) -> tuple[Towers, Any] | None:
        """The towers with the shipped image tower trained on; the text towers are those of ``towers``."""
        given = self.towers()
        if given is None:
            return None
        towers, tokenizer = given
        if not self._finished("vision", towers.vision[1]):
            examples = self.examples()
            report = self.report("vision")
            if not train_vision(
                self.recipe, towers, tokenizer, examples, self.folder, minutes=self.left(), report=report
            ):
                return None
            self._keep("vision", towers.vision[1])
            held_out = self.examples("validation")
            scores = zero_shot_accuracy(towers, tokenizer, held_out, level(self.recipe.level))
            self.note(vision_zero_shot=scores, vision_instances_top1=tower_top1(towers.vision[1], held_out))
        return towers, tokenizer

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
        if is_there(path):
            return LatentCache.load(path)
        vae = self.vae()
        if vae is None:
            return None
        began = time.monotonic()

        def report(done: int, total: int) -> None:
            if done % 1024 < 16 or done == total:
                self.say(f"latents: {done}/{total} examples, {time.monotonic() - began:.0f} s")

        pictures = self.examples().first(self.recipe.unet.examples).resized(self.recipe.side)
        with main_first():
            if path.exists():
                return LatentCache.load(path)
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

    def references(self) -> ReferenceCache | None:
        """The cached references of the examples that the U-Net's samples come from."""
        path = self.folder / "references.pt"
        if is_there(path):
            return ReferenceCache.load(path)
        vae, towers = self.vae(), self.vision()
        if vae is None or towers is None:
            return None
        examples = self.examples().first(self.recipe.unet.examples)
        with main_first():
            if path.exists():
                return ReferenceCache.load(path)
            vision = towers[0].vision[1].to(self.device).eval()
            cache = cache_references(vae, vision, examples, self.recipe.seed, self.recipe.side, device=self.device)
            cache.save(path)
        return cache

    def zero_shot(self, phase: Phase, *, bf16: bool = False) -> ZeroShot | None:
        """The U-Net with Assign (phase ``assign``), and with Refine (``refine`` after it, or ``joint`` at once)."""
        towers = self.vision()
        if towers is None:
            return None
        null_pooled = embed(towers[0].eval(), tokens_of(towers[1], [""]))[1]
        unet = build_unet(self.recipe)
        model = build_zero_shot(self.recipe, unet, phase, null_pooled)
        if self._finished(phase, model):
            return model
        if phase == "refine":
            before = self.zero_shot("assign", bf16=bf16)
            if before is None:
                return None
            unet, assign = before.unet, before.assign
            assign.eject()
            model = build_zero_shot(self.recipe, unet, phase, null_pooled)
            model.assign.load_state_dict(assign.state_dict())
        else:
            base = self.unet(bf16=bf16)
            if base is None:
                return None
            model = build_zero_shot(self.recipe, base, phase, null_pooled)
        cache, references = self.latents(), self.references()
        if cache is None or references is None:
            return None
        bank = caption_bank(
            *towers, cache, self.examples(), self.recipe.seed, self.recipe.unet.captions, brief=True
        )
        finished = train_zero_shot(
            self.recipe,
            model,
            phase,
            cache,
            bank,
            references,
            self.folder,
            device=self.device,
            minutes=self.left(),
            bf16=bf16,
            report=self.report(phase),
        )
        if not finished:
            return None
        self._keep(phase, model)
        return model
