"""The one place that knows how other tools spell the names of LoRA weights.

A key is a module's name and an ending. The modules are

diffusers:  `unet.<name>`, `text_encoder.<name>`, `text_encoder_2.<name>`, names with dots; older files
            `….attn1.processor.to_q_lora`
kohya:      `lora_unet_<name>`, `lora_te_<name>` (one tower), `lora_te1_<name>`, `lora_te2_<name>` (two), dots become
            underscores; the U-Net's names are diffusers' or (SDXL) those of the original code
comfyui:    `diffusion_model.<original name>`, `text_encoders.clip_l.transformer.<name>`, `text_encoders.clip_g.…`
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from intarsia.adapters.errors import AdapterKeyError
from intarsia.adapters.lora import PARTS, Part
from intarsia.adapters.lora_modules import LoraModules
from intarsia.backbones import to_ldm_names

LoraFormat = Literal["diffusers", "kohya", "comfyui"]
LORA_FORMATS: tuple[LoraFormat, ...] = get_args(LoraFormat)
Role = Literal["down", "up", "alpha"]

ENDINGS: dict[str, Role] = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".alpha": "alpha",
}
_WRITTEN: dict[LoraFormat, dict[Role, str]] = {
    "diffusers": {"down": ".lora_A.weight", "up": ".lora_B.weight"},
    "kohya": {"down": ".lora_down.weight", "up": ".lora_up.weight", "alpha": ".alpha"},
    "comfyui": {"down": ".lora_down.weight", "up": ".lora_up.weight", "alpha": ".alpha"},
}
PEFT_PREFIX = "base_model.model."
"""Before all names in files that PEFT itself saves; what belongs to them is in a file beside (`config_beside`)."""
_REFUSED = {
    "DoRA": r"\.(dora_scale|lora_magnitude_vector(\..+)?)$",
    "LoHa": r"\.hada_[a-z0-9_]+$",
    "LoKr": r"\.lokr_[a-z0-9_]+$",
    "OFT": r"\.(oft_[a-z0-9_]+|oft_[RS](\..+)?)$",
    "GLoRA": r"\.[ab][12]\.weight$",
    "IA3": r"\.on_input$",
    "LoCon in Tucker form": r"\.lora_mid\.weight$",
    "LoRA with biases": r"\.(lora_B(\..+)?|lora_up)\.bias$",
    "full weight differences": r"\.(diff|diff_b|set_weight|w_norm|b_norm)$",
}
_KOHYA: dict[Part, tuple[str, ...]] = {"text_encoder": ("lora_te1_", "lora_te_"), "text_encoder_2": ("lora_te2_",)}
_COMFYUI: dict[Part, str] = {
    "text_encoder": "text_encoders.clip_l.transformer.",
    "text_encoder_2": "text_encoders.clip_g.transformer.",
}


@dataclass(frozen=True)
class Place:
    """What a spelled module is, and in whose spelling."""

    part: Part
    module: str
    spelling: LoraFormat


def split_key(key: str) -> tuple[str, Role] | None:
    """(module's spelling, role) of a LoRA weight or alpha; None for any other key."""
    ending = max((ending for ending in ENDINGS if key.endswith(ending)), key=len, default=None)
    return None if ending is None else (key.removesuffix(ending), ENDINGS[ending])


def kind_of_other(key: str) -> str | None:
    """Which kind of change that is no plain LoRA a key belongs to, by its usual name; None: none that is known."""
    return next((kind for kind, pattern in _REFUSED.items() if re.search(pattern, key)), None)


def spellings(modules: LoraModules) -> dict[str, Place]:
    """Every accepted spelling of every module of a model. What could mean two modules is left out: names without dots
    are looked up, never taken apart."""
    table: dict[str, Place] = {}
    twice: set[str] = set()
    original = to_ldm_names(list(modules.shapes["unet"]), modules.config)
    for part in PARTS:
        for module in modules.shapes.get(part, {}):
            for spelled, spelling in _spelled(part, module, original.get(module)):
                place = Place(part, module, spelling)
                if table.setdefault(spelled, place) != place:
                    twice.add(spelled)
    return {spelled: place for spelled, place in table.items() if spelled not in twice}


def _spelled(part: Part, module: str, original: str | None) -> list[tuple[str, LoraFormat]]:
    flat = module.replace(".", "_")
    if part != "unet":
        short = module.removeprefix("text_model.")
        found: list[tuple[str, LoraFormat]] = [(f"{part}.{module}", "diffusers"), (f"{part}.{short}", "diffusers")]
        found += [(prefix + flat, "kohya") for prefix in _KOHYA[part]]
        return [*found, (_COMFYUI[part] + module, "comfyui")]
    names = [module]
    if re.search(r"\.attn[12]\.to_(q|k|v|out\.0)$", module):
        names.append(module.removesuffix(".0").replace(".to_", ".processor.to_"))
    found = [(prefix + name, "diffusers") for prefix in ("unet.", "", PEFT_PREFIX) for name in names]
    found.append((f"lora_unet_{flat}", "kohya"))
    if original is not None:
        found.append(("lora_unet_" + original.replace(".", "_"), "kohya"))
        found.append((f"diffusion_model.{original}", "comfyui"))
    return list(dict.fromkeys(found))


def spell(modules: LoraModules, form: LoraFormat) -> dict[tuple[Part, str], dict[Role, str]]:
    """The keys that a file of a format has for each module: as kohya's trainer writes them, for SDXL the U-Net's
    original names. Modules that the format has no name for are left out."""
    if form not in LORA_FORMATS:
        raise AdapterKeyError(f"LoRA format {form!r} is unknown: use one of {', '.join(LORA_FORMATS)}")
    original = to_ldm_names(list(modules.shapes["unet"]), modules.config)
    found: dict[tuple[Part, str], dict[Role, str]] = {}
    for part in PARTS:
        for module in modules.shapes.get(part, {}):
            spelled: str | None = f"{part}.{module}"
            if form == "kohya":
                prefix = "lora_unet_"
                if part != "unet":
                    prefix = _KOHYA[part][0 if modules.two_towers else -1]
                name = original.get(module, module) if part == "unet" and modules.two_towers else module
                spelled = prefix + name.replace(".", "_")
            elif form == "comfyui" and part == "unet":
                spelled = f"diffusion_model.{original[module]}" if module in original else None
            elif form == "comfyui":
                spelled = _COMFYUI[part] + module
            if spelled is not None:
                found[part, module] = {role: spelled + ending for role, ending in _WRITTEN[form].items()}
    return found
