"""Finding a Tabletop subject among 50 of which each got the same edit; their views are kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from intarsia.errors import IntarsiaError
from intarsia.evaluation.bench.scores_folder import read_arrays, write_arrays
from intarsia.evaluation.gallery import EDITED_VIEWS, GALLERY, VIEWS, gallery_of, portraits_of
from intarsia.evaluation.judges import Judges
from intarsia.tabletop import Level, Subject, split_seed


class Lineup:
    """The candidates: a benchmark's subjects, filled up with others of the test split.

    Of more than 50 subjects the first 50 stand there, and one of the others in the place of whoever stands at its
    number modulo 50. Views are kept in ``folder`` if it can be written to.
    """

    def __init__(self, judges: Judges, seeds: Mapping[str, int], world: Level, folder: Path | None) -> None:
        self.judges, self.folder = judges, folder
        self._names = sorted(seeds)
        self._own = {name: Subject.sample(seed, world) for name, seed in seeds.items()}
        pool, index = [self._own[name] for name in self._names[:GALLERY]], 0
        while len(pool) < GALLERY:
            seed = split_seed("test", index)
            if seed not in seeds.values():
                pool.append(Subject.sample(seed, world))
            index += 1
        self._pool = pool
        self._known: dict[str, Tensor] = {}

    def found(self, subject: str, changes: Mapping[str, str], portrait: Tensor) -> bool:
        """Whether a portrait (D,) is nearest to the subject's, all candidates having the changes."""
        views, number = self._views(self._pool, changes), self._names.index(subject)
        row = number % GALLERY
        if number >= GALLERY:
            views = views.clone()
            views[row] = self._views([self._own[subject]], changes)[0]
        return int((gallery_of(views) @ portrait).argmax()) == row

    def _views(self, subjects: list[Subject], changes: Mapping[str, str]) -> Tensor:
        """(N, V, D)."""
        count = EDITED_VIEWS if changes else VIEWS
        told = [self.judges.hash, [s.seed for s in subjects], sorted(changes.items()), count, self.judges.level.name]
        key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]
        if key not in self._known:
            path = None if self.folder is None else self.folder / f"{key}.npz"
            kept = None if path is None else read_arrays(path)
            if kept is None:
                shown = [replace(s, **dict(changes)) for s in subjects]  # type: ignore[arg-type]
                views = portraits_of(self.judges, shown, count)
                if path is not None:
                    with suppress(OSError, IntarsiaError):  # a benchmark may be on a disk that is only read
                        write_arrays(path, {"views": views.numpy()})
            else:
                views = torch.from_numpy(kept["views"])
            self._known[key] = views
        return self._known[key]
