"""How many channels a U-Net's first convolution reads, changed in place."""

from __future__ import annotations

from typing import Any

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.fooocus_head import head_of


def set_input_channels(unet: Any, wanted: int) -> Any:
    """Let `conv_in` read `wanted` channels: the first ones keep their weights, new ones get zeros, the bias stays.

    The config says the new number, so that the U-Net can be saved and loaded.

    Returns:
        The same U-Net.

    Raises:
        BackboneError: a `conv_in` that an adapter has wrapped, or an inpaint head beside it.
    """
    import torch
    from torch import nn

    conv = unet.conv_in
    if type(conv) is not nn.Conv2d:
        raise BackboneError(f"the U-Net's conv_in is a {type(conv).__name__}, not a Conv2d: eject its adapter first")
    if head_of(unet) is not None:
        raise BackboneError("the U-Net has an inpaint head: eject it before its input channels are changed")
    old = conv.weight.detach()[:, :wanted]
    weight = torch.cat([old, old.new_zeros(len(old), wanted - old.shape[1], *old.shape[2:])], dim=1)
    conv.weight = nn.Parameter(weight, requires_grad=conv.weight.requires_grad)
    conv.in_channels = wanted
    unet.register_to_config(in_channels=wanted)
    return unet
