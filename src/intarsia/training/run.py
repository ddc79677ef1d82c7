"""The folder of one training run: its recipe, examples, finished stages and measured numbers."""

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
from intarsia.training.examples import ExampleSet, render_examples
from intarsia.training.processes import is_main, main_first, wait
from intarsia.training.recipe import Recipe

Say = Callable[[str], None]
VALIDATION = 512


class OtherRecipeError(IntarsiaError):
    """The folder of a run was begun with other settings."""


class RunFolder:
    """One training run in one folder. Of processes that were launched together the first one writes and speaks."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        device: str = "cpu",
        minutes: float | None = None,
        say: Say = print,
    ) -> None:
        self.recipe, self.folder, self.device, self._say = recipe, folder, device, say
        self.deadline = None if minutes is None else time.monotonic() + minutes * 60
        self._examples: dict[str, ExampleSet] = {}
        folder.mkdir(parents=True, exist_ok=True)
        with main_first():
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

    def say(self, line: str) -> None:
        """Tell the user, once."""
        if is_main():
            self._say(line)

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
        if not is_main():
            return
        path = self.folder / "numbers.json"
        numbers = json.loads(path.read_text()) if path.exists() else {}
        numbers.update(values)
        path.write_text(json.dumps(numbers, indent=1))
        self.say(json.dumps(values))

    def examples(self, split: str = "train") -> ExampleSet:
        """Rendered examples of a split (rendering what is missing)."""
        if split not in self._examples:
            count = self.recipe.examples if split == "train" else min(VALIDATION, self.recipe.examples)
            with main_first():
                paths = list(
                    render_examples(
                        self.recipe,
                        self.folder / "examples",
                        count,
                        split=split,
                        device=self.device,
                        workers=(os.cpu_count() or 1) if is_main() else 1,
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
        if is_main():
            part = self.folder / f"{name}.final.part"
            torch.save(module.state_dict(), part)
            os.replace(part, self.folder / f"{name}.final.pt")
        wait()
