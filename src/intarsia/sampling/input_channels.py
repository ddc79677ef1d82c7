"""What the U-Net reads beside the noisy latent: an inpainting model's mask and masked image, an instruction model's
source image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intarsia.sampling.errors import SamplingError
from intarsia.sampling.guidance import Block

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.backbones import Backbone


@dataclass(frozen=True, eq=False)
class InputChannels:
    """`values` (B, C', h, w). Where they are a `reference`, blocks of the batch that do not see it get zeros."""

    values: Tensor
    reference: bool

    def of(self, blocks: Sequence[Block]) -> Tensor:
        """The channels of a whole batch, (len(blocks) · B, C', h, w)."""
        import torch

        if not self.reference:
            return torch.cat([self.values] * len(blocks))
        hidden = torch.zeros_like(self.values)
        return torch.cat([self.values if block.reference else hidden for block in blocks])


def input_channels(
    backbone: Backbone,
    like: Tensor,
    mask: Tensor | None,
    masked_image_latents: Tensor | None,
    image_latents: Tensor | None,
) -> InputChannels:
    """Either mask and masked image of an inpainting model, or the image of an instruction model, one row per sample; a
    text-to-image model reads none, whatever is given of a mask.

    Raises:
        SamplingError: none or both of the two, a wrong shape, or not what the model reads.
    """
    import torch

    wanted = backbone.input_channels
    if wanted == like.shape[1] and image_latents is None:
        return InputChannels(like[:, :0], reference=False)
    if (image_latents is None) == (mask is None and masked_image_latents is None):
        raise SamplingError(
            "the model's further channels are not clear: give mask and masked_image_latents (inpainting models), or "
            "image_latents (instruction models)"
        )
    if image_latents is not None:
        if image_latents.shape[1:] != like.shape[1:]:
            raise SamplingError(
                f"image latents {tuple(image_latents.shape)} do not fit latents {tuple(like.shape)}: encode the "
                "picture at the same size"
            )
        channels = InputChannels(rows(image_latents, like), reference=True)
    else:
        if mask is None or masked_image_latents is None:
            missing = "mask" if mask is None else "masked_image_latents"
            raise SamplingError(f"an inpainting model needs mask and masked_image_latents: give {missing}, too")
        if mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[-2:] != like.shape[-2:]:
            raise SamplingError(
                f"latent mask {tuple(mask.shape)} does not fit latents {tuple(like.shape)}: give (B, 1, h, w)"
            )
        if masked_image_latents.shape[1:] != like.shape[1:]:
            raise SamplingError(
                f"masked-image latents {tuple(masked_image_latents.shape)} do not fit "
                f"latents {tuple(like.shape)}: encode the picture at the same size"
            )
        shown = [mask.to(like).expand(len(like), -1, -1, -1), rows(masked_image_latents, like)]
        channels = InputChannels(torch.cat(shown, dim=1), reference=False)
    given = like.shape[1] + channels.values.shape[1]
    if given != wanted:
        raise SamplingError(
            f"{backbone.name!r} reads {wanted} channels, latents and conditions have {given}: give mask and "
            "masked_image_latents to an inpainting model, image_latents to an instruction model"
        )
    return channels


def rows(values: Tensor, like: Tensor) -> Tensor:
    """`values` (1 or B, …) on the device and in the format of `like` (B, …), one row per sample."""
    if len(values) not in (1, len(like)):
        raise SamplingError(f"{len(values)} conditions for {len(like)} samples: give one, or one per sample")
    return values.to(like.device, like.dtype).expand(len(like), *values.shape[1:])
