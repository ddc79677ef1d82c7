"""One loaded base model: VAE, U-Net, its text towers, and (optionally) the image tower."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.fooocus_head import head_of
from intarsia.backbones.images import prepare_for_image_encoder
from intarsia.backbones.weights import model_hash

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor
    from transformers import (
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
        CLIPVisionModelWithProjection,
    )


DEFAULT_BACKGROUND_PROMPT = "empty background"
FeatureLayer = Literal["penultimate", "last"]
BackboneKind = Literal["inpaint", "latent", "instruct"]


@dataclass(frozen=True, eq=False)
class Backbone:
    """A latent diffusion model of SDXL's shape, or (one text tower, no size conditioning) of Stable Diffusion 1.5's.

    An inpainting model's U-Net takes [noisy latent | mask | masked-image latent] channels, by itself or through an
    `InpaintHead`; a text-to-image model's the noisy latent alone, and a mask is filled by blending; an instruction
    model's [noisy latent | source-image latent]. See `kind`.

    `vae` is a diffusers `AutoencoderKL` and `unet` a `UNet2DConditionModel` (their published types hide that
    both are torch modules, hence `Any`).
    """

    name: str
    path: Path | None
    vae: Any
    unet: Any
    tokenizer: CLIPTokenizer
    tokenizer_2: CLIPTokenizer | None
    text_encoder: CLIPTextModel
    text_encoder_2: CLIPTextModelWithProjection | None
    image_encoder: CLIPVisionModelWithProjection | None
    scheduler_config: Mapping[str, Any]
    force_zeros_for_empty_prompt: bool = True
    image_mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: tuple[float, ...] = (0.5, 0.5, 0.5)
    licence: str | None = field(default=None)
    background_prompt: str = DEFAULT_BACKGROUND_PROMPT
    """What the model calls a place where nothing stands: the prompt of a removal."""
    address: str = ""
    """What `locate_model` finds it by; "": its path, or, made in memory, its name."""
    other_weights: tuple[Path, ...] = ()
    """Files of weights besides those at `path`: Fooocus' head and patch."""
    execution_device: torch.device | None = None
    """Where the parts compute, if they wait elsewhere (see `apply_memory_plan`); None: where they are."""

    @property
    def known_as(self) -> str:
        """What to load it by again, on this machine or, if it is a name, on any."""
        return self.address or (self.name if self.path is None else str(self.path))

    @property
    def device(self) -> torch.device:
        """Where the parts compute: what goes into them must be there."""
        if self.execution_device is not None:
            return self.execution_device
        device: torch.device = next(self.unet.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the U-Net's weights (adapters aside)."""
        dtype: torch.dtype = self.unet.conv_in.weight.dtype
        return dtype

    @property
    def input_channels(self) -> int:
        """How many channels a call of the U-Net takes: its own, and with an `InpaintHead` 2·C + 1."""
        if head_of(self.unet) is not None:
            return 2 * self.latent_channels + 1
        return int(self.unet.config.in_channels)

    @property
    def kind(self) -> BackboneKind:
        """What the U-Net was made for, by its channels: to fill a mask, to paint from words alone (a mask is then
        filled by blending), or to follow an instruction.

        Raises:
            BackboneError: neither 2·C + 1 nor C nor 2·C channels.
        """
        channels, latent = self.input_channels, self.latent_channels
        kinds: dict[int, BackboneKind] = {2 * latent + 1: "inpaint", latent: "latent", 2 * latent: "instruct"}
        if channels in kinds:
            return kinds[channels]
        raise BackboneError(
            f"the U-Net of {self.name!r} takes {channels} channels: an inpainting model has {2 * latent + 1}, "
            f"a text-to-image model {latent}, an instruction model {2 * latent}"
        )

    def unet_input(self, latents: Tensor, mask: Tensor, masked_image_latents: Tensor) -> Tensor:
        """What a U-Net that fills masks reads, (B, C', h, w): latents, mask and masked-image latents side by side, or
        of a text-to-image model the latents alone."""
        import torch

        if self.kind == "latent":
            return latents
        return torch.cat([latents, mask, masked_image_latents], dim=1)

    def size_conditioning(self, pooled: Tensor, time_ids: Tensor) -> dict[str, Tensor]:
        """The U-Net's `added_cond_kwargs`: pooled text (B, P) and time ids (B, 6), or nothing where it has none."""
        return {"text_embeds": pooled, "time_ids": time_ids} if self.has_size_conditioning else {}

    @property
    def has_size_conditioning(self) -> bool:
        """Whether the U-Net wants a pooled text vector and `time_ids`, as SDXL's does and Stable Diffusion 1.5's
        does not."""
        return self.unet.config.addition_embed_type is not None

    @property
    def latent_factor(self) -> int:
        """Pixels per latent cell and axis: 2 ^ (VAE levels - 1)."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    @property
    def native_size(self) -> int:
        """Side in pixels of the square pictures the U-Net was trained on."""
        return int(self.unet.config.sample_size) * self.latent_factor

    @property
    def size_multiple(self) -> int:
        """Height and width in pixels must be multiples of this, so that every U-Net level has whole cells."""
        return int(self.latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1))

    @cached_property
    def hash(self) -> str:
        """sha256 over the weight files (or, for a model made in memory, over its parameters). Computed
        once."""
        if self.path is not None:
            return model_hash(self.path, self.other_weights)
        import torch

        digest = hashlib.sha256()
        for part, module in sorted(self.modules().items()):
            for name, value in sorted(module.state_dict().items()):
                digest.update(f"{part}.{name}".encode())
                digest.update(
                    value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                )
        return digest.hexdigest()

    def modules(self) -> dict[str, torch.nn.Module]:
        """The parts with weights, by their folder names."""
        parts: dict[str, torch.nn.Module | None] = {
            "vae": self.vae,
            "unet": self.unet,
            "text_encoder": self.text_encoder,
            "text_encoder_2": self.text_encoder_2,
            "image_encoder": self.image_encoder,
        }
        return {name: module for name, module in parts.items() if module is not None}

    def to(self, device: str | torch.device) -> Backbone:
        """Move every part, in place; returns itself."""
        for module in self.modules().values():
            module.to(device)
        return self

    def encode_moments(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> posterior moments (B, 2C, h, w): unscaled mean, then
        log-variance.

        Raises:
            BackboneError: H or W is not a multiple of the VAE factor.
        """
        import torch

        height, width = images.shape[-2:]
        if height % self.latent_factor or width % self.latent_factor:
            raise BackboneError(
                f"picture of {height}x{width} px cannot be encoded: "
                f"both sides must be multiples of {self.latent_factor}"
            )
        posterior = self.vae.encode(images.to(self.device, next(self.vae.parameters()).dtype)).latent_dist
        return torch.cat([posterior.mean, posterior.logvar], dim=1)

    def latents_from_moments(
        self, moments: Tensor, generators: Sequence[Generator] | None = None, *, sample: bool = False
    ) -> Tensor:
        """Moments (B, 2C, h, w) -> scaled latents (B, C, h, w) as the U-Net sees them.

        The posterior's mode, or with `sample` a draw; then `generators` holds one CPU generator per picture.
        """
        import torch

        mean, logvar = moments.chunk(2, dim=1)
        if sample:
            if generators is None or len(generators) != len(mean):
                count = 0 if generators is None else len(generators)
                raise BackboneError(f"sampling {len(mean)} latents needs as many generators, got {count}")
            noise = torch.stack(
                [torch.randn(mean.shape[1:], generator=generator) for generator in generators]
            )
            mean = mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise.to(mean)
        shift, scale = self._latent_affine(mean)
        return ((mean - shift) * scale).to(self.dtype)

    def encode(
        self, images: Tensor, generators: Sequence[Generator] | None = None, *, sample: bool = False
    ) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> scaled latents (B, C, H/f, W/f); see `latents_from_moments`."""
        return self.latents_from_moments(self.encode_moments(images), generators, sample=sample)

    def encode_source(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> what an instruction model sees of them (B, C, H/f, W/f): the posterior's
        mode, *not* scaled (InstructPix2Pix's convention)."""
        return self.encode_moments(images).chunk(2, dim=1)[0].to(self.dtype)

    def source_from_latents(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w), as sampling makes them -> the same picture as an instruction model's source:
        unscaled. So one result is the next one's source without a trip through the VAE."""
        shift, scale = self._latent_affine(latents)
        return latents / scale + shift

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) -> images (B, 3, h·f, w·f), nominally in [-1, 1], not clamped,
        float32."""
        latents = latents.to(self.device, next(self.vae.parameters()).dtype)
        shift, scale = self._latent_affine(latents)
        decoded: Tensor = self.vae.decode(latents / scale + shift, return_dict=False)[0]
        return decoded.float()

    def _latent_affine(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(shift, scale) with scaled = (raw - shift) · scale, from the VAE's config."""
        import torch

        config = self.vae.config
        scale = torch.tensor(config.scaling_factor, dtype=like.dtype, device=like.device)
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is not None and std is not None:
            shape = (1, -1, 1, 1)
            shift = torch.tensor(mean, dtype=like.dtype, device=like.device).view(shape)
            return shift, scale / torch.tensor(std, dtype=like.dtype, device=like.device).view(shape)
        shift_factor = getattr(config, "shift_factor", None) or 0.0
        return torch.tensor(shift_factor, dtype=like.dtype, device=like.device), scale

    def time_ids(
        self, size: tuple[int, int], crop: tuple[int, int] = (0, 0), target: tuple[int, int] | None = None
    ) -> Tensor:
        """SDXL's size conditioning (1, 6): original (height, width), crop (top, left),
        target (height, width), all in pixels."""
        import torch

        values = [*size, *crop, *(size if target is None else target)]
        return torch.tensor([values], dtype=self.dtype, device=self.device)

    def image_embeddings(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> the image tower's projected embeddings (B, P)."""
        tower, prepared = self._for_image_encoder(images)
        embeddings: Tensor = tower(pixel_values=prepared).image_embeds
        return embeddings

    def image_features(self, images: Tensor, layer: FeatureLayer) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> the image tower's states (B, N, F), the class token first.

        Args:
            layer: "penultimate", what enters the last layer (`hidden_states[-2]`), or "last", what leaves it
                (`last_hidden_state`, not normalised). All N = 1 + patches tokens in both cases.

        Raises:
            BackboneError: the model has no image encoder, or the layer is unknown.
        """
        if layer not in get_args(FeatureLayer):
            raise BackboneError(f"layer {layer!r} is unknown: use one of {get_args(FeatureLayer)}")
        tower, prepared = self._for_image_encoder(images)
        output = tower(pixel_values=prepared, output_hidden_states=True)
        features: Tensor = output.last_hidden_state if layer == "last" else output.hidden_states[-2]
        return features

    def _for_image_encoder(self, images: Tensor) -> tuple[CLIPVisionModelWithProjection, Tensor]:
        """The image tower, and images as it wants them."""
        tower = self.image_encoder
        if tower is None:
            raise BackboneError(f"model {self.name!r} has no image encoder: use a model that has one")
        dtype, size = next(tower.parameters()).dtype, int(cast(int, tower.config.image_size))
        return tower, prepare_for_image_encoder(images.to(self.device, dtype), size, self.image_mean, self.image_std)

    def text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """Texts -> the second text tower's projected embeddings (T, P). Raises BackboneError where there is none."""
        tokenizer, tower = self.tokenizer_2, self.text_encoder_2
        if tokenizer is None or tower is None:
            raise BackboneError(f"model {self.name!r} has one text tower only: use a model that has two")
        ids = tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        embeddings: Tensor = tower(ids.to(self.device)).text_embeds
        return embeddings

    def image_text_similarity(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Cosine similarity (B, T) between images (B, 3, H, W) in [-1, 1] and texts, in the shared space."""
        import torch
        from torch.nn.functional import normalize

        with torch.no_grad():
            image = normalize(self.image_embeddings(images).float(), dim=-1)
            text = normalize(self.text_embeddings(texts).float(), dim=-1)
        return image @ text.T
