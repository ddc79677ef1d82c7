"""Fooocus' inpaint head: what teaches a four-channel U-Net to read a mask and a masked image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.fooocus_files import load_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

_KEY = "head"
_FEED = "intarsia_inpaint_feed"
"""Attribute under which one call's mask and masked image travel past `conv_in`, on its input: no state in between."""


class InpaintHead:
    """A 3x3 convolution (O, C + 1, 3, 3) without bias, frozen, beside `conv_in` of a U-Net of C latent channels.

    `inject` makes the U-Net take the nine-channel model's sample, [noisy latent | mask | masked-image latent] with
    2·C + 1 channels: `conv_in` reads the latent, and its output gets the head's of the rest added, padded by 1 with the
    border's own values. So both reach the first skip connection too. The weight follows that output's device and number
    format; the U-Net's parameters, state dict and config stay as they are. A deep copy of the U-Net has a head of its
    own.
    """

    def __init__(self, weight: Tensor) -> None:
        """Raises BackboneError for a weight of another layout, or with NaN or infinity."""
        import torch

        shape, dense = tuple(weight.shape), weight.layout is torch.strided
        if not dense or len(shape) != 4 or shape[2:] != (3, 3) or not weight.is_floating_point():
            raise BackboneError(
                f"an inpaint head is a dense convolution (out, latents + 1, 3, 3), not {weight.dtype} of shape "
                f"{shape}: use fooocus_inpaint_head.pth"
            )
        if not weight.isfinite().all():
            raise BackboneError("the inpaint head holds NaN or infinity: fetch it again")
        self.weight = weight.detach().clone().contiguous()
        self._ready = self.weight
        self._handles: tuple[RemovableHandle, ...] = ()

    @property
    def injected(self) -> bool:
        """Whether the head is in a U-Net now."""
        return bool(self._handles)

    def inject(self, unet: Any) -> Self:
        """Let the U-Net take 2·C + 1 channels until `eject`.

        Raises:
            BackboneError: injected already, another head is, or a U-Net whose `conv_in` it does not fit.
        """
        from torch import nn

        if self.injected:
            raise BackboneError("this inpaint head is in a U-Net already: eject it first")
        conv, latents = unet.conv_in, int(unet.config.out_channels)
        if type(conv) is not nn.Conv2d:
            raise BackboneError(
                f"the U-Net's conv_in is a {type(conv).__name__}, not a Conv2d: eject its adapter first"
            )
        if head_of(unet) is not None:
            raise BackboneError("this U-Net has an inpaint head already: eject that one first")
        if conv.in_channels != latents:
            raise BackboneError(
                f"the U-Net takes {conv.in_channels} channels: an inpaint head is for one that takes its {latents} "
                "latent channels alone"
            )
        wanted = (conv.out_channels, latents + 1, 3, 3)
        if tuple(self.weight.shape) != wanted:
            raise BackboneError(
                f"the inpaint head is {tuple(self.weight.shape)}, this U-Net needs {wanted}: use the head made for it"
            )
        self._handles = (
            conv.register_forward_pre_hook(self._take_feed),
            conv.register_forward_hook(self._add_feed),
        )
        return self

    def eject(self) -> None:
        """Take both hooks off: the U-Net is the one of before."""
        if not self.injected:
            raise BackboneError("this inpaint head is in no U-Net: there is nothing to eject")
        for handle in self._handles:
            handle.remove()
        self._handles, self._ready = (), self.weight

    def __call__(self, feed: Tensor) -> Tensor:
        """[mask | masked-image latent] (B, C + 1, h, w) -> (B, O, h, w), in the feed's number format, on its device."""
        from torch.nn.functional import conv2d, pad

        return conv2d(pad(feed, (1, 1, 1, 1), mode="replicate"), self._weight_like(feed))

    def _take_feed(self, conv: nn.Conv2d, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        (sample,) = arguments
        if sample.shape[1] != conv.in_channels + self.weight.shape[1]:
            raise BackboneError(
                f"a U-Net with an inpaint head takes {conv.in_channels + self.weight.shape[1]} channels (noisy latent, "
                f"mask, masked-image latent), not {sample.shape[1]}: eject the head to give it latents alone"
            )
        latents = sample[:, : conv.in_channels]
        setattr(latents, _FEED, sample[:, conv.in_channels :])
        return (latents,)

    def _add_feed(self, conv: nn.Conv2d, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        feed: Tensor = getattr(arguments[0], _FEED)
        # Under autocast or with cast layers, the output's format is the one that `conv_in` computed in.
        return output + self(feed.to(output))

    def _weight_like(self, like: Tensor) -> Tensor:
        import torch

        if self._ready.device != like.device or self._ready.dtype != like.dtype:
            with torch.inference_mode(False):  # an inference tensor could not serve a training step later
                self._ready = self.weight.to(like)
        return self._ready


def head_of(unet: Any) -> InpaintHead | None:
    """The inpaint head in a U-Net, also under an adapter that has wrapped `conv_in` since; None without one."""
    for module in unet.conv_in.modules():
        for hook in module._forward_pre_hooks.values():
            owner = getattr(hook, "__self__", None)
            if isinstance(owner, InpaintHead):
                return owner
    return None


def load_head(path: str | Path) -> InpaintHead:
    """The head of a file with the one tensor `head`: Fooocus' pickle, read as tensors only, or safetensors.

    Raises:
        BackboneError: missing, unreadable, more than tensors, other keys, or another shape.
    """
    import torch

    path = Path(path)
    found = load_tensors(path)
    if set(found) != {_KEY} or not isinstance(found[_KEY], torch.Tensor):
        raise BackboneError(
            f"{path} is not an inpaint head: it must hold one tensor named {_KEY!r}, "
            f"and holds {', '.join(sorted(map(str, found))[:4]) or 'nothing'}"
        )
    try:
        return InpaintHead(found[_KEY])
    except BackboneError as error:
        raise BackboneError(f"{path} cannot be used: {error}") from error
