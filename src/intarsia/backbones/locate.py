"""Locate: a text-to-image U-Net's input widened to [noisy latent | mask | masked-image latent] (LAR-Gen)."""

from __future__ import annotations

from typing import Any

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.input_channels import set_input_channels


def widen_for_inpainting(unet: Any) -> Any:
    """Give a U-Net that reads C latent channels the 2·C + 1 channels of an inpainting model, in place.

    The first C input channels of `conv_in` keep their weights and its bias stays; the weights of the C + 1 new ones
    are zero, so the output is that of before whatever the mask and the masked image hold, and they learn from the
    first step on. The config says the new number, so that the U-Net can be saved and loaded. A U-Net that has 2·C + 1
    channels already is left alone.

    Returns:
        The same U-Net.

    Raises:
        BackboneError: another number of input channels, or a `conv_in` that an adapter has wrapped.
    """
    latent, found = int(unet.config.out_channels), int(unet.config.in_channels)
    wanted = 2 * latent + 1
    if found == wanted:
        return unet
    if found != latent:
        raise BackboneError(
            f"the U-Net takes {found} channels: to make an inpainting model of it, it must take {latent} (latents "
            f"alone) or {wanted} (latents, mask, masked image)"
        )
    return set_input_channels(unet, wanted)
