"""LoRA files of other tools, read and written strictly: every key is used, or named in an error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.adapters.errors import AdapterFileError, AdapterKeyError
from intarsia.adapters.files import load_lora, read_names, require_finite
from intarsia.adapters.lora import Lora, LoraLayer, Part
from intarsia.adapters.lora_metadata import PEFT_CONFIG, PEFT_KEY, config_beside, said_alphas, written_metadata
from intarsia.adapters.lora_modules import LoraModules
from intarsia.adapters.lora_names import PEFT_PREFIX, Place, Role, kind_of_other, spell, spellings, split_key
from intarsia.backbones import PICKLE_SUFFIXES, is_pickle

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.adapters.lora_names import LoraFormat

_FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
"""By the width of the tokens that cross-attention reads."""
_TRANSFORMERS = ("transformer.", "lora_transformer_", *(f"{p}{b}" for p in ("lora_unet_", "diffusion_model.")
                 for b in ("double_blocks", "single_blocks", "joint_blocks", "layers", "blocks")))  # fmt: skip


def read_lora(
    source: str | Path | Mapping[str, Tensor], modules: LoraModules, metadata: Mapping[str, str] | None = None
) -> Lora:
    """A LoRA for a model's `modules` from a safetensors file, or a state and its file's `metadata`, in any spelling
    that `lora_names` knows. Ranks and alphas may differ from module to module.

    alpha is the file's: an `.alpha` tensor, else what diffusers' metadata say, or for PEFT's own keys
    (`base_model.model.…`) the `adapter_config.json` beside the file, else the rank. Tensors are kept as they
    are; only 1x1 convolutions lose or gain their two last axes where the model's module is of the other kind.

    Raises:
        AdapterFileError: no such file, pickled, corrupt, cut short, no LoRA, or numbers that are not finite.
        AdapterKeyError: DoRA, LyCORIS and the like; an alpha that is not told or no finite number; a LoRA for another
            architecture; any key that is not used, or does not fit. All of them are listed.
    """
    name = str(source) if isinstance(source, (str, Path)) else "the LoRA"
    if isinstance(source, (str, Path)):
        refuse_pickle(source)
        state, said = load_lora(source)
    else:
        state, said = dict(source), {}
        require_finite(state, name)
    said = said if metadata is None else dict(metadata)
    found = {key: split for key in state if (split := split_key(key)) is not None}
    _refuse_other_kinds(name, state, found)
    if (ranks := _untold(state, found)) and PEFT_KEY not in said:
        said[PEFT_KEY] = config_beside(source if isinstance(source, (str, Path)) else None, ranks)
    table = spellings(modules)
    _refuse_other_models(name, state, found, modules, table)
    return _assemble(name, state, found, table, modules, said)


def write_lora(lora: Lora, form: LoraFormat, modules: LoraModules) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(state, metadata) of a file in a format, for `save_lora`; the true alpha of every module is in it, so that
    reading it again gives the same tensors and alphas.

    Raises:
        AdapterKeyError: an unknown format, or modules that it has no name for; lists them.
    """
    names = spell(modules, form)
    nameless = [f"{part}.{module}" for part, module, _ in lora if (part, module) not in names]
    if nameless:
        raise AdapterKeyError(
            f"{len(nameless)} modules have no name in {form} files of this model: {', '.join(nameless)}"
        )
    state: dict[str, Tensor] = {}
    for part, module, layer in lora:
        parts = {"down": layer.down, "up": layer.up, "alpha": _alpha_tensor(layer.alpha)}
        state |= {key: parts[role] for role, key in names[part, module].items()}
    return state, written_metadata(lora, form, modules)


def refuse_pickle(path: str | Path) -> None:
    """`AdapterFileError` for files that could run code when loaded, by their name or their first bytes."""
    target = Path(path)
    if target.suffix.lower() in PICKLE_SUFFIXES or is_pickle(target):
        raise AdapterFileError(
            f"{path} is a pickle, which can run code when it is loaded: have its maker, or a tool you trust, save "
            "it as .safetensors"
        )


def file_beside(path: str | Path) -> Path | None:
    """The file that belongs to a LoRA file because it tells its alpha, where there is one (see `config_beside`).

    Raises:
        AdapterFileError: no safetensors file.
    """
    there = (config := Path(path).parent / PEFT_CONFIG).is_file()
    return config if there and any(name.startswith(PEFT_PREFIX) for name in read_names(path)) else None


def _refuse_other_kinds(name: str, state: Mapping[str, Tensor], found: Mapping[str, object]) -> None:
    kinds: dict[str, list[str]] = {}
    for key in sorted(set(state) - set(found)):
        if (kind := kind_of_other(key)) is not None:
            kinds.setdefault(kind, []).append(key)
    if kinds:
        listed = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in sorted(kinds.items()))
        raise AdapterKeyError(
            f"{name} is no plain LoRA, and leaving out what else is in it would change its effect ({listed}): have it "
            "merged or extracted as a plain LoRA with the tool that made it"
        )
    if not found:
        some = ", ".join(sorted(state)[:3]) or "nothing"
        raise AdapterFileError(f"{name} holds no LoRA weights (but {some}): give a file of LoRA weights")


def _untold(state: Mapping[str, Tensor], found: Mapping[str, tuple[str, Role]]) -> dict[str, int]:
    """Module → rank, of those by PEFT's own names that have no alpha in the file."""
    told = {spelled for spelled, role in found.values() if role == "alpha"}
    return {
        spelled.removeprefix(PEFT_PREFIX): int(state[key].shape[0])
        for key, (spelled, role) in found.items()
        if role == "down" and state[key].ndim and spelled.startswith(PEFT_PREFIX) and spelled not in told
    }


def _refuse_other_models(
    name: str,
    state: Mapping[str, Tensor],
    found: Mapping[str, tuple[str, Role]],
    modules: LoraModules,
    table: Mapping[str, Place],
) -> None:
    """Say which family a LoRA was made for, where that is clear and another one."""
    unknown = {spelled for spelled, _ in found.values() if spelled not in table}
    if strange := [spelled for spelled in unknown if spelled.startswith(_TRANSFORMERS)]:
        raise AdapterKeyError(
            f"{name} was made for a transformer model such as FLUX or Stable Diffusion 3, not for a U-Net "
            f"({min(strange)}): give a LoRA for this model's family"
        )
    widths = {
        int(state[key].shape[1])
        for key, (spelled, role) in found.items()
        if role == "down" and state[key].ndim == 2 and "attn2" in spelled and spelled.endswith(("to_k", "to_v"))
    }
    ours = modules.prompt_width
    if len(widths) == 1 and ours is not None and (theirs := widths.pop()) != ours:
        raise AdapterKeyError(
            f"{name} was made for {_family(theirs)}, not for this model, {_family(ours)}: give a LoRA for this "
            "model's family, or use a model of the LoRA's"
        )


def _family(width: int) -> str:
    return _FAMILIES.get(width, "another family") + f" (prompts {width} wide)"


def _assemble(
    name: str,
    state: Mapping[str, Tensor],
    found: Mapping[str, tuple[str, Role]],
    table: Mapping[str, Place],
    modules: LoraModules,
    metadata: Mapping[str, str],
) -> Lora:
    unused = [key for key in state if key not in found or found[key][0] not in table]
    halves: dict[tuple[Part, str], dict[Role, Tensor]] = {}
    twice: list[str] = []
    spelled_in: set[str] = set()
    for key, (spelled, role) in sorted(found.items()):
        if (place := table.get(spelled)) is None:
            continue
        spelled_in.add(place.spelling)
        if halves.setdefault((place.part, place.module), {}).setdefault(role, state[key]) is not state[key]:
            twice.append(key)
    lonely, misfits, odd = [], [], []
    layers: dict[Part, dict[str, LoraLayer]] = {}
    alphas = said_alphas(metadata, modules)
    for (part, module), given in halves.items():
        if "down" not in given or "up" not in given:
            lonely.append(f"{part}.{module} has {' and '.join(given)} only")
            continue
        alpha = given.get("alpha")
        if alpha is not None and alpha.numel() != 1:
            misfits.append(f"{part}.{module} has an alpha of shape {tuple(alpha.shape)}")
            continue
        rank = int(given["down"].shape[0]) if given["down"].ndim else 0
        value = alphas.get((part, module), (float(rank), False)) if alpha is None else (float(alpha), False)
        layer, shape = _fitted(given["down"], given["up"], modules.shapes[part][module])
        if layer is None:
            misfits.append(f"{part}.{module}: {shape}")
            continue
        # PEFT's rank-stabilised LoRA scales by alpha / sqrt(rank): the same as alpha · sqrt(rank) over rank.
        true_alpha = value[0] * rank**0.5 if value[1] else value[0]
        if not math.isfinite(true_alpha):
            odd.append(f"{part}.{module} has {value[0]}")
            continue
        layers.setdefault(part, {})[module] = LoraLayer(layer[0], layer[1], true_alpha)
    _complain(
        name,
        {
            "keys are of no module of this model": unused,
            "keys are there twice, in two spellings": twice,
            "modules lack a half": lonely,
            "modules are of another shape": misfits,
            "modules have an alpha that is no finite number": odd,
        },
    )
    return Lora(layers, dict(metadata), "+".join(sorted(spelled_in)))


def _fitted(down: Tensor, up: Tensor, shape: tuple[int, ...]) -> tuple[tuple[Tensor, Tensor] | None, str]:
    """Both halves with as many axes as a weight of `shape` wants; or None, and what is wrong."""
    axes = len(shape)
    if not (down.is_floating_point() and up.is_floating_point()):
        return None, f"numbers of type {down.dtype} and {up.dtype}, which are no floating-point weights"
    for half in (down, up):
        if half.ndim not in (2, 4):
            return None, f"{tuple(down.shape)} and {tuple(up.shape)} are no LoRA of a weight {shape}"
    given = f"{tuple(down.shape)} and {tuple(up.shape)} do not fit a weight {shape}"
    if axes == 2 and all(half.ndim == 2 or half.shape[2:] == (1, 1) for half in (down, up)):
        down, up = down.flatten(1), up.flatten(1)
    elif axes == 4:
        down, up = (half if half.ndim == 4 else half[:, :, None, None] for half in (down, up))
    wanted = (shape[0], down.shape[0], *(() if axes == 2 else (1, 1)))
    if down.shape[0] < 1 or tuple(down.shape[1:]) != shape[1:] or tuple(up.shape) != wanted:
        return None, given
    return (down, up), given


def _complain(name: str, problems: Mapping[str, Iterable[str]]) -> None:
    listed = [f"{len(items)} {what}: {', '.join(sorted(items))}" for what, items in _filled(problems)]
    if listed:
        raise AdapterKeyError(
            f"{name} does not fit this model, and a part of it alone would have another effect; {'; '.join(listed)}"
        )


def _filled(problems: Mapping[str, Iterable[str]]) -> list[tuple[str, list[str]]]:
    return [(what, given) for what, items in problems.items() if (given := list(items))]


def _alpha_tensor(alpha: float) -> Tensor:
    """A 0-d tensor that gives the very number back: float32, which other tools write, where that can hold it."""
    import torch

    value = torch.tensor(alpha, dtype=torch.float32)
    return value if float(value) == alpha else torch.tensor(alpha, dtype=torch.float64)


