"""The one place that knows other tools' names for LoRA weights.

Ours:       `<module>.down` (rank, in) and `<module>.up` (out, rank), module e.g. `mid_block.….attn1.to_k`.
diffusers:  `unet.<module>.lora_A.weight` and `unet.<module>.lora_B.weight` (PEFT's names).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from intarsia.adapters.errors import AdapterError, AdapterKeyError

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "unet."
_ENDINGS = {".lora_A.weight": ".down", ".lora_B.weight": ".up"}


def from_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers/PEFT keys -> ours.

    Raises:
        AdapterKeyError: any key is not a plain LoRA weight of the U-Net (DoRA, LyCORIS, text towers, …);
            lists them.
    """
    ours: dict[str, Tensor] = {}
    unused: list[str] = []
    for key, value in state.items():
        ending = next((ending for ending in _ENDINGS if key.endswith(ending)), None)
        if ending is None or not key.startswith(_PREFIX):
            unused.append(key)
        else:
            ours[key.removeprefix(_PREFIX).removesuffix(ending) + _ENDINGS[ending]] = value
    if unused:
        raise AdapterKeyError(
            f"{len(unused)} keys are no LoRA weights of a U-Net: {', '.join(sorted(unused))}"
        )
    return ours


def to_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ours -> diffusers/PEFT keys; the inverse of `from_diffusers`."""
    foreign: dict[str, Tensor] = {}
    for key, value in state.items():
        module, _, part = key.rpartition(".")
        ending = next((theirs for theirs, ours in _ENDINGS.items() if ours == f".{part}"), None)
        if ending is None or not module:
            raise AdapterKeyError(f"{key!r} is not one of our LoRA keys: it must end in .down or .up")
        foreign[f"{_PREFIX}{module}{ending}"] = value
    return foreign


def require_keys(given: Collection[str], wanted: Collection[str]) -> None:
    """Raise `AdapterKeyError` listing every missing and every unused key, unless both sets are equal."""
    missing = sorted(set(wanted) - set(given))
    unused = sorted(set(given) - set(wanted))
    problems = [
        f"{len(keys)} {label}: {', '.join(keys)}"
        for label, keys in (("missing", missing), ("unused", unused))
        if keys
    ]
    if problems:
        raise AdapterKeyError(f"the weights do not fit this U-Net and these targets; {'; '.join(problems)}")


def require_shapes(
    given: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], what: str, advice: str
) -> None:
    """Raise `AdapterKeyError` listing every missing, unused and wrongly shaped key, unless all fit."""
    shapes = [
        f"{key} is {tuple(given[key].shape)} instead of {wanted[key]}"
        for key in sorted(set(given) & set(wanted))
        if tuple(given[key].shape) != wanted[key]
    ]
    problems = [
        f"{len(keys)} {label}: {', '.join(keys)}"
        for label, keys in (
            ("missing", sorted(set(wanted) - set(given))),
            ("unused", sorted(set(given) - set(wanted))),
            ("of another shape", shapes),
        )
        if keys
    ]
    if problems:
        raise AdapterKeyError(f"{what} do not fit this U-Net; {'; '.join(problems)}: {advice}")


def require_sizes(config: Any, besides: Collection[str] = ()) -> None:
    """`AdapterError` unless every numeric setting is a whole number of at least 1; `besides`: settings of another
    kind."""
    for name, value in vars(config).items():
        if name not in besides and not isinstance(value, str) and (type(value) is not int or value < 1):
            raise AdapterError(f"{name} {value!r} is not a size: use a whole number of at least 1")
