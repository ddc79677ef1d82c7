"""Shows reference photos to the U-Net while it paints: Assign's tokens and Refine's bank, call by call."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from intarsia.conditioning.errors import ConditioningError
from intarsia.conditioning.reference import CutOut, reference_views
from intarsia.conditioning.reference_options import ReferenceOptions

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from intarsia.adapters import ReferenceAdapters
    from intarsia.backbones import Backbone

Bank = tuple["Tensor", ...]

_GROUPS = ("down", "mid", "up")


@dataclass(frozen=True, eq=False)
class _Encoded:
    """G samples' (1: of all samples) K references, of which Refine takes the first K'.

    tokens (G, K·T, D); nothing (1, K·T, D), the tokens of an all-zero picture; detail (G·K', N, F);
    latents (G, K', C, h, w); mask (G, 1, K'·h, w), one reference's cells below the other's.
    """

    tokens: Tensor
    nothing: Tensor | None
    detail: Tensor | None
    latents: Tensor | None
    mask: Tensor | None


class ReferenceGuide:
    """A `sampling.ReferenceBranch` for adapters that the caller has injected into the backbone's U-Net.

    Every photo is encoded once, at the first `begin`. The reference U-Net runs once per step for all blocks
    of guidance, with noise of its own: a function of the sample's seed, the step and the reference, so the
    picture's noise is untouched, and neighbours, stages and the order of samples change nothing. Make a new
    guide when weights of the U-Net changed.
    """

    def __init__(
        self,
        backbone: Backbone,
        adapters: ReferenceAdapters,
        cutouts: Sequence[CutOut] | Sequence[Sequence[CutOut]],
        options: ReferenceOptions | None = None,
    ) -> None:
        """
        Args:
            cutouts: the references that all samples share; or one such sequence per sample, all of the same
                length. Tokens of several references stand side by side. Refine reads as many, from the first
                on, as its own `max_references` says.

        Raises:
            ConditioningError: no reference or too many, or an image encoder that is missing or of another
                width than the adapters were made for.
        """
        self.backbone, self.adapters = backbone, adapters
        self.options = ReferenceOptions() if options is None else options
        self._groups = _groups(cutouts)
        self._refine = adapters.refine if self.options.detail_strength > 0 else None
        self._check()
        self._encoded: _Encoded | None = None
        self._clean: Bank | None = None
        self._tokens: dict[tuple[tuple[bool, ...], int], Tensor] = {}
        self._seeds: tuple[int, ...] = ()

    def begin(self, generators: Sequence[Generator], samples: int) -> None:
        """See `ReferenceBranch`; takes the generators' initial seeds and draws nothing from them.

        Raises:
            ConditioningError: the adapters are not injected, or references for another number of samples.
        """
        if not self.adapters.assign.injected or not (self._refine is None or self._refine.injected):
            raise ConditioningError("the reference adapters are not in the U-Net: inject them first")
        if len(self._groups) not in (1, samples):
            raise ConditioningError(
                f"references for {len(self._groups)} samples, but {samples} are painted: "
                "give references that all share, or some for each sample"
            )
        if self._encoded is None:
            self._encoded = self._encode()
        self._seeds = tuple(generator.initial_seed() for generator in generators)

    def prepare(
        self,
        *,
        step: int,
        steps: int,
        timestep: Tensor,
        scheduler: Any,
        size: tuple[int, int],
        present: Sequence[bool],
    ) -> None:
        """See `ReferenceBranch`."""
        if self._encoded is None or not self._seeds:
            raise ConditioningError("the reference guide has not begun: call begin before the first step")
        factor = self.options.factor(step, steps)
        if not factor:
            self._hide()
            return
        self._show_tokens(self._encoded, present, factor)
        self._show_bank(self._encoded, present, step, timestep, scheduler, factor)

    def end(self) -> None:
        """See `ReferenceBranch`."""
        self._seeds = ()
        self._hide()

    def _hide(self) -> None:
        self.adapters.assign.show(None)
        if self.adapters.refine is not None:
            self.adapters.refine.show(None)

    def _show_tokens(self, encoded: _Encoded, present: Sequence[bool], now: float) -> None:
        import torch

        samples = len(self._seeds)
        factors = [now * self.options.strength * factor for factor in self.options.blocks]
        if not any(factors) or not (any(present) or encoded.nothing is not None):
            self.adapters.assign.show(None)
            return
        nothing = encoded.tokens if encoded.nothing is None else encoded.nothing
        form = (tuple(present), samples)
        if form not in self._tokens:
            parts = [encoded.tokens if seen else nothing for seen in present]
            self._tokens[form] = torch.cat([part.expand(samples, -1, -1) for part in parts])
        tokens = self._tokens[form]
        on = tokens.new_tensor([seen or encoded.nothing is not None for seen in present])
        rows = on.repeat_interleave(samples)
        strength = {group: rows * factor for group, factor in zip(_GROUPS, factors, strict=True)}
        self.adapters.assign.show(tokens, strength)

    def _show_bank(
        self, encoded: _Encoded, present: Sequence[bool], step: int, timestep: Tensor, scheduler: Any, now: float
    ) -> None:
        refine = self._refine
        if refine is None:
            return
        on = [seen or self.options.refine_unconditional for seen in present]
        if not any(on):
            refine.show(None)
            return
        if self.options.detail_mode == "noised":
            bank = self._noised(encoded, step, timestep, scheduler)
        else:
            if self._clean is None:
                assert encoded.latents is not None
                self._clean = self._bank(encoded, encoded.latents, timestep.new_tensor(refine.config.clean_timestep))
            bank = self._clean
        assert encoded.mask is not None
        rows = encoded.mask.new_tensor(on).repeat_interleave(len(self._seeds))
        refine.show(
            bank,
            mask=encoded.mask.expand(len(bank[0]), -1, -1, -1),
            strength=rows * (now * self.options.detail_strength),
        )

    def _noised(self, encoded: _Encoded, step: int, timestep: Tensor, scheduler: Any) -> Bank:
        """The bank of B samples, from alpha_t · E(reference) + sigma_t · noise in the units of the U-Net."""
        import torch

        assert encoded.latents is not None
        count = encoded.latents.shape[1]
        clean = encoded.latents.expand(len(self._seeds), -1, -1, -1, -1)
        noise = torch.stack(
            [
                torch.stack([_noise(seed, step, index, clean.shape[2:]) for index in range(count)])
                for seed in self._seeds
            ]
        ).to(clean)
        flat, times = clean.flatten(0, 1), timestep.reshape(1).expand(len(self._seeds) * count)
        noisy = scheduler.add_noise(flat, noise.flatten(0, 1), times)
        scaled: Tensor = scheduler.scale_model_input(noisy, timestep)
        return self._bank(encoded, scaled.reshape(clean.shape), timestep)

    def _bank(self, encoded: _Encoded, latents: Tensor, timestep: Tensor) -> Bank:
        """Latents (N, K, C, h, w) -> per layer (N, K·M, C): a sample's references follow one another."""
        assert self._refine is not None and encoded.detail is not None
        backbone, (samples, count) = self.backbone, latents.shape[:2]
        detail = _grouped(encoded.detail, count).expand(samples, -1, -1, -1).flatten(0, 1)
        side = backbone.native_size
        bank = self._refine.bank(
            latents.flatten(0, 1).to(backbone.dtype),
            timestep,
            detail,
            backbone.time_ids((side, side)).expand(samples * count, -1),
        )
        return tuple(_grouped(tokens, count).flatten(1, 2) for tokens in bank)

    def _encode(self) -> _Encoded:
        import torch
        from torch.nn.functional import max_pool2d

        backbone, assign, refine = self.backbone, self.adapters.assign, self._refine
        count, side = len(self._groups[0]), self._tower_side
        views = [[reference_views(cutout, side, backbone.native_size) for cutout in group] for group in self._groups]
        device = backbone.device

        def seen_by_tower(limit: int) -> Tensor:
            return torch.cat([view.tower for group in views for view in group[:limit]]).to(device)

        with torch.no_grad():
            tokens = assign.embed(backbone.image_features(seen_by_tower(count), "penultimate"))
            nothing = None
            if assign.config.unconditional == "zero_picture":
                nothing = assign.embed(backbone.image_features(self._zero_picture(), "penultimate"))
                nothing = nothing.repeat(1, count, 1)
            joined = _grouped(tokens, count).flatten(1, 2)
            if refine is None:
                return _Encoded(joined, nothing, None, None, None)
            limit = min(count, refine.config.max_references)
            pictures = torch.cat([view.latent for group in views for view in group[:limit]]).to(device)
            cells = torch.stack([torch.cat([view.mask for view in group[:limit]], dim=2)[0] for group in views])
            return _Encoded(
                joined,
                nothing,
                backbone.image_features(seen_by_tower(limit), "last"),
                _grouped(backbone.encode(pictures).float(), limit),
                max_pool2d(cells, backbone.latent_factor).to(device),
            )

    @property
    def _tower_side(self) -> int:
        assert self.backbone.image_encoder is not None
        return int(cast(int, self.backbone.image_encoder.config.image_size))

    def _zero_picture(self) -> Tensor:
        """The picture that is zero after the image tower's normalisation (1, 3, s, s)."""
        import torch

        mean = torch.tensor(self.backbone.image_mean, device=self.backbone.device).view(1, 3, 1, 1)
        return (mean * 2 - 1).expand(-1, -1, self._tower_side, self._tower_side)

    def _check(self) -> None:
        tower, assign = self.backbone.image_encoder, self.adapters.assign
        count, limit = len(self._groups[0]), assign.config.max_references
        if count > limit:
            raise ConditioningError(f"{count} references were given, but the model takes {limit}: give fewer")
        if tower is None:
            raise ConditioningError(f"model {self.backbone.name!r} has no image encoder: use a model that has one")
        width = int(tower.config.hidden_size)
        wanted = {assign.config.feature_width}
        wanted |= set() if self._refine is None else {self._refine.config.feature_width}
        if wanted != {width}:
            raise ConditioningError(
                f"the image encoder of {self.backbone.name!r} is {width} wide, but the reference adapters "
                f"read {' and '.join(map(str, sorted(wanted)))}: use the adapters made for this model"
            )


def _groups(cutouts: Sequence[CutOut] | Sequence[Sequence[CutOut]]) -> tuple[tuple[CutOut, ...], ...]:
    """One group of references for all samples, or one for each."""
    shared = [cutout for cutout in cutouts if isinstance(cutout, CutOut)]
    apart = [tuple(group) for group in cutouts if not isinstance(group, CutOut)]
    if shared and apart:
        raise ConditioningError("shared references and references per sample are mixed: give one or the other")
    groups = tuple(apart) if apart else (tuple(shared),)
    counts = {len(group) for group in groups}
    if 0 in counts:
        raise ConditioningError("no reference was given: give at least one cut-out per sample")
    if len(counts) > 1:
        raise ConditioningError(f"the samples have {sorted(counts)} references: give every sample equally many")
    return groups


def _noise(seed: int, step: int, reference: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise that depends on its arguments alone, made on the CPU."""
    import torch

    label = f"reference noise, seed {seed}, step {step}, reference {reference}"
    derived = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big") >> 1
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(derived))


def _grouped(values: Tensor, count: int) -> Tensor:
    """(G·count, …) -> (G, count, …)"""
    return values.reshape(-1, count, *values.shape[1:])
