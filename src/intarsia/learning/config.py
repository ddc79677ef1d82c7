"""All settings of learning a subject, with named presets."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

from intarsia.learning.errors import LearnConfigError

MaskShape = Literal["box", "bulge", "silhouette"]
PriorMode = Literal["weight", "share"]
LossSpace = Literal["epsilon", "velocity"]
PromptSource = Literal["balanced", "advisor", "class"]
Schedule = Literal["constant", "cosine"]

TEMPLATES = (
    "a photo of a {token} {class_noun}",
    "a picture of a {token} {class_noun}",
    "a {token} {class_noun}",
    "a photo of one {token} {class_noun}",
)


@dataclass(frozen=True)
class LearnConfig:
    """Settings of `learn_subject`.

    Args:
        steps: optimiser steps. batch: subject samples per step.
        learning_rate, weight_decay: AdamW's. warmup: steps of linear rise of the learning rate.
        schedule: after the rise "constant", or "cosine" down to 0.
        rank, alpha, targets: of the LoRA; the change of a weight is scaled by alpha / rank.
        beta: weight of the regular images (eq. 8).
        prior: "weight" adds `regular_batch` regular samples to each step and weighs their loss by beta;
            "share" makes each sample of the batch a regular one with probability beta / (1 + beta), which
            has the same expected gradient but for a constant factor.
        weight_object, weight_background: tau inside and outside the latent mask (eq. 7).
        loss_space: squared error of the noise (the paper), or of the velocity.
        stratified_timesteps: one timestep in each of `batch` equal slices; else uniform.
        sample_posterior: draw latents anew from the VAE's posterior in each step; else its mode.
        regular_images: how many are painted; 0 learns without them.
        regular_prompts: "balanced" recombines offline, each attribute about equally often; "advisor" asks the
            namer, which must be able to (`openai:URL#MODEL`, `vlm:MODEL`); "class" says the class alone, as
            DreamBooth's prior preservation does.
        regular_prompts_with_token: whether their prompts hold the identity token (as in the paper), or not
            (as in its author's example).
        gate_margin: a regular image must resemble its prompt by so much more (cosine) than the scene does.
        token: the identity token. templates: prompts of the subject samples, drawn with equal chance.
        named_share: share of the subject samples whose prompt says the dictionary's attributes instead.
        zoom: least and greatest share of the window's side that the subject fills; None: the whole photo.
        mask_shapes: drawn from with equal chance. flip: mirror half of the windows.
        windows_per_photo: windows, each with a mask, in the bank.
        refresh: steps after which all windows and masks are drawn anew; 0 for never.
        gradient_checkpointing: keep less for the backward pass and compute it again, in about 1.35 times the work;
            None: only where the device has too little free memory. The weights are the same but for rounding.
        resume: go on from the work folder's checkpoint; else begin anew.
    """

    preset_name: str = "default"
    steps: int = 240
    batch: int = 4
    learning_rate: float = 1e-3
    warmup: int = 10
    schedule: Schedule = "constant"
    weight_decay: float = 1e-4
    max_gradient_norm: float = 1.0
    rank: int = 4
    alpha: float = 4.0
    targets: tuple[str, ...] = ("to_k", "to_v")
    beta: float = 0.4
    prior: PriorMode = "weight"
    regular_batch: int = 1
    weight_object: float = 1.5
    weight_background: float = 0.7
    loss_space: LossSpace = "epsilon"
    stratified_timesteps: bool = True
    sample_posterior: bool = True
    regular_images: int = 12
    regular_prompts: PromptSource = "balanced"
    regular_prompts_with_token: bool = False
    gate_margin: float = 0.0
    token: str = "sks"
    templates: tuple[str, ...] = TEMPLATES
    named_share: float = 0.0
    zoom: tuple[float, float] | None = (0.35, 0.9)
    mask_shapes: tuple[MaskShape, ...] = ("box", "bulge", "silhouette")
    flip: bool = False
    windows_per_photo: int = 12
    refresh: int = 80
    gradient_checkpointing: bool | None = None
    checkpoint_every: int = 60
    resume: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("targets", "templates", "mask_shapes", "zoom"):
            value = getattr(self, name)
            if isinstance(value, list):  # as JSON and command lines give them
                object.__setattr__(self, name, tuple(value))
        self._require("steps", self.steps >= 1, "1 or more")
        for name in ("batch", "rank", "windows_per_photo", "checkpoint_every"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("warmup", "regular_images", "refresh"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("learning_rate", "alpha", "max_gradient_norm", "weight_object"):
            value = getattr(self, name)
            self._require(name, math.isfinite(value) and value > 0, "a number above 0")
        for name in ("beta", "weight_decay", "weight_background"):
            value = getattr(self, name)
            self._require(name, math.isfinite(value) and value >= 0, "0 or more")
        self._require("regular_batch", self.regular_batch >= 1, "1 or more; regular_images=0 learns without")
        self._require("named_share", 0 <= self.named_share <= 1, "0 to 1")
        self._require("token", bool(self.token.strip()) and len(self.token.split()) == 1, "one word")
        self._require("templates", bool(self.templates), "at least one")
        for template in self.templates:
            good = template.count("{token}") == 1 and template.count("{class_noun}") == 1
            good = good and template.count("{") == 2 and template.count("}") == 2
            self._require("templates", good, "texts with {token} and {class_noun}")
        if self.zoom is not None:
            good = len(self.zoom) == 2 and 0 < self.zoom[0] <= self.zoom[1] <= 1
            self._require("zoom", good, "two shares, 0 < least <= greatest <= 1, or None")
        choices = {
            "prior": PriorMode,
            "loss_space": LossSpace,
            "schedule": Schedule,
            "regular_prompts": PromptSource,
        }
        for name, kind in choices.items():
            self._require(name, getattr(self, name) in get_args(kind), f"one of {', '.join(get_args(kind))}")
        shapes = get_args(MaskShape)
        good = bool(self.mask_shapes) and set(self.mask_shapes) <= set(shapes)
        self._require("mask_shapes", good, f"some of {', '.join(shapes)}")

    def _require(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise LearnConfigError(f"{name} {getattr(self, name)!r} cannot be used: give {wanted}")

    @classmethod
    def preset(cls, name: str = "default", **overrides: Any) -> Self:
        """The settings named "paper", "default" or "smoke", with some replaced.

        "paper": the paper's settings, with the released code's numbers where the paper gives none.
        "default": short enough for the miniature on two cores. "smoke": runs the whole way in seconds and
        learns nothing.

        Raises:
            LearnConfigError: an unknown preset or setting (lists the known ones), or a value out of range.
        """
        if name not in PRESETS:
            raise LearnConfigError(f"unknown learning preset {name!r}: use one of {', '.join(PRESETS)}")
        known = {field.name for field in fields(cls)} - {"preset_name"}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise LearnConfigError(f"no learning setting {', '.join(unknown)}: use {', '.join(sorted(known))}")
        return cls(preset_name=name, **{**PRESETS[name], **overrides})

    @property
    def regular_share(self) -> float:
        """Probability of a regular sample with `prior="share"`: then L_subject : L_regular are weighted 1 :
        beta.
        """
        return self.beta / (1 + self.beta)

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that decides a step's result; the number of steps only where a schedule
        needs it.
        """
        values = asdict(self)
        for name in ("preset_name", "checkpoint_every", "resume", "gradient_checkpointing", "regular_prompts"):
            del values[name]
        if self.schedule == "constant":
            del values["steps"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def learning_rate_at(self, step: int) -> float:
        """AdamW's learning rate in step `step`, counted from 0."""
        rate = self.learning_rate * min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return rate


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "paper": {
            "steps": 1000,
            "learning_rate": 1e-4,
            "warmup": 0,
            "regular_batch": 4,
            "stratified_timesteps": False,
            "regular_images": 60,
            "regular_prompts_with_token": True,
            "templates": TEMPLATES[:1],
            "mask_shapes": ("bulge",),
            "zoom": None,
            "windows_per_photo": 10,
            "refresh": 0,
            "checkpoint_every": 250,
        },
        "smoke": {
            "steps": 4,
            "batch": 2,
            "warmup": 0,
            "regular_images": 3,
            "windows_per_photo": 2,
            "refresh": 0,
        },
    }
)
"""Preset -> what differs from the fields' defaults."""
