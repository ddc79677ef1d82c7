"""Fooocus' inpaint patch: a difference of nearly all weights that makes an inpainting model of any SDXL."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.fooocus_files import load_tensors
from intarsia.backbones.ldm_names import from_ldm, ldm_blocks, to_ldm_names

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_PREFIX = "diffusion_model."
_MARK = "_intarsia_patch"
"""Attribute of a U-Net that a patch is merged into."""
_BLOCK = re.compile(r"\.transformer_blocks\.(\d+)\.")
_PATCHED_BLOCKS = 4
_NAMED = 6
"""Keys that an error shows."""


@dataclass(frozen=True, eq=False)
class QuantisedDelta:
    """One tensor's difference in eight bits: `levels` uint8 of the tensor's shape; `low` and `high`, its range, of a
    shape that broadcasts to that."""

    levels: Tensor
    low: Tensor
    high: Tensor

    def dequantised(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Δ = (levels / 255) · (high - low) + low, float32 (or in `dtype`), on `device`; made anew at each call."""
        import torch

        dtype = torch.float32 if dtype is None else dtype
        levels, low, high = (part.to(device).to(dtype) for part in (self.levels, self.low, self.high))
        return levels.div_(255).mul_(high - low).add_(low)


Patch = Mapping[str, QuantisedDelta]
"""Names as in the file, "diffusion_model." and the original U-Net's, -> differences."""


class MergedPatch:
    """A patch inside a U-Net, from `merge_patch`, until `unmerge`.

    Undo in reverse order: what was merged into the same weights after the patch comes out before it.
    """

    def __init__(self, unet: Any, strength: float, changed: Mapping[str, nn.Parameter]) -> None:
        self.strength = strength
        self.names = tuple(changed)
        """The parameters that it changed, diffusers' names."""
        self._unet, self._parameters = unet, tuple(changed.values())
        self._originals: list[Tensor] | None = None

    def unmerge(self) -> None:
        """Put the original weights back, bit for bit, wherever the U-Net is now (in its number format of now).

        Raises:
            BackboneError: the originals were not kept, or are back already, or parameters were replaced since.
        """
        if self._originals is None:
            raise BackboneError(
                "the patch cannot be un-merged: it was before, or its originals were not kept (keep_originals=False); "
                "load the model again"
            )
        present = {id(parameter) for parameter in self._unet.parameters()}
        if not all(id(parameter) in present for parameter in self._parameters):
            raise BackboneError("the patch cannot be un-merged: the U-Net has other parameters now; load it again")
        self._restore(self._originals)

    def _restore(self, originals: list[Tensor]) -> None:
        import torch

        with torch.no_grad():
            for parameter, original in zip(self._parameters, originals, strict=False):
                parameter.copy_(original)
        self._originals = None
        delattr(self._unet, _MARK)


def load_patch(path: str | Path) -> dict[str, QuantisedDelta]:
    """The differences of a `.patch` file: a pickle of name -> (uint8 levels, low, high), read as tensors only and
    mapped into memory where its format permits, so that 1.3 GB are not read before they are needed.

    Raises:
        BackboneError: missing, unreadable, more than tensors, or entries of another kind, all of them listed.
    """
    path = Path(path)
    patch: dict[str, QuantisedDelta] = {}
    wrong: list[str] = []
    for name, value in load_tensors(path).items():
        found = _delta(value)
        if isinstance(found, QuantisedDelta):
            patch[str(name)] = found
        else:
            wrong.append(f"{name} {found}")
    if wrong or not patch:
        raise BackboneError(
            f"{path} is no inpaint patch of (levels, low, high) per weight; {len(wrong)} entries do not fit: "
            f"{'; '.join(wrong) or 'it is empty'}; fetch inpaint_v26.fooocus.patch again"
        )
    return patch


def _delta(value: Any) -> QuantisedDelta | str:
    """One entry of the file, or what is wrong with it."""
    import torch

    if not isinstance(value, tuple | list) or len(value) != 3:
        return f"is a {type(value).__name__}, not three tensors"
    levels, *ends = value
    if not isinstance(levels, torch.Tensor) or levels.dtype is not torch.uint8 or levels.layout is not torch.strided:
        return f"has levels of {getattr(levels, 'dtype', type(levels).__name__)}, not dense uint8"
    if not all(isinstance(end, torch.Tensor | float | int) for end in ends):
        return "has a range that is no tensor"
    low, high = (torch.as_tensor(end) for end in ends)
    for end in (low, high):
        if not _broadcasts(end.shape, levels.shape):
            return f"has a range of shape {tuple(end.shape)} for levels {tuple(levels.shape)}"
        if end.is_complex() or not end.float().isfinite().all():
            return "has NaN or infinity in its range"
    if not (high.float() - low.float()).isfinite().all():
        return "has a range wider than float32"
    return QuantisedDelta(levels, low, high)


def _broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in pairs)


def expected_patch_keys(unet: Any) -> frozenset[str]:
    """What a patch of this U-Net must hold at least: every parameter, save those of transformer blocks from the fifth
    on. In SDXL's, these are the 960 keys of `inpaint_v26.fooocus.patch`, which leaves out blocks 4 to 9 of the six
    transformers of ten."""
    names = to_ldm_names([name for name, _ in unet.named_parameters()], unet.config).values()
    return frozenset(
        _PREFIX + name
        for name in names
        if (block := _BLOCK.search(name)) is None or int(block.group(1)) < _PATCHED_BLOCKS
    )


def merge_patch(
    unet: Any,
    patch: Patch,
    strength: float = 1.0,
    *,
    keep_originals: bool = True,
    dtype: torch.dtype | None = None,
) -> MergedPatch:
    """W ← W + strength · Δ for every tensor of the patch, weights and biases, summed in float32 (float64 for weights of
    that) and then rounded, once, to W's number format, or to `dtype`, in which the whole U-Net then is (only without
    originals).

    Tensor by tensor on W's device, so that beside the U-Net only the largest tensor is in memory twice in float32. The
    originals wait on the CPU: as many bytes as the changed weights take (SDXL's 1.3 billion are 2.6 GB in half
    precision, 5.3 GB in float32). With `keep_originals` off they are dropped as they are replaced: the patch stays in
    for good, and after an error in the middle, such as memory that ends, the U-Net must be loaded anew. A deep copy of
    the U-Net is merged, too, and cannot be un-merged.

    Raises:
        BackboneError: a patch is in this U-Net already; a name without a parameter, another shape, or a key missing
            (`expected_patch_keys`), some of them listed; weights of integers, not loaded (meta device) or made in
            `inference_mode`; a strength that is no number. Nothing is merged then.
    """
    import torch

    if not math.isfinite(strength):
        raise BackboneError(f"the patch's strength is {strength}: use a number such as 1.0")
    if getattr(unet, _MARK, False):
        raise BackboneError("this U-Net has a patch already: un-merge that one first, or load the model again")
    if keep_originals and dtype is not None:
        raise BackboneError("originals are kept in their own number format: give no dtype, or keep_originals=False")
    deltas = _matched(unet, patch)
    parameters = dict(unet.named_parameters())
    merged = MergedPatch(unet, float(strength), {name: parameters[name] for name in deltas})
    originals: list[Tensor] = []
    setattr(unet, _MARK, True)
    try:
        with torch.no_grad():
            for name, delta in deltas.items():
                weight = parameters[name]
                if keep_originals:
                    originals.append(weight.detach().to("cpu", copy=True))
                exact = torch.float64 if weight.dtype is torch.float64 else torch.float32
                summed = delta.dequantised(weight.device, exact).mul_(strength).add_(weight.to(exact))
                if dtype is None:
                    weight.copy_(summed)
                else:
                    weight.data = summed.to(dtype)
            if dtype is not None:
                unet.to(dtype)
    except BaseException:
        if keep_originals:
            merged._restore(originals)
        raise
    if keep_originals:
        merged._originals = originals
    return merged


def _matched(unet: Any, patch: Patch) -> dict[str, QuantisedDelta]:
    """diffusers' parameter name -> its difference; BackboneError lists all that do not fit."""
    parameters = dict(unet.named_parameters())
    blocks = ldm_blocks(unet.config)

    def ours(name: str) -> str | None:
        found = from_ldm(name.removeprefix(_PREFIX), unet.config, blocks) if name.startswith(_PREFIX) else None
        return found if found in parameters else None

    names = {theirs: ours(theirs) for theirs in patch}
    fitting = {name: patch[theirs] for theirs, name in names.items() if name is not None}
    shapes = [
        f"{theirs} is {tuple(patch[theirs].levels.shape)} instead of {tuple(parameters[name].shape)}"
        for theirs, name in sorted(names.items())
        if name is not None and patch[theirs].levels.shape != parameters[name].shape
    ]
    _require_none(
        "the patch does not fit this U-Net",
        {
            "without a parameter": sorted(theirs for theirs, name in names.items() if name is None),
            "missing": sorted(expected_patch_keys(unet) - set(patch)),
            "of another shape": shapes,
        },
        "use the patch with a four-channel SDXL without adapters",
    )
    _require_none(
        "the patch cannot be merged into weights that are not there, or are fixed, or not in floating point",
        {"such": sorted(name for name in fitting if not _is_writable(parameters[name]))},
        "load the U-Net's weights without quantisation, and outside of inference_mode",
    )
    return fitting


def _is_writable(weight: Tensor) -> bool:
    return weight.is_floating_point() and not weight.is_meta and not weight.is_inference()


def _require_none(what: str, groups: Mapping[str, list[str]], advice: str) -> None:
    found = [f"{len(keys)} {label}: {_some(keys)}" for label, keys in groups.items() if keys]
    if found:
        raise BackboneError(f"{what}; {'; '.join(found)}: {advice}")


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:_NAMED])
    return shown if len(keys) <= _NAMED else f"{shown} and {len(keys) - _NAMED} more"
