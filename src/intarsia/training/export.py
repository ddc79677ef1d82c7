"""Trained parts → a folder in the diffusers layout: fp16 safetensors in shards, tokenizers, scheduler, card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from intarsia.tabletop import ACCESSORIES, COLOURS, MATERIALS, PATTERNS, Level, level, vocabulary_words
from intarsia.training.tokenizer import learn_merges
from intarsia.training.towers import TOWER_SIDE, Towers
from intarsia.training.unet import SCHEDULER

SHARD_SIZE = "14MB"


def export_miniature(folder: Path, vae: Any, unet: Any, towers: Towers, tokenizer: Any, world: Level) -> None:
    """Write the whole model to ``folder``, replacing what was there. The parts become half precision in place."""
    from diffusers import DDIMScheduler
    from transformers import CLIPTextModel

    place, folder = folder, folder.with_name(folder.name + ".new")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    vae.half().save_pretrained(folder / "vae", max_shard_size=SHARD_SIZE)
    unet.half().save_pretrained(folder / "unet", max_shard_size=SHARD_SIZE)
    config: Any = towers.text[0].config
    first: Any = CLIPTextModel(config)
    # The two classes differ by the projection and, depending on the version of transformers, by a key prefix.
    trained = {k.removeprefix("text_model."): v for k, v in towers.text[0].state_dict().items()}
    first.load_state_dict({k: trained[k.removeprefix("text_model.")] for k in first.state_dict()}, strict=True)
    first.half().save_pretrained(folder / "text_encoder", max_shard_size=SHARD_SIZE)
    second: Any = towers.text[1]
    second.half().save_pretrained(folder / "text_encoder_2", max_shard_size=SHARD_SIZE)
    image: Any = towers.vision[1]
    image.half().save_pretrained(folder / "image_encoder", max_shard_size=SHARD_SIZE)
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer.save_pretrained(folder / name)
        # CLIP's classic pair of files, for tools that do not read tokenizer.json.
        _write(folder / name / "vocab.json", dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])))
        lines = ["#version: 0.2", *(f"{a} {b}" for a, b in learn_merges(vocabulary_words()))]
        (folder / name / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    scheduler: Any = DDIMScheduler.from_config(SCHEDULER)  # type: ignore[no-untyped-call]
    scheduler.save_pretrained(folder / "scheduler")
    _write(
        folder / "image_encoder" / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"height": TOWER_SIDE, "width": TOWER_SIDE},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        },
    )
    (folder / "vocabulary.yaml").write_text(yaml.safe_dump(vocabulary(world), sort_keys=False), encoding="utf-8")
    _write(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionXLInpaintPipeline",
            "_diffusers_version": "0.42.0",
            "vae": ["diffusers", "AutoencoderKL"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
            "feature_extractor": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "force_zeros_for_empty_prompt": True,
            "requires_aesthetics_score": False,
        },
    )
    # The old weights only go once the new ones are complete.
    if place.exists():
        shutil.rmtree(place)
    folder.replace(place)


def vocabulary(world: Level) -> dict[str, dict[str, dict[str, list[str]]]]:
    """The attribute words that the model was taught (``named``), and those of the wider world (``recognised``)."""
    layout: dict[str, dict[str, dict[str, list[str]]]] = {"named": {}, "recognised": {}}
    full = level("full")
    words: dict[str, dict[str, tuple[str, ...]]] = {
        "colour": {c: (c,) for c in COLOURS}, "material": MATERIALS, "pattern": PATTERNS, "accessory": ACCESSORIES,
    }  # fmt: skip
    for kind, table in words.items():
        for value in full.values(kind):
            # Values are called by the word that captions use: "stripes", not "striped".
            name, *others = [*table[value], *([value] if value not in table[value] else [])] or [value]
            part = "named" if value in world.values(kind) else "recognised"
            layout[part].setdefault("accessories" if kind == "accessory" else kind, {})[name] = others
    return layout


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """What the weights are and how they were made, beside them: ``model_card.json``."""
    _write(folder / "model_card.json", card)


def export_judges(folder: Path, parts: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Write each judge's weights as ``{name}.safetensors`` in half precision, and ``config.json``."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, module in parts.items():
        save_file({k: v.half().contiguous() for k, v in module.state_dict().items()}, folder / f"{name}.safetensors")
    _write(folder / "config.json", config)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
