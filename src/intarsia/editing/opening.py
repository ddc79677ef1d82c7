"""A model from its name to where it computes: device, number format, memory, compiled or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.backbones import (
    MemoryPlan,
    apply_memory_plan,
    check_memory_mode,
    compile_blocks,
    load_backbone,
    no_memory_explained,
    parameter_count,
    plan_for,
    warn_of_short_memory,
)
from intarsia.editing.devices import choose_device, choose_dtype

if TYPE_CHECKING:
    import torch

    from intarsia.backbones import Backbone


def open_backbone(
    name: str | Path, device: str, dtype: str | torch.dtype, *, memory: str, compiled: bool, download: bool
) -> tuple[Backbone, MemoryPlan]:
    """See `Studio.load`."""
    where = choose_device(device)
    check_memory_mode(memory, where)
    chosen = choose_dtype(dtype, where, lambda: parameter_count(name, download=download))
    warn_of_short_memory(name, chosen, download=download)
    with no_memory_explained(f"loading {name}"):
        backbone = load_backbone(name, "cpu", chosen, download=download)
        plan = plan_for(backbone, where, memory)
        backbone = apply_memory_plan(backbone, plan)
    if compiled:
        compile_blocks(backbone)
    return backbone, plan
