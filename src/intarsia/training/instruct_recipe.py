"""Recipes of the instruction model: all that decides its weights, beside the base model and the pairs.

They are records of their own, not part of `Recipe`: the instruction model is trained from a base that is finished.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

from intarsia.errors import IntarsiaError


@dataclass(frozen=True)
class InstructRecipe:
    """How to learn to add from pairs (source, instruction) -> target, counted in images.

    ``side``: pictures' side in pixels, None for the base's native one. ``start``: see ``start_instructions``; None is
    the base's own best. ``frozen``: prefixes of the U-Net's parameters that stay the base's, and so need not be kept.
    ``dropout``: the share of samples that lose their words, that lose their source, and that lose both, each.
    ``location_share``: of the samples whose instruction says where the object is. ``crops``: views of each pair where
    they are cached; ``zoom``: a view's side is the picture's shorter one divided by a number in this range. ``flip``:
    share of mirrored views. ``random_sizes``: draw the sizes that an SDXL-like U-Net is told, as the miniature's own
    training does, instead of the view's. ``object_weight``: weight of the loss where source and target differ.
    ``floor``: of the learning rate's decay, 1 keeps it constant. ``micro_batch``: most samples of one forward pass,
    gradients of several are summed; None for no limit.
    """

    name: str
    images: int = 120_000
    batch: int = 24
    learning_rate: float = 4e-4
    warmup: int = 3_000
    floor: float = 0.02
    clip: float = 1.0
    ema_half_life: int = 4_000
    side: int | None = None
    start: Literal["zero", "masked_image"] | None = None
    frozen: tuple[str, ...] = ("mid_block.resnets",)
    dropout: float = 0.05
    location_share: float = 0.25
    crops: int = 3
    zoom: tuple[float, float] = (1.0, 1.4)
    flip: float = 0.5
    random_sizes: bool = True
    object_weight: float = 1.0
    micro_batch: int | None = None
    seed: int = 7

    @property
    def hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of the recipe's JSON."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


MINIATURE_INSTRUCT = InstructRecipe("miniature", images=96_000, location_share=0.5, crops=4, object_weight=4.0)
"""Places are said twice as often as in the paper's data, and the object counts four times: in the latents of a small
picture it is a twentieth, and the frozen text towers, which learned captions, hardly tell "left" from "right"."""
SMOKE_INSTRUCT = replace(MINIATURE_INSTRUCT, name="smoke", images=64, batch=8, warmup=16, crops=1)
PAPER_INSTRUCT = InstructRecipe(
    "paper",
    images=60 * 888_230,
    batch=4096,
    learning_rate=5e-5,
    warmup=0,
    floor=1.0,
    ema_half_life=4096 * 6_931,
    side=256,
    start="zero",
    frozen=(),
    zoom=(1.0, 1.0),
    flip=0.0,
    random_sizes=False,
    micro_batch=128,
)
"""Paint by Inpaint's: 256 px, batch 4096 (8 x 128 x 4), 5e-5 from the first step on, clip 1, 60 epochs. It states no
average; this one's half-life is that of InstructPix2Pix's decay of 0.9999 a step."""
INSTRUCT_PRESETS = {preset.name: preset for preset in (SMOKE_INSTRUCT, MINIATURE_INSTRUCT, PAPER_INSTRUCT)}


def instruct_recipe(name: str) -> InstructRecipe:
    """The recipe of a name: ``smoke`` (tests the path), ``miniature``, ``paper`` (Stable Diffusion 1.5's numbers)."""
    if name not in INSTRUCT_PRESETS:
        raise IntarsiaError(f"unknown instruct preset {name!r}; choose one of: {', '.join(INSTRUCT_PRESETS)}")
    return INSTRUCT_PRESETS[name]
