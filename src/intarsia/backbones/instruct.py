"""Surgery from a latent or inpainting U-Net to [noisy latent | source-image latent] (InstructPix2Pix)."""

from __future__ import annotations

from typing import Any, Literal, get_args

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.input_channels import set_input_channels

InstructStart = Literal["zero", "masked_image"]


def widen_for_instructions(unet: Any) -> Any:
    """Give a U-Net that reads C latent channels the 2·C channels of an instruction model, in place.

    The first C input channels of `conv_in` keep their weights and its bias stays (diffusers' training scripts draw a
    new one); the weights of the C new ones are zero, so the output is that of before whatever the source image holds.
    A U-Net that has 2·C channels already is left alone.

    Returns:
        The same U-Net.

    Raises:
        BackboneError: another number of input channels, or a `conv_in` that an adapter has wrapped.
    """
    latent, found = int(unet.config.out_channels), int(unet.config.in_channels)
    wanted = 2 * latent
    if found == wanted:
        return unet
    if found != latent:
        raise BackboneError(
            f"the U-Net takes {found} channels: to make an instruction model of it, it must take {latent} (latents "
            f"alone; see narrow_to_latents) or {wanted} (latents, source image)"
        )
    return set_input_channels(unet, wanted)


def narrow_to_latents(unet: Any) -> Any:
    """Cut a U-Net that reads more than its C latent channels down to the first C, in place; the bias stays.

    The output is that of before where all other channels are zero. A U-Net that has C channels already is left alone.

    Returns:
        The same U-Net.

    Raises:
        BackboneError: fewer than C channels, or a `conv_in` that an adapter has wrapped.
    """
    latent, found = int(unet.config.out_channels), int(unet.config.in_channels)
    if found == latent:
        return unet
    if found < latent:
        raise BackboneError(f"the U-Net takes {found} channels, fewer than its {latent} latents: use another model")
    return set_input_channels(unet, latent)


def start_instructions(unet: Any, start: InstructStart | None = None, *, scaling_factor: float = 1.0) -> Any:
    """An instruction model's U-Net before its training, in place, from one that reads C, 2·C + 1 or 2·C channels.

    Args:
        start: what the channels of the source image start as. "zero" is InstructPix2Pix's. "masked_image" takes the
            weights of an inpainting model's masked image, times `scaling_factor`, since the source image is not
            scaled: the result is the inpainting model under a mask that marks nothing, and that one copies its
            picture. To keep the scene, most of what an addition asks for, need not be learned anew. By default
            "masked_image" for 2·C + 1 channels, else "zero". 2·C channels are left alone.

    Returns:
        The same U-Net.

    Raises:
        BackboneError: an unknown start, "masked_image" without such channels, or channels of another number.
    """
    import torch

    latent, found = int(unet.config.out_channels), int(unet.config.in_channels)
    inpainting = found == 2 * latent + 1
    start = start or ("masked_image" if inpainting else "zero")
    if start not in get_args(InstructStart):
        raise BackboneError(f"start {start!r} is unknown: use one of {get_args(InstructStart)}")
    if start == "masked_image" and not inpainting:
        raise BackboneError(f'a U-Net of {found} channels has no masked image to start from: use start="zero"')
    if found == 2 * latent:
        return unet
    image = unet.conv_in.weight.detach()[:, latent + 1 :].clone() if start == "masked_image" else None
    widen_for_instructions(narrow_to_latents(unet) if inpainting else unet)
    if image is not None:
        with torch.no_grad():
            unet.conv_in.weight[:, latent:] = image * scaling_factor
    return unet
