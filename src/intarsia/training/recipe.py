"""The miniature's recipe: one frozen record of everything that decides its weights, at several scales."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from intarsia.errors import IntarsiaError


@dataclass(frozen=True)
class VaeRecipe:
    """AutoencoderKL: widths of its levels (factor 2 per level after the first) and its training in images."""

    channels: tuple[int, ...] = (16, 32, 64)
    layers: int = 1
    latent_channels: int = 4
    images: int = 44_000
    batch: int = 8
    crop: int = 32
    learning_rate: float = 1.5e-3
    kl_weight: float = 1e-6
    edge_weight: float = 0.5


@dataclass(frozen=True)
class TowerRecipe:
    """Two text towers and two image towers, trained contrastively (CLIP) with attribute heads as a helper loss."""

    widths: tuple[int, int] = (96, 128)
    text_layers: tuple[int, int] = (2, 2)
    vision_width: int = 128
    vision_layers: int = 4
    patch: int = 8
    projection: int = 128
    context: int = 32
    images: int = 28_000
    batch: int = 32
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class VisionRecipe:
    """The shipped image tower's further training, words frozen; counted in views."""

    images: int = 160_000
    batch: int = 64
    learning_rate: float = 8e-4


@dataclass(frozen=True)
class UnetRecipe:
    """The nine-channel SDXL-class U-Net and its training, counted in images.

    ``examples``: how many of the rendered examples become cached samples (three each); ``captions``: paraphrases each.
    """

    channels: tuple[int, ...] = (64, 128, 256)
    layers: int = 1
    transformer_layers: tuple[int, ...] = (1, 1, 1)
    head_dim: int = 32
    examples: int = 12_288
    captions: int = 3
    images: int = 140_000
    batch: int = 24
    learning_rate: float = 6e-4
    ema_half_life: int = 4_000
    text_dropout: float = 0.10


@dataclass(frozen=True)
class ReferenceRecipe:
    """Inserting from a reference photo (LAR-Gen): two stages of training that go on from the U-Net, counted in images.

    ``assign_images``: the whole U-Net with Assign (Locate + Assign); ``refine_images``: attention layers of the U-Net
    with Assign and Refine. ``joint``: one stage of ``assign_images + refine_images`` that trains all of it at once.
    ``text_only``, ``reference_only``, ``neither``: shares of the samples that see no reference, no words, none of both;
    ``refine_drop`` and ``assign_drop``: of the samples with a reference, the share without the one or the other.
    ``detail_only``: of all samples with an object, in stages with Refine, those which see neither words nor Assign;
    Refine must say there alone what the subject is, or it hardly learns to. ``clean``: the share of the references
    that are not noised, shown to the reference U-Net as of timestep ``clean_timestep``.
    ``adapter_rate``: learning rate of what is new, as a factor; ``refine_rate``: of the copied layers of the reference
    U-Net, which forget what they know about pictures at a rate for new ones.
    """

    width: int = 192
    depth: int = 2
    heads: int = 6
    head_width: int = 32
    tokens: int = 16
    trains: str = "attention"
    joint: bool = False
    assign_images: int = 66_000
    refine_images: int = 70_000
    batch: int = 24
    learning_rate: float = 4e-4
    adapter_rate: float = 2.5
    refine_rate: float = 0.75
    ema_half_life: int = 4_000
    text_only: float = 0.25
    reference_only: float = 0.25
    neither: float = 0.05
    refine_drop: float = 0.10
    assign_drop: float = 0.30
    detail_only: float = 0.50
    clean: float = 0.70
    clean_timestep: int = 200


@dataclass(frozen=True)
class EvaluatorRecipe:
    """Held-out judges: attribute classifier, instance encoder and image-text encoder, of another seed."""

    width: int = 32
    embedding: int = 64
    attribute_images: int = 140_000
    images: int = 48_000
    batch: int = 48
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class Recipe:
    """One run.

    ``side``: native picture side in pixels; ``render_side``: what examples are rendered at (towers and judges look
    closer than the U-Net paints); ``examples``: how many pairs of pictures with and without an object.
    """

    scale: str
    level: str = "small"
    side: int = 64
    render_side: int = 96
    examples: int = 12_288
    seed: int = 7
    vae: VaeRecipe = VaeRecipe()
    towers: TowerRecipe = TowerRecipe()
    vision: VisionRecipe = VisionRecipe()
    unet: UnetRecipe = UnetRecipe()
    reference: ReferenceRecipe = ReferenceRecipe()
    evaluators: EvaluatorRecipe = EvaluatorRecipe()

    @property
    def hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of the recipe's JSON."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


CPU = Recipe("cpu")
SMOKE = replace(
    CPU,
    scale="smoke",
    side=32,
    render_side=48,
    examples=48,
    vae=replace(CPU.vae, channels=(16, 16, 32), images=64, batch=8),
    towers=replace(CPU.towers, widths=(32, 32), vision_width=32, vision_layers=1, projection=32, images=64, batch=16),
    vision=replace(CPU.vision, images=64, batch=16),
    unet=replace(CPU.unet, channels=(32, 64), transformer_layers=(1, 1), images=64, batch=8),
    reference=replace(
        CPU.reference, width=32, depth=1, heads=2, head_width=16, assign_images=32, refine_images=32, batch=8
    ),
    evaluators=replace(CPU.evaluators, width=8, attribute_images=64, images=64, batch=16),
)
GPU = replace(
    CPU,
    scale="gpu",
    level="full",
    side=128,
    render_side=128,
    examples=150_000,
    vae=replace(CPU.vae, channels=(32, 64, 128, 128), images=1_500_000, batch=64, crop=64, learning_rate=6e-4),
    towers=replace(CPU.towers, images=2_000_000, batch=512),
    vision=replace(CPU.vision, images=2_000_000, batch=512),
    unet=replace(
        CPU.unet,
        channels=(96, 160, 256),
        images=5_000_000,
        batch=512,
        learning_rate=6e-4,
        ema_half_life=100_000,
    ),
    reference=replace(
        CPU.reference, assign_images=3_000_000, refine_images=1_500_000, batch=512, ema_half_life=60_000
    ),
    evaluators=replace(CPU.evaluators, attribute_images=3_000_000, images=1_500_000, batch=256),
)
SCALES = {r.scale: r for r in (SMOKE, CPU, GPU)}


def recipe(scale: str) -> Recipe:
    """The recipe of a scale: ``smoke`` (minutes, tests the path), ``cpu`` (hours on two cores), ``gpu``."""
    if scale not in SCALES:
        raise IntarsiaError(f"unknown recipe scale {scale!r}; choose one of: {', '.join(SCALES)}")
    return SCALES[scale]
