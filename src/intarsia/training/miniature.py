"""The whole recipe: pictures → VAE → towers → cached latents → U-Net → Assign → Refine → judges → weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from intarsia.adapters import Assign, Refine
from intarsia.backbones import model_hash
from intarsia.tabletop import background_caption, level
from intarsia.training.export import export_judges, export_miniature, write_card
from intarsia.training.loop import load_average
from intarsia.training.processes import is_main, wait
from intarsia.training.stages import Stages
from intarsia.training.towers import tokens_of
from intarsia.training.unet import build_unet, embed
from intarsia.training.zero_shot import Phase, build_zero_shot, rates


class Run(Stages):
    """One training run in one folder, up to the weights that ship."""

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

    def _painter(self, unfinished: bool) -> tuple[Any, Assign | None, Refine | None] | None:
        """The U-Net and adapters of the last stage that is finished or, if asked for, begun; None: not finished."""
        last: Phase = "joint" if self.recipe.reference.joint else "refine"
        phases: tuple[Phase, ...] = (last, "assign") if unfinished and last == "refine" else (last,)
        for phase in phases:
            finished, begun = self.folder / f"{phase}.final.pt", self.folder / f"{phase}.pt"
            if not finished.exists() and not (unfinished and begun.exists()):
                continue
            towers = self.towers()
            assert towers is not None
            null_pooled = embed(towers[0].eval(), tokens_of(towers[1], [""]))[1]
            model = build_zero_shot(self.recipe, build_unet(self.recipe), phase, null_pooled)
            if not self._finished(phase, model):
                load_average(model, begun, rates(self.recipe.reference))
            model.assign.eject()
            if model.refine is not None:
                model.refine.eject()
            return model.unet, model.assign, model.refine
        unet: Any = build_unet(self.recipe)
        if not unfinished:
            return None
        if not self._finished("unet", unet):
            load_average(unet, self.folder / "unet.pt")
        return unet, None, None

    def export(self, weights: Path, *, unfinished: bool = False) -> bool:
        """Write the miniature, its adapters and its judges under ``weights``.

        ``unfinished``: the last stage that there is, with its running average.
        """
        vae, towers, judges, text = self.vae(), self.vision(), self.judges(), self.text_judge()
        painter = self._painter(unfinished)
        if vae is None or towers is None or judges is None or text is None or painter is None:
            return False
        if is_main():
            self._write(weights, vae, towers, judges, text, painter)
        wait()
        return True

    def _write(
        self, weights: Path, vae: Any, towers: tuple[Any, Any], judges: dict[str, Any], text: Any, painter: Any
    ) -> None:
        unet, assign, refine = painter
        folder = weights / "miniature"
        export_miniature(folder, vae, unet, *towers, level(self.recipe.level))
        write_card(folder, self.card())
        if assign is not None:
            from intarsia.adapters import save_reference

            save_reference(folder / "reference", assign, refine, model_hash(folder))
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
