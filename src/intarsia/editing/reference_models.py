"""The weights that show references to a model: where they are, loaded once, injected for an edit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.backbones import (
    catalog,
    check_licence,
    find_image_tower,
    follow_memory_plan,
    load_image_tower,
    locate_part,
    share_memory_plan,
)
from intarsia.editing.errors import ReferenceModelError, ReferencePhotoError
from intarsia.editing.pictures import find
from intarsia.editing.references import Reference
from intarsia.request import EditRequest

if TYPE_CHECKING:
    from intarsia.adapters import ReferenceAdapters
    from intarsia.backbones import Backbone
    from intarsia.conditioning import ReferenceGuide

REFERENCE_FOLDER = "reference"
"""Beside `unet` in a model's folder."""


def reference_model_of(given: str | None, model: str, model_folder: Path | None, folder: Path | None = None) -> Path:
    """Where a request's weights for references are: as given (a name of the catalog, or a path, also looked for in
    `folder`), else with the model.

    Raises:
        ReferenceModelError: there are none. MissingWeightsError, LicenceError: see `locate_part`.
    """
    if given is not None and given in catalog:
        part = locate_part(given)
        named = [name for name in catalog[given].needs if Path(name).name.startswith("ip-adapter")]
        if not named:
            raise ReferenceModelError(f"{given!r} is no model for references: use ip-adapter-sdxl or ip-adapter-sd15")
        return part / named[0]
    if given is not None:
        check_licence(given, None)
        path = Path(find(given, folder))
        if not path.exists():
            raise ReferenceModelError(
                f"the reference model {given} does not exist: give a folder with assign.safetensors, or an "
                "IP-Adapter-Plus file"
            )
        return path
    if model_folder is None or not (model_folder / REFERENCE_FOLDER).is_dir():
        raise ReferenceModelError(
            f"model {model!r} has no weights for references: give reference_model (ip-adapter-sdxl, ip-adapter-sd15, a "
            "folder with assign.safetensors, or an IP-Adapter-Plus file), or say in words what to paint"
        )
    return model_folder / REFERENCE_FOLDER


def check_count(count: int, limit: int | None) -> None:
    """`ReferencePhotoError` for more references than a model takes (None: not known)."""
    if limit is not None and count > limit:
        raise ReferencePhotoError(f"{count} references were given, but the model takes {limit}: leave some out")


class ReferenceModels:
    """Loads weights for references by file and keeps the last ones."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._loaded: dict[tuple[str, tuple[tuple[str, int, int], ...]], ReferenceAdapters] = {}

    def of(self, request: EditRequest, folder: Path | None = None) -> ReferenceAdapters | None:
        """The weights that show the request's references; None where it has none.

        Raises:
            ReferenceModelError: there are none, or others than the request was made with.
        """
        if not request.has_reference:
            return None
        backbone = self._backbone
        path = reference_model_of(request.reference_model, backbone.name, backbone.path, folder)
        adapters = self.load(path)
        if request.reference_hash not in (None, adapters.hash):
            raise ReferenceModelError(
                f"the request was made with other reference weights ({str(request.reference_hash)[:12]}…) than those "
                f"in {path} ({adapters.hash[:12]}…): give those as reference_model, or leave out reference_hash"
            )
        return adapters

    def load(self, path: Path) -> ReferenceAdapters:
        """The adapters in a folder or file; as `intarsia.adapters.load_reference`. A changed file is read anew."""
        from intarsia.adapters import load_reference

        key = (str(path.resolve()), _state_of(path))
        if key not in self._loaded:
            adapters = self._with_tower(load_reference(path, self._backbone.unet, self._backbone.hash), path)
            follow_memory_plan(self._backbone, adapters.assign, adapters.refine)
            self._loaded = {key: adapters}
        return self._loaded[key]

    def _with_tower(self, adapters: ReferenceAdapters, path: Path) -> ReferenceAdapters:
        """The adapters with the image tower near their file, where the model's own is none that they can read."""
        width, own = adapters.assign.config.feature_width, self._backbone.image_encoder
        if path.is_dir() or (own is not None and own.config.hidden_size == width):
            return adapters
        folder = find_image_tower(path, width)
        if folder is None:
            raise ReferenceModelError(
                f"{path} reads an image encoder {width} wide, which neither the model nor the file's folder has: put "
                f"it into {path.parent / 'image_encoder'}, or use ip-adapter-sdxl or ip-adapter-sd15, which bring one"
            )
        waits = self._backbone.execution_device is not None
        tower = load_image_tower(folder, "cpu" if waits else self._backbone.device, self._backbone.dtype)
        share_memory_plan(self._backbone, tower.on(self._backbone))
        digest = hashlib.sha256(f"{adapters.hash} {tower.hash}".encode()).hexdigest()
        return replace(adapters, tower=tower, hash=digest)


@contextmanager
def reference_in(
    backbone: Backbone,
    adapters: ReferenceAdapters | None,
    references: Sequence[Reference],
    request: EditRequest,
) -> Iterator[ReferenceGuide | None]:
    """Assign and Refine in the U-Net for the duration, ejected whatever happens, and the guide that shows them the
    references. Without references, or at strength 0, nothing is injected. Subjects and LoRAs are fused before.
    """
    if adapters is None or not references or not (request.reference_strength or request.detail_strength):
        yield None
        return
    from intarsia.conditioning import ReferenceGuide, ReferenceOptions, cut_out

    check_count(len(references), adapters.assign.config.max_references)
    guide = ReferenceGuide(
        backbone if adapters.tower is None else adapters.tower.on(backbone),
        adapters,
        [cut_out(reference.rgb, reference.mask.array) for reference in references],
        ReferenceOptions(
            strength=request.reference_strength,
            blocks=request.reference_blocks,
            interval=request.reference_interval,
            schedule=request.reference_schedule,
            detail_strength=request.detail_strength,
            detail_mode=request.detail_mode,
            refine_unconditional=not request.detail_guided,
        ),
    )
    with ExitStack() as injected:
        for adapter in (adapters.assign, adapters.refine):
            if adapter is not None:
                adapter.inject(backbone.unet)
                injected.callback(adapter.eject)
        yield guide


def _state_of(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of each file."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
