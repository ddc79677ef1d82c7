"""The U-Net's blocks compiled, for many pictures of one size: the first one takes minutes, the next ones less time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.offload import is_offloaded
from intarsia.errors import IntarsiaWarning

if TYPE_CHECKING:
    from intarsia.backbones.backbone import Backbone

BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D")
"""Classes of the blocks that a U-Net repeats: nearly all of its work, and few enough kinds to compile each once."""
SIZES = 16
"""How many sizes of pictures each kind of block may be compiled for, and adapters in and out."""


def compile_blocks(backbone: Backbone, compiler: str = "inductor") -> int:
    """Let torch compile the repeated blocks of a backbone's U-Net, in place, when they are next called. Parameters,
    state dict and modules stay the same objects; adapters are to be injected and ejected as before (blocks they change
    are compiled anew). Blocks that come and go one by one (group offload) are left as they are, with a warning.

    compiler: a torch.compile back end; "eager" only traces, to see whether a model can be compiled.

    Returns:
        How many blocks.

    Raises:
        BackboneError: no such compiler here.
    """
    import torch

    if compiler != "eager" and compiler not in torch.compiler.list_backends():
        known = ", ".join(torch.compiler.list_backends())
        raise BackboneError(f"compiler {compiler!r} is not known: use one of {known}")
    blocks = compiled_kinds(backbone.unet)
    if any(is_offloaded(module) for module in backbone.unet.modules() if module is not backbone.unet):
        warnings.warn(
            "the model is not compiled: with group offload its blocks come and go; use memory full or model",
            IntarsiaWarning,
            stacklevel=2,
        )
        return 0
    kinds = {(type(block), tuple(value.shape for value in block.parameters())) for block in blocks}
    for block in blocks:
        block.compile(backend=compiler)
    unet = backbone.unet
    unet._compiled_call_impl = _with_room(unet._call_impl, SIZES * len(kinds))
    return len(blocks)


def compiled_kinds(unet: Any) -> list[Any]:
    """The blocks that `compile_blocks` compiles."""
    return [module for module in unet.modules() if type(module).__name__ in BLOCKS]


def is_compiled(unet: Any) -> bool:
    """Whether the blocks of a U-Net are compiled."""
    return any(getattr(block, "_compiled_call_impl", None) is not None for block in compiled_kinds(unet))


def _with_room(call: Callable[..., Any], kinds: int) -> Callable[..., Any]:
    """A call in which this many kinds may be compiled. Dynamo counts the blocks of all of a class together, and
    beyond its own limit (8, where SDXL has twelve kinds of resnets) runs them uncompiled."""
    from torch._dynamo import config

    def called(*given: Any, **named: Any) -> Any:
        names = ("recompile_limit", "accumulated_recompile_limit")
        limits = {name: max(kinds, getattr(config, name)) for name in names}
        with config.patch(**limits):
            return call(*given, **named)

    return called
