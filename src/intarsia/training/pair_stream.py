"""An endless stream of training pairs from shards, in an order that follows from a seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from intarsia.training.pair_rows import Pair, PairError, decode_pair
from intarsia.training.pair_shards import digest_of, find_units

_BLOCK = 4096


class ShardStream:
    """Pairs of one or several folders. Each folder is gone through epoch by epoch, its shards in an order of the
    epoch's own and the rows of each shard likewise, every row once an epoch; which folder the n-th sample is of is
    drawn by ``weights``, by default in proportion to their sizes. All of it is a function of the seed and n.

    Raises:
        PairError: see ``find_units``; or weights that do not fit.
    """

    def __init__(
        self, folders: Sequence[str | Path] | str | Path, weights: Sequence[float] | None = None, seed: int = 0
    ) -> None:
        roots = [Path(f) for f in ([folders] if isinstance(folders, str | Path) else folders)]
        if not roots:
            raise PairError("no folder of training pairs was given: give at least one")
        self.names = _distinct([root.resolve().name for root in roots])
        self._units = [find_units(root) for root in roots]
        self.digests = tuple(digest_of(units) for units in self._units)
        self.sizes = tuple(sum(len(unit) for unit in units) for units in self._units)
        given = self.sizes if weights is None else tuple(weights)
        if len(given) != len(roots) or any(not 0 <= w < float("inf") for w in given) or not sum(given):
            raise PairError(f"weights {list(given)} do not fit {len(roots)} folders: give one number above 0 for each")
        self.weights, self.seed = tuple(float(w) / sum(given) for w in given), seed
        self._bounds = np.cumsum(self.weights)
        self._counts = np.zeros(len(roots), np.int64)
        self.samples = 0
        self._orders = lru_cache(maxsize=64)(self._order)

    def __len__(self) -> int:
        """Rows of all folders together."""
        return sum(self.sizes)

    def __iter__(self) -> Iterator[Pair]:
        """Endless, from where the stream is."""
        while True:
            yield decode_pair(*self.next_row())

    def once(self) -> Iterator[Pair]:
        """Every row of every folder, in the order in which they lie there; the stream stays where it is."""
        for name, units in zip(self.names, self._units, strict=True):
            for unit in units:
                for index in range(len(unit)):
                    yield decode_pair(*unit.row(index), name)

    def next_row(self) -> tuple[str, dict[str, Any], str]:
        """(key, undecoded values, folder's name) of the next sample; see ``decode_pair``."""
        source = self._source(self.samples)
        epoch, place = divmod(int(self._counts[source]), self.sizes[source])
        unit, row = self._at(source, epoch, place)
        self._counts[source] += 1
        self.samples += 1
        key, values = self._units[source][unit].row(row)
        return key, values, self.names[source]

    def seek(self, samples: int) -> None:
        """Go to where ``samples`` samples have been given, without reading them."""
        forward = samples >= self.samples
        begin, counts = (self.samples, self._counts.copy()) if forward else (0, np.zeros_like(self._counts))
        if len(self.sizes) == 1:
            counts[0] = samples
        else:
            for block in range(begin // _BLOCK, -(-samples // _BLOCK)):
                drawn = self._block(block)[max(0, begin - block * _BLOCK) : samples - block * _BLOCK]
                counts += np.bincount(drawn, minlength=len(counts))
        self._counts, self.samples = counts, samples

    def state(self) -> dict[str, Any]:
        """Where the stream is and what it is of; plain values, for ``restore``."""
        return {**self._identity(), "samples": self.samples, "counts": self._counts.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on at the very sample where the state was taken.

        Raises:
            PairError: the state is of other pairs, weights or another seed.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise PairError(f"the stream's {name} was {state.get(name)} and is now {value}: continue with the same")
        self.samples, self._counts = int(state["samples"]), np.array(state["counts"], np.int64)

    def _identity(self) -> dict[str, Any]:
        told = {"sizes": self.sizes, "weights": self.weights, "digests": self.digests}
        return {"seed": self.seed, **{name: list(value) for name, value in told.items()}}

    def _source(self, sample: int) -> int:
        return int(self._block(sample // _BLOCK)[sample % _BLOCK]) if len(self.sizes) > 1 else 0

    def _block(self, block: int) -> npt.NDArray[np.int64]:
        """Which folder each of a block's samples is of."""
        return _draw_block(self.seed, block, tuple(self._bounds[:-1].tolist()))

    def _order(self, source: int, epoch: int, unit: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The permutation of a unit's rows or (unit -1) of a folder's units, with the ends of these in that order."""
        units = self._units[source]
        length = len(units) if unit < 0 else len(units[unit])
        order = np.random.default_rng([self.seed, 1, source, epoch, unit + 1]).permutation(length)
        ends = np.cumsum([len(units[u]) for u in order]) if unit < 0 else np.empty(0, np.int64)
        return order, ends

    def _at(self, source: int, epoch: int, place: int) -> tuple[int, int]:
        """(unit, row) of the place-th sample of a folder's epoch."""
        order, ends = self._orders(source, epoch, -1)
        slot = int(np.searchsorted(ends, place, side="right"))
        unit = int(order[slot])
        begin = 0 if slot == 0 else int(ends[slot - 1])
        return unit, int(self._orders(source, epoch, unit)[0][place - begin])


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names; of equal ones the later with their number."""
    return tuple(f"{name}-{n + 1}" if name in names[:n] else name for n, name in enumerate(names))


@lru_cache(maxsize=4)
def _draw_block(seed: int, block: int, bounds: tuple[float, ...]) -> npt.NDArray[np.int64]:
    drawn = np.random.default_rng([seed, 0, block]).random(_BLOCK)
    return np.searchsorted(np.array(bounds), drawn, side="right")
