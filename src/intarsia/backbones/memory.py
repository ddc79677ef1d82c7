"""What a loaded model needs and what a device has: the numbers that a memory plan is made of."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from intarsia.backbones.byte_count import count_unet_bytes, count_vae_bytes
from intarsia.backbones.errors import BackboneError
from intarsia.backbones.known_models import locate_model, safetensors_shapes
from intarsia.backbones.memory_plan import MemoryNeeds, MemoryPlan, in_gigabytes, plan_memory
from intarsia.backbones.offload import tensors_of, unet_groups
from intarsia.backbones.weights import weight_files
from intarsia.errors import IntarsiaWarning

if TYPE_CHECKING:
    import torch
    from torch import nn

    from intarsia.backbones.backbone import Backbone

RESAMPLER, TOWER = 83_000_000, 632_000_000
"""Parameters of IP-Adapter-Plus' resampler for SDXL, and of the image tower that it reads (ViT-H/14)."""
_GUIDED = 2
"""Rows of a call of the U-Net with guidance, for one picture."""


class FreeMemory(NamedTuple):
    """Bytes of a device; None: not known."""

    free: int | None
    total: int | None


def free_memory(device: str | torch.device) -> FreeMemory:
    """What a device has left for tensors: of CUDA with what torch holds unused, of MPS what the system recommends, of
    the CPU what the system calls available."""
    import torch

    where = torch.device(device)
    if where.type == "cuda":
        free, total = torch.cuda.mem_get_info(where)
        unused = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return FreeMemory(free + unused, total)
    if where.type == "mps":
        limit = int(torch.mps.recommended_max_memory())
        return FreeMemory(max(0, limit - int(torch.mps.driver_allocated_memory())), limit)
    return _host_memory() if where.type == "cpu" else FreeMemory(None, None)


def _host_memory(source: Path = Path("/proc/meminfo")) -> FreeMemory:
    try:
        lines = (line.split() for line in source.read_text().splitlines())
        sizes = {fields[0]: int(fields[1]) * 1024 for fields in lines if len(fields) > 1}
        return FreeMemory(sizes["MemAvailable:"], sizes["MemTotal:"])
    except (OSError, ValueError, KeyError):
        pass
    try:
        return FreeMemory(None, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return FreeMemory(None, None)


def warn_of_short_memory(name_or_path: str | Path, dtype: torch.dtype, *, download: bool = False) -> None:
    """Warn before a model is loaded whose weights are more than the free ordinary memory."""
    free = free_memory("cpu").free
    try:
        wanted = parameter_count(name_or_path, download=download) * dtype.itemsize
    except BackboneError:  # loading says it better
        return
    if free is not None and wanted > free:
        warnings.warn(
            f"the weights of {name_or_path} take {in_gigabytes(wanted)} in {str(dtype).removeprefix('torch.')}, and "
            f"{in_gigabytes(free)} of ordinary memory is free: close other programs, or use a smaller model",
            IntarsiaWarning,
            stacklevel=3,
        )


def memory_needs(backbone: Backbone) -> MemoryNeeds:
    """Counted for a picture of the model's native size; a second or two for SDXL."""
    cells = int(backbone.unet.config.sample_size)
    return MemoryNeeds(
        weights={part: bytes_of(module) for part, module in backbone.modules().items()},
        largest_group=max(bytes_of(group) for group in unet_groups(backbone.unet)),
        unet_work=count_unet_bytes(backbone.unet, _GUIDED, cells, cells, backbone.dtype).peak,
        vae_work=count_vae_bytes(backbone.vae, backbone.native_size, backbone.native_size),
        side=backbone.native_size,
        adapters=_reference_bytes(backbone),
        tower=0 if backbone.image_encoder is not None else TOWER * backbone.dtype.itemsize,
    )


def _reference_bytes(backbone: Backbone) -> int:
    """Of IP-Adapter-Plus: the cross-attentions' keys and values once more, and the resampler."""
    again: int = sum(
        value.numel()
        for name, value in backbone.unet.named_parameters()
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    )
    return (again + RESAMPLER) * int(backbone.dtype.itemsize)


def plan_for(backbone: Backbone, device: str | torch.device, mode: str = "auto") -> MemoryPlan:
    """The plan for a model in ordinary memory and a device as it is now. Raises as `plan_memory`."""
    import torch

    dtype, has = str(backbone.dtype).removeprefix("torch."), free_memory(device)
    if torch.device(device).type == "cpu":  # nothing depends on the activations there
        weights = {part: bytes_of(module) for part, module in backbone.modules().items()}
        needs = MemoryNeeds(weights, 0, 0, 0, backbone.native_size)
    else:
        needs = memory_needs(backbone)
    return plan_memory(needs, device=str(device), dtype=dtype, free=has.free, total=has.total, mode=mode)


def bytes_of(module: nn.Module) -> int:
    """Of a module's parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(module))


def parameter_count(name_or_path: str | Path, *, download: bool = False) -> int:
    """How many numbers the weight files of a model hold, read off their headers.

    Raises:
        BackboneError: a file that is no safetensors file, or as `locate_model`.
    """
    files = locate_model(name_or_path, download=download)
    paths = [files.path] if files.parts is not None else weight_files(files.path)
    shapes = [shape for path in paths if path.suffix == ".safetensors" for shape in safetensors_shapes(path).values()]
    return sum(math.prod(shape) for shape in shapes)
