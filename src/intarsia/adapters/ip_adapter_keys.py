"""The one place that knows the names inside stock IP-Adapter-Plus files.

Ours:   `resampler.…` (diffusers' `IPAdapterPlusImageProjection`) and `layers.I.{to_k,to_v}.weight`, I counting the
        U-Net's cross-attentions.
Stock:  `image_proj.…` and `ip_adapter.P.{to_k_ip,to_v_ip}.weight`, P counting all attentions of
        `unet.attn_processors`. Its resampler keeps W_k and W_v in one matrix, `to_kv` = [W_k; W_v].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from intarsia.adapters.errors import AdapterFileError, AdapterKeyError

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.adapters.assign import AssignConfig

MAX_REFERENCES = 4
"""Photos whose tokens may stand side by side, where the file does not say."""

_HEAD_WIDTH = 64
_ADVICE = "use the IP-Adapter-Plus file that was made for this kind of model"
# Inside one layer of the resampler: ours -> stock. Its keys and values are joined apart from this.
_LAYER = {
    "ln0.": "0.norm1.",
    "ln1.": "0.norm2.",
    "attn.to_q.": "0.to_q.",
    "attn.to_out.0.": "0.to_out.",
    "ff.0.": "1.0.",
    "ff.1.net.0.proj.": "1.1.",
    "ff.1.net.2.": "1.3.",
}
# The first that is there tells the kind.
_OTHER_KINDS = {
    "image_proj.perceiver_resampler.proj_in.weight": "a FaceID-Plus",
    "image_proj.proj.3.weight": "a full-face",
    "image_proj.proj.weight": "a base (not Plus)",
    "image_proj.norm.weight": "a FaceID",
}


def attention_numbers(unet: Any) -> tuple[int, ...]:
    """The stock numbers of the U-Net's cross-attentions."""
    return tuple(i for i, name in enumerate(unet.attn_processors) if name.endswith(".attn2.processor"))


def is_ip_adapter(state: Mapping[str, object]) -> bool:
    """Whether the keys are those of some kind of IP-Adapter."""
    return any(key.startswith(("image_proj.", "ip_adapter.")) for key in state)


def require_plus(state: Mapping[str, object], name: str) -> None:
    """`AdapterFileError` for an IP-Adapter of another kind than Plus."""
    kind = next((kind for key, kind in _OTHER_KINDS.items() if key in state), None)
    if kind is None and any("_lora." in key for key in state):
        kind = "a FaceID"
    if kind is not None:
        raise AdapterFileError(f"{name} is {kind} IP-Adapter: only IP-Adapter-Plus is supported, take such a file")


def config_of(state: Mapping[str, Tensor]) -> AssignConfig:
    """Sizes read off the shapes of a stock state; heads are 64 wide, as in all stock files.

    Raises:
        AdapterKeyError: a tensor that tells a size is missing or has another number of axes.
    """
    from intarsia.adapters.assign import AssignConfig

    axes = {"latents": 3, "proj_in.weight": 2, "proj_out.weight": 2, "layers.0.0.to_q.weight": 2}
    bad = [f"image_proj.{key}" for key, n in axes.items() if f"image_proj.{key}" not in state]
    bad += [f"image_proj.{key}" for key, n in axes.items() if _axes(state, key) not in (None, n)]
    if bad:
        raise AdapterKeyError(f"the IP-Adapter's sizes cannot be told without {', '.join(bad)}: {_ADVICE}")
    inner = int(state["image_proj.layers.0.0.to_q.weight"].shape[0])
    if inner % _HEAD_WIDTH:
        raise AdapterKeyError(f"the IP-Adapter's resampler is {inner} wide, no multiple of {_HEAD_WIDTH}: {_ADVICE}")
    numbered = [re.match(r"image_proj\.layers\.(\d+)\.", key) for key in state]
    return AssignConfig(
        feature_width=int(state["image_proj.proj_in.weight"].shape[1]),
        cross_attention_width=int(state["image_proj.proj_out.weight"].shape[0]),
        tokens=int(state["image_proj.latents"].shape[1]),
        width=int(state["image_proj.latents"].shape[2]),
        depth=len({match.group(1) for match in numbered if match}),
        heads=inner // _HEAD_WIDTH,
        head_width=_HEAD_WIDTH,
        unconditional="zero_picture",
        max_references=MAX_REFERENCES,
    )


def from_ip_adapter(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], numbers: Sequence[int]
) -> dict[str, Tensor]:
    """Stock keys -> ours.

    Args:
        wanted: an `Assign`'s state, of which the names and shapes count.
        numbers: see `attention_numbers`.

    Raises:
        AdapterKeyError: lists every missing, unused and wrongly shaped key, by its stock name.
    """
    from intarsia.adapters.keys import require_shapes

    shapes = {key: tuple(value.shape) for key, value in to_ip_adapter(wanted, numbers).items()}
    require_shapes(state, shapes, "the IP-Adapter's weights", _ADVICE)
    ours: dict[str, Tensor] = {}
    for key in wanted:
        foreign, half = _stock_name(key, numbers)
        value = state[foreign]
        ours[key] = value if half is None else value.chunk(2)[half]
    return ours


def to_ip_adapter(state: Mapping[str, Tensor], numbers: Sequence[int]) -> dict[str, Tensor]:
    """Ours -> stock keys; the inverse of `from_ip_adapter`."""
    import torch

    halves: dict[str, dict[int, Tensor]] = {}
    foreign: dict[str, Tensor] = {}
    for key, value in state.items():
        name, half = _stock_name(key, numbers)
        if half is None:
            foreign[name] = value
        else:
            halves.setdefault(name, {})[half] = value
    return foreign | {name: torch.cat([pair[0], pair[1]]) for name, pair in halves.items()}


def _stock_name(key: str, numbers: Sequence[int]) -> tuple[str, int | None]:
    """A key of ours in a stock file, and which half of that tensor it is (None: all of it)."""
    room, _, rest = key.partition(".")
    if room == "layers":
        index, part, ending = rest.split(".")
        return f"ip_adapter.{numbers[int(index)]}.{part}_ip.{ending}", None
    if not rest.startswith("layers."):
        return f"image_proj.{rest}", None
    _, index, inner = rest.split(".", 2)
    for half, part in enumerate(("attn.to_k.", "attn.to_v.")):
        if inner.startswith(part):
            return f"image_proj.layers.{index}.0.to_kv.{inner.removeprefix(part)}", half
    mine, theirs = next((mine, theirs) for mine, theirs in _LAYER.items() if inner.startswith(mine))
    return f"image_proj.layers.{index}.{theirs}{inner.removeprefix(mine)}", None


def _axes(state: Mapping[str, Tensor], key: str) -> int | None:
    value = state.get(f"image_proj.{key}")
    return None if value is None else value.ndim
