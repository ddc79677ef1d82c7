"""The U-Net's blocks compiled, for many pictures of one size: the first one takes minutes, the next ones less time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intarsia.backbones.errors import BackboneError

if TYPE_CHECKING:
    from intarsia.backbones.backbone import Backbone

BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D")
"""Classes of the blocks that a U-Net repeats: nearly all of its work, and few enough kinds to compile each once."""


def compile_blocks(backbone: Backbone, compiler: str = "inductor") -> int:
    """Let torch compile the repeated blocks of a backbone's U-Net, in place, when they are next called. Parameters,
    state dict and modules stay the same objects; adapters are to be injected and ejected as before (blocks they change
    are compiled anew).

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
    for block in blocks:
        block.compile(backend=compiler)
    return len(blocks)


def compiled_kinds(unet: Any) -> list[Any]:
    """The blocks that `compile_blocks` compiles."""
    return [module for module in unet.modules() if type(module).__name__ in BLOCKS]


def is_compiled(unet: Any) -> bool:
    """Whether the blocks of a U-Net are compiled."""
    return any(getattr(block, "_compiled_call_impl", None) is not None for block in compiled_kinds(unet))
