"""The instruction models of a studio: given in memory, or loaded once by name or folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.backbones import catalog, find_model, load_instruct_model, share_memory_plan
from intarsia.editing.errors import EditingError
from intarsia.editing.pictures import find
from intarsia.request import EditRequest

if TYPE_CHECKING:
    from intarsia.backbones import Backbone


class InstructModels:
    """Loads instruction models beside a backbone, on its device and in its number format, and keeps the last one."""

    def __init__(self, backbone: Backbone, given: Backbone | None = None) -> None:
        self._backbone = backbone
        self._given = given
        self._loaded: dict[Path, Backbone] = {}

    @property
    def default(self) -> dict[str, str]:
        """The field of a request that names the model that was given, if one was."""
        return {} if self._given is None else {"add_model": self._given.known_as}

    def of(self, request: EditRequest, folder: Path | None = None) -> Backbone:
        """The request's instruction model; folders are also looked for in `folder`.

        Raises:
            UnknownModelError, MissingWeightsError, BackboneError: see `load_instruct_model`. EditingError: other
            weights than the request was made with.
        """
        model = self._load(request.add_model, folder)
        if request.add_model_hash not in (None, model.hash):
            raise EditingError(
                f"the request was made with another {request.add_model!r} ({str(request.add_model_hash)[:12]}…) than "
                f"the one here ({model.hash[:12]}…): give that one as add_model, or leave out add_model_hash"
            )
        return model

    def _load(self, name: str, folder: Path | None) -> Backbone:
        if self._given is not None and name == self._given.known_as:
            return self._given
        where = find_add_model(name, folder)
        _, path = find_model(where)
        if path not in self._loaded:
            backbone = self._backbone
            base = backbone if _base_hash(path) == backbone.hash else None
            device = backbone.device if backbone.execution_device is None else "cpu"
            loaded = load_instruct_model(where, device, backbone.dtype, base=base)
            self._loaded = {path: share_memory_plan(backbone, loaded)}
        return self._loaded[path]


def find_add_model(name: str, folder: Path | None = None) -> str:
    """What to load an instruction model by: its name in the catalog, or its folder."""
    return name if name in catalog else find(name, folder)


def _base_hash(path: Path) -> str | None:
    """Of the model that a difference was made for; None for a whole model, or a folder that does not load."""
    try:
        found = json.loads((path / "model_index.json").read_text(encoding="utf-8")).get("base_hash")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None
