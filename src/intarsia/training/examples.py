"""Rendered training examples: one window of a scene, with and without its target object, in resumable shards."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from intarsia.tabletop import (
    FULL,
    Level,
    Rectangle,
    Scene,
    Subject,
    level,
    render,
    sample_scene,
    split_seed,
    zoom_window,
)
from intarsia.training.recipe import Recipe

SHARD = 256
_SHADOW_STEP = 5
"""A pixel belongs to an object's full mask (with shadow) when the picture without it differs by more than this."""


@dataclass(frozen=True)
class Example:
    """What is drawn before rendering. Two consecutive examples show the same subject in two scenes."""

    scene: Scene
    window: Rectangle
    subject: Subject


def draw_example(index: int, world: Level, seed: int, split: str = "train") -> Example:
    """The ``index``-th example of a split: the target is the scene's first placement."""
    draw = random.Random(f"example-{split}-{seed}-{index}")
    subject = Subject.sample(split_seed(split, index // 2 + 1000 * seed), world)
    scene = sample_scene(index + 10_000_000 * seed, world, (subject,), draw.choice((1, 1, 2, 3)), split)
    share = 0.0 if draw.random() < 0.1 else draw.uniform(0.42, 0.85)
    window = FULL if share == 0.0 else zoom_window(scene, 0, share, draw)
    return Example(scene, window, subject)


def render_shard(examples: list[Example], side: int, device: str = "cpu") -> dict[str, npt.NDArray[Any]]:
    """Pictures and masks of some examples.

    ``present``, ``absent``: (n, side, side, 3) uint8 with and without the target; ``silhouette``: its visible mask;
    ``full``: everywhere the two pictures differ, so shadow and reflection too; ``meta``: JSON of attributes and seeds.
    """
    windows = [e.window for e in examples]
    present = render([e.scene for e in examples], (side, side), windows, device=device)
    absent = render([e.scene.without(0) for e in examples], (side, side), windows, device=device)
    a, b = ((r.images.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy() for r in (present, absent))
    silhouette = present.visible(0).cpu().numpy()
    differs = (np.abs(a.astype(np.int16) - b.astype(np.int16)) > _SHADOW_STEP).any(3)
    meta = [{"attributes": e.subject.attributes, "seed": e.subject.seed, "table": e.scene.table} for e in examples]
    return {
        "present": a,
        "absent": b,
        "silhouette": silhouette,
        "full": differs | silhouette,
        "meta": np.array([json.dumps(m) for m in meta]),
    }


def _write_shard(task: tuple[Path, int, int, str, int, int, str, str]) -> Path:
    path, start, count, level_name, seed, side, split, device = task
    if not path.exists():
        torch.set_num_threads(1)
        world = level(level_name)
        arrays = render_shard([draw_example(i, world, seed, split) for i in range(start, start + count)], side, device)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(part, path)
    return path


def render_examples(
    recipe: Recipe, folder: Path, count: int, *, split: str = "train", workers: int = 2, device: str = "cpu"
) -> Iterator[Path]:
    """Render ``count`` examples in shards under ``folder``; shards that are there already are kept (resume)."""
    folder.mkdir(parents=True, exist_ok=True)
    level_name, seed, side = recipe.level, recipe.seed, recipe.render_side
    tasks = [
        (folder / f"{split}-{n:05d}.npz", start, min(SHARD, count - start), level_name, seed, side, split, device)
        for n, start in enumerate(range(0, count, SHARD))
    ]
    if workers <= 1 or device != "cpu":
        yield from map(_write_shard, tasks)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_write_shard, tasks)


@dataclass
class ExampleSet:
    """All shards of a folder in memory: uint8 pictures and bool masks as numpy arrays."""

    present: npt.NDArray[np.uint8]
    absent: npt.NDArray[np.uint8]
    silhouette: npt.NDArray[np.bool_]
    full: npt.NDArray[np.bool_]
    attributes: list[dict[str, str]]
    seeds: list[int]
    tables: list[str]

    @staticmethod
    def load(paths: list[Path]) -> ExampleSet:
        """Read shards in the order given."""
        shards = [dict(np.load(p, allow_pickle=False)) for p in paths]
        meta = [json.loads(m) for s in shards for m in s["meta"]]
        arrays = {
            key: np.concatenate([s[key] for s in shards]) for key in ("present", "absent", "silhouette", "full")
        }
        return ExampleSet(
            **arrays,
            attributes=[m["attributes"] for m in meta],
            seeds=[m["seed"] for m in meta],
            tables=[m["table"] for m in meta],
        )

    def __len__(self) -> int:
        return len(self.present)

    def first(self, count: int) -> ExampleSet:
        """The first ``count`` examples."""
        return ExampleSet(*(values[:count] for values in vars(self).values()))

    def resized(self, side: int) -> ExampleSet:
        """The same examples at another side: pictures bicubic with antialiasing, masks by majority."""
        if self.present.shape[1] == side:
            return self

        def pictures(a: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
            parts = []
            for start in range(0, len(a), 256):
                x = torch.from_numpy(np.ascontiguousarray(a[start : start + 256].transpose(0, 3, 1, 2))).float()
                y = functional.interpolate(x, size=(side, side), mode="bicubic", antialias=True)
                parts.append(y.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
            return np.concatenate(parts)

        def masks(a: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
            x = torch.from_numpy(a)[:, None].float()
            y = functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True)[:, 0] > 0.5
            return y.numpy()

        return replace(
            self,
            present=pictures(self.present),
            absent=pictures(self.absent),
            silhouette=masks(self.silhouette),
            full=masks(self.full),
        )
