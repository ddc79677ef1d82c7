"""Training pairs as latents: cached all at once, or encoded from a stream as they come."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from intarsia.backbones import Backbone
from intarsia.conditioning import Conditioning, encode_prompt
from intarsia.training.instruct_recipe import InstructRecipe
from intarsia.training.pair_rows import Pair, PairError, decode_pair
from intarsia.training.pair_stream import ShardStream
from intarsia.training.pair_views import PairView, PlaceOf, view_of
from intarsia.training.vae import to_tensor

_ENCODED_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class PairBatch:
    """``source`` (B, C, h, w) unscaled mode, ``target`` (B, C, h, w) scaled, ``mask`` (B, 1, h, w) of 0 and 1, and the
    instructions' conditioning; float32 on the base's device."""

    source: Tensor
    target: Tensor
    mask: Tensor
    words: Conditioning


class PairBatches(Protocol):
    """Where training gets its samples from."""

    def batch(self, step: int, generator: Generator, count: int, process: int = 0) -> PairBatch:
        """``count`` samples of a step, of which this is the process-th part; the same at every call."""
        ...


@torch.no_grad()
def encode_views(
    base: Backbone, views: Sequence[PairView], generators: Sequence[Generator]
) -> tuple[Tensor, Tensor, Tensor]:
    """Source (the posterior's mode, not scaled), target (a draw of the posterior, scaled) and mask, as ``PairBatch``
    has them: InstructPix2Pix's convention."""
    parts = []
    for start in range(0, len(views), _ENCODED_AT_ONCE):
        some = views[start : start + _ENCODED_AT_ONCE]
        moments = base.encode_moments(to_tensor(np.stack([view.target for view in some])))
        target = base.latents_from_moments(moments, generators[start : start + len(some)], sample=True)
        source = base.encode_source(to_tensor(np.stack([view.source for view in some])))
        mask = torch.from_numpy(np.stack([view.mask for view in some]))[:, None].float()
        parts.append((source.float(), target.float(), functional.max_pool2d(mask, base.latent_factor)))
    source, target, mask = (torch.cat(values) for values in zip(*parts, strict=True))
    return source, target, mask.to(source)


@dataclass
class PairCache:
    """N views: ``source`` and ``target`` (N, C, h, w) half precision, ``mask`` (N, 1, h, w) bool; ``plain`` and
    ``placed`` (N, K): their instructions without and with the place as indices into ``texts``, -1 for none;
    ``dataset`` (N,): index into ``datasets``."""

    source: Tensor
    target: Tensor
    mask: Tensor
    plain: Tensor
    placed: Tensor
    texts: list[str]
    dataset: Tensor
    datasets: list[str]

    def __len__(self) -> int:
        return len(self.source)

    def save(self, path: Path) -> None:
        part = path.with_suffix(".part")
        torch.save(vars(self), part)
        os.replace(part, path)

    @staticmethod
    def load(path: Path) -> PairCache:
        return PairCache(**torch.load(path, weights_only=True))


def cache_pairs(
    base: Backbone,
    pairs: Iterable[Pair],
    recipe: InstructRecipe,
    *,
    place_of: PlaceOf | None = None,
    report: Callable[[int], None] | None = None,
) -> PairCache:
    """Encode ``recipe.crops`` views of each pair. A view depends on the pair's key and the recipe's seed alone.

    Raises:
        PairError: no pairs.
    """
    side = recipe.side or base.native_size
    latents: list[tuple[Tensor, Tensor, Tensor]] = []
    rows: list[tuple[list[int], list[int]]] = []
    texts: dict[str, int] = {}
    names: dict[str, int] = {}
    dataset: list[int] = []
    waiting: list[PairView] = []
    generators: list[Generator] = []

    def encode() -> None:
        source, target, mask = encode_views(base, waiting, generators)
        latents.append((source.half().cpu(), target.half().cpu(), mask.bool().cpu()))
        waiting.clear()
        generators.clear()
        if report is not None:
            report(len(rows))

    for pair in pairs:
        for crop in range(recipe.crops):
            draw = random.Random(f"view-{recipe.seed}-{pair.dataset}-{pair.key}-{crop}")
            view = view_of(pair, recipe, side, draw, place_of)
            waiting.append(view)
            generators.append(Generator().manual_seed(draw.getrandbits(62)))
            said, where = ([texts.setdefault(t, len(texts)) for t in some] for some in (view.plain, view.placed))
            rows.append((said, where))
            dataset.append(names.setdefault(pair.dataset, len(names)))
            if len(waiting) == _ENCODED_AT_ONCE:
                encode()
    if waiting:
        encode()
    if not rows:
        raise PairError("there are no training pairs: give folders that hold some")
    width = max(len(said) for said, _ in rows)
    plain, placed = (torch.tensor([r[k] + [-1] * (width - len(r[k])) for r in rows]) for k in (0, 1))
    source, target, mask = (torch.cat(values) for values in zip(*latents, strict=True))
    return PairCache(source, target, mask, plain, placed, list(texts), torch.tensor(dataset), list(names))


class CachedPairs:
    """Batches of a cache, its instructions encoded once. ``weights``: how often a dataset is drawn, by name; by
    default in proportion to its size."""

    def __init__(
        self, base: Backbone, cache: PairCache, recipe: InstructRecipe, weights: Mapping[str, float] | None = None
    ) -> None:
        self.cache, self.recipe, self.device = cache, recipe, base.device
        unknown = sorted({*(weights or {})} ^ {*cache.datasets}) if weights is not None else []
        if unknown:
            raise PairError(f"weights and datasets differ in {', '.join(unknown)}: name each of {cache.datasets} once")
        self._chances: Tensor | None = None
        if weights is not None:
            each = torch.tensor([weights[name] for name in cache.datasets], dtype=torch.float64)
            self._chances = (each / cache.dataset.bincount(minlength=len(each)))[cache.dataset]
        parts = [encode_prompt(base, cache.texts[i : i + 256]) for i in range(0, len(cache.texts), 256)]
        self._tokens = torch.cat([part.tokens.half() for part in parts])
        self._pooled = torch.cat([part.pooled.half() for part in parts])

    def batch(self, step: int, generator: Generator, count: int, process: int = 0) -> PairBatch:
        cache = self.cache
        if self._chances is None:
            rows = torch.randint(len(cache), (count,), generator=generator)
        else:
            rows = torch.multinomial(self._chances, count, replacement=True, generator=generator)
        kind, place = torch.rand(2, count, generator=generator)
        known = (cache.plain[rows] >= 0).sum(1)
        chosen = (kind * known).long().clamp_max(known - 1)[:, None]
        plain, placed = (table[rows].gather(1, chosen)[:, 0] for table in (cache.plain, cache.placed))
        text = torch.where((place < self.recipe.location_share) & (placed >= 0), placed, plain).to(self._tokens.device)
        source, target, mask = (t[rows].to(self.device).float() for t in (cache.source, cache.target, cache.mask))
        return PairBatch(source, target, mask, Conditioning(self._tokens[text].float(), self._pooled[text].float()))


class StreamedPairs:
    """Batches of a stream, encoded as they come: a step's samples follow from its number, so a run that was stopped
    goes on at the very sample. Pictures are decoded by ``threads`` threads."""

    def __init__(
        self,
        base: Backbone,
        stream: ShardStream,
        recipe: InstructRecipe,
        *,
        place_of: PlaceOf | None = None,
        threads: int = 4,
    ) -> None:
        self.base, self.stream, self.recipe, self.place_of = base, stream, recipe, place_of
        self.side = recipe.side or base.native_size
        self._pool = ThreadPoolExecutor(threads)

    def batch(self, step: int, generator: Generator, count: int, process: int = 0) -> PairBatch:
        first = step * self.recipe.batch + process * count
        if self.stream.samples != first:
            self.stream.seek(first)
        rows = [(first + n, self.stream.next_row()) for n in range(count)]
        made = list(self._pool.map(self._view, rows))
        # Latents and words are made in full precision even where the U-Net is trained in another.
        with torch.autocast(self.base.device.type, enabled=False):
            source, target, mask = encode_views(self.base, [m[0] for m in made], [m[2] for m in made])
            words = [encode_prompt(self.base, [m[1] for m in made[n : n + 256]]) for n in range(0, count, 256)]
        tokens, pooled = torch.cat([w.tokens for w in words]), torch.cat([w.pooled for w in words])
        return PairBatch(source, target, mask, Conditioning(tokens.float(), pooled.float()))

    def _view(self, given: tuple[int, tuple[str, dict[str, object], str]]) -> tuple[PairView, str, Generator]:
        number, row = given
        draw = random.Random(f"sample-{self.recipe.seed}-{number}")
        view = view_of(decode_pair(*row), self.recipe, self.side, draw, self.place_of)
        n = draw.randrange(len(view.plain))
        placed = view.placed and draw.random() < self.recipe.location_share
        text = (view.placed if placed else view.plain)[n]
        return view, text, Generator().manual_seed(draw.getrandbits(62))
