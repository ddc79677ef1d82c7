"""What the nine-channel U-Net sees beside the noisy latent: the latent mask and the picture without the
hole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.sampling.errors import SamplingError

if TYPE_CHECKING:
    from torch import Tensor


def latent_mask(mask: Tensor, factor: int) -> Tensor:
    """Pixel mask (B, 1, H, W), 1 = repaint -> (B, 1, H/f, W/f) of 0 and 1: any masked pixel marks its cell.

    Values of 0.5 and more count as masked, as in diffusers.

    Raises:
        SamplingError: wrong shape, a side that is no multiple of `factor`, or no masked pixel in some sample.
    """
    from torch.nn.functional import max_pool2d

    if mask.ndim != 4 or mask.shape[1] != 1:
        raise SamplingError(f"mask of shape {tuple(mask.shape)} cannot be used: give (B, 1, H, W)")
    if mask.shape[-2] % factor or mask.shape[-1] % factor:
        raise SamplingError(
            f"mask of {mask.shape[-2]}x{mask.shape[-1]} px: both sides must be multiples of {factor}"
        )
    hard = (mask >= 0.5).float()
    if not bool(hard.flatten(1).any(dim=1).all()):
        raise SamplingError("the mask marks no pixel of the window: choose a window that holds the mask")
    return max_pool2d(hard, kernel_size=factor)


def masked_image(image: Tensor, mask: Tensor) -> Tensor:
    """Image (B, 3, H, W) in [-1, 1] with the hole (mask ≥ 0.5) set to mid-grey, 0."""
    return image * (mask < 0.5).to(image.dtype)
