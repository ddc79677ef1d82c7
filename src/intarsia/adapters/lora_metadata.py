"""What LoRA files say beside their weights: the true alpha, as PEFT tells it, and what the LoRA is for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.adapters.errors import AdapterKeyError
from intarsia.adapters.lora import PARTS, Lora, Part

if TYPE_CHECKING:
    from intarsia.adapters.lora_modules import LoraModules
    from intarsia.adapters.lora_names import LoraFormat

PEFT_KEY = "lora_adapter_metadata"
"""Under which diffusers keeps, as JSON, each part's PEFT configuration, its keys prefixed with the part."""
PEFT_CONFIG = "adapter_config.json"
_ARCHITECTURES = {
    2048: ("stable-diffusion-xl-v1-base/lora", "sdxl_base_v1-0"),
    1024: ("stable-diffusion-v2-512/lora", "sd_v2"),
    768: ("stable-diffusion-v1/lora", "sd_v1"),
}


def said_alphas(metadata: Mapping[str, str], modules: LoraModules) -> dict[tuple[Part, str], tuple[float, bool]]:
    """(part, module) → (alpha, whether it is over the square root of the rank), for the modules of the parts that the
    metadata tell of. A module's alpha is that of the first of `alpha_pattern`'s expressions that its name ends in,
    else `lora_alpha`, as PEFT has it.

    Raises:
        AdapterKeyError: metadata that cannot be read, or that tell of DoRA.
    """
    if PEFT_KEY not in metadata:
        return {}
    found: dict[tuple[Part, str], tuple[float, bool]] = {}
    try:
        told = json.loads(metadata[PEFT_KEY])
        for part in PARTS:
            prefix = f"{part}."
            config = {key.removeprefix(prefix): value for key, value in told.items() if key.startswith(prefix)}
            if part == "unet" and not config and "lora_alpha" in told:
                config = told
            if config.get("use_dora"):
                raise AdapterKeyError(f"the metadata tell of DoRA in {part}: have it extracted as a plain LoRA")
            if "lora_alpha" not in config:
                continue
            patterns = {str(k): float(v) for k, v in (config.get("alpha_pattern") or {}).items()}
            usual, root = float(config["lora_alpha"]), bool(config.get("use_rslora"))
            for module in modules.shapes.get(part, {}):
                found[part, module] = _matching(patterns, module, usual), root
    except AdapterKeyError:
        raise
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise AdapterKeyError(f"the file's {PEFT_KEY} do not give a readable alpha ({error}): save it again") from error
    return found


def config_beside(file: str | Path | None, ranks: Mapping[str, int]) -> str:
    """The text of the `adapter_config.json` beside a file that PEFT saved, which alone tells its alpha.

    ranks: module → rank in the file, by which the config of another file is told.

    Raises:
        AdapterKeyError: it is missing (None: there is no file), cannot be read, is not of a LoRA, or is another file's.
    """
    if file is None:
        raise AdapterKeyError(f"keys of PEFT's own do not tell their alpha: give the file with {PEFT_CONFIG} beside it")
    path = Path(file).parent / PEFT_CONFIG
    try:
        text = path.read_text(encoding="utf-8")
        told = json.loads(text)
        if str(told.get("peft_type", "LORA")).upper() != "LORA":
            raise AdapterKeyError(f"{path} is not of a LoRA ({told['peft_type']}): give a plain LoRA")
        if "lora_alpha" not in told or "r" not in told:
            raise ValueError("no lora_alpha, or no r")
        patterns = {str(key): float(rank) for key, rank in (told.get("rank_pattern") or {}).items()}
        usual = float(told["r"])
        wrong = [module for module, rank in sorted(ranks.items()) if _matching(patterns, module, usual) != rank]
    except AdapterKeyError:
        raise
    except FileNotFoundError as error:
        raise AdapterKeyError(
            f"{file} is as PEFT saves it and does not tell its alpha: put the {PEFT_CONFIG} saved with it beside it"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError, re.error) as error:
        reason = " ".join(str(error).split())[:160]
        raise AdapterKeyError(f"{path} cannot be read ({reason}): copy it again from where {file} is from") from error
    if wrong:
        raise AdapterKeyError(
            f"{path} is of another LoRA than {file}, which has rank {ranks[wrong[0]]} in {wrong[0]}: put the "
            f"{PEFT_CONFIG} saved with it beside it"
        )
    return text


def _matching(patterns: Mapping[str, float], module: str, usual: float) -> float:
    # A pattern may have been written for a text tower without its former first name.
    names = (module, module.removeprefix("text_model."))
    for pattern, alpha in patterns.items():
        if any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
            return alpha
    return usual


def written_metadata(lora: Lora, form: LoraFormat, modules: LoraModules) -> dict[str, str]:
    """What a file in a format says. What the LoRA's own file said is kept, but for what tells of its format; a
    subject's token becomes the trigger phrase."""
    kept = {key: value for key, value in lora.metadata.items() if key not in (PEFT_KEY, "format")}
    if form == "diffusers":
        return {**kept, "format": "pt", PEFT_KEY: json.dumps(_peft(lora), sort_keys=True)}
    kept = {key: value for key, value in kept.items() if key not in ("rank", "alpha", "targets")}
    made = {**_model_specification(lora.metadata, modules), **kept}
    if form == "kohya":
        made |= {**_trainer(lora.metadata, modules), **{k: v for k, v in kept.items() if k.startswith("ss_")}}
        ranks, alphas = {layer.rank for *_, layer in lora}, {layer.alpha for *_, layer in lora}
        made["ss_network_module"] = "networks.lora"
        made["ss_network_dim"] = str(ranks.pop()) if len(ranks) == 1 else "Dynamic"
        made["ss_network_alpha"] = repr(alphas.pop()) if len(alphas) == 1 else "Dynamic"
    return made


def _peft(lora: Lora) -> dict[str, Any]:
    """Each part's PEFT configuration: the usual rank and alpha, and the modules with others by name.

    Text towers' modules are named without `text_model.`: PEFT matches ends of names, with and without it."""
    told: dict[str, Any] = {}
    for part in PARTS:
        layers = {name.removeprefix("text_model."): layer for name, layer in lora.layers.get(part, {}).items()}
        if not layers:
            continue
        rank = Counter(layer.rank for layer in layers.values()).most_common(1)[0][0]
        alpha = Counter(layer.alpha for layer in layers.values()).most_common(1)[0][0]
        config = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": alpha,
            "rank_pattern": {name: layer.rank for name, layer in layers.items() if layer.rank != rank},
            "alpha_pattern": {name: layer.alpha for name, layer in layers.items() if layer.alpha != alpha},
            "target_modules": sorted(layers),
        }
        told |= {f"{part}.{key}": value for key, value in config.items()}
    return told


def base_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Name and hash of the model that a subject of ours was learned on, as far as its file says so."""
    try:
        base = json.loads(metadata["base"])
        return {key: str(base[key]) for key in ("name", "hash") if base.get(key)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _model_specification(metadata: Mapping[str, str], modules: LoraModules) -> dict[str, str]:
    """Fields of the Stability AI model specification, version 1.0.0."""
    noun, token = metadata.get("class_noun"), metadata.get("token")
    named = base_of(metadata).get("name", "unknown")
    architecture = _ARCHITECTURES.get(modules.prompt_width or 0, (f"{named}/lora", named))[0]
    made = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": architecture,
        "modelspec.implementation": "diffusers",
        "modelspec.title": noun or metadata.get("ss_output_name") or "LoRA",
    }
    if token:
        made["modelspec.trigger_phrase"] = f"{token} {noun}" if noun else token
    return made


def _trainer(metadata: Mapping[str, str], modules: LoraModules) -> dict[str, str]:
    """What kohya's trainer says of the model that was trained on; the hash is ours, over all its weight files."""
    base = base_of(metadata)
    named = base.get("name", "unknown")
    made = {"ss_base_model_version": _ARCHITECTURES.get(modules.prompt_width or 0, ("", named))[1]}
    if base:
        made["ss_sd_model_name"] = named
    if "hash" in base:
        made["ss_sd_model_hash"] = base["hash"]
    return made
