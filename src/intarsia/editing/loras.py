"""LoRAs of an edit: files of other tools and the learned subject, fused into the model while it paints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.adapters import FusedLoras, Lora, LoraModules, file_beside, from_diffusers, read_lora, refuse_pickle
from intarsia.backbones import check_licence
from intarsia.editing.errors import EditingError, InputChangedError
from intarsia.editing.pictures import find
from intarsia.editing.subjects import content_sha256
from intarsia.errors import MissingFileError
from intarsia.request import EditRequest

if TYPE_CHECKING:
    from intarsia.backbones import Backbone
    from intarsia.learning import Subject


class Loras:
    """Loads LoRA files for one backbone and keeps the last request's."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._loaded: dict[str, Lora] = {}

    def of(self, request: EditRequest, folder: Path | None = None) -> tuple[tuple[Lora, ...], EditRequest]:
        """The request's LoRAs in its order, and the request with their hashes.

        Raises:
            InputChangedError: another file than the request was made with. AdapterError: one that does not fit the
            model; every key that is of no use is listed. MissingFileError, EditingError: see `lora_hashes`.
        """
        if not request.lora:
            return (), request
        request = with_lora_hashes(request, folder)
        missing = [digest for digest in request.lora_sha256 if digest not in self._loaded]
        modules = LoraModules.of(self._backbone.modules()) if missing else None
        loaded = {}
        for path, digest in zip(request.lora, request.lora_sha256, strict=True):
            known = self._loaded.get(digest)
            if known is None:
                assert modules is not None
                known = read_lora(find(path, folder), modules)
            loaded[digest] = known
        self._loaded = loaded
        return tuple(loaded[digest] for digest in request.lora_sha256), request


def with_lora_hashes(request: EditRequest, folder: Path | None = None) -> EditRequest:
    """The request with the sha256 of what each LoRA file holds; nothing of it needs torch.

    Raises:
        LicenceError: the policy in force permits known licences only. MissingFileError: no such file.
        AdapterFileError: a pickle. EditingError: no safetensors file.
        InputChangedError: not what the request's hash says.
    """
    found = []
    for index, given in enumerate(request.lora):
        path = Path(find(given, folder))
        check_licence(given, None)
        if not path.is_file():
            raise MissingFileError(f"the LoRA {given} does not exist; give a .safetensors file")
        refuse_pickle(path)
        try:
            found.append(_sha256(path))
        except ValueError as error:
            raise EditingError(f"the LoRA {path} is damaged or no safetensors file; download it again") from error
        wanted = request.lora_sha256[index] if request.lora_sha256 else found[-1]
        if found[-1] != wanted:
            raise InputChangedError(
                f"{given} is not the LoRA of this request (sha256 {found[-1][:12]}…, not {wanted[:12]}…): give the "
                "original file"
            )
    return request.replace(lora_sha256=tuple(found)) if found else request


def _sha256(path: Path) -> str:
    """Of what a LoRA file holds and, of one that PEFT saved, of the file beside it that tells its strength."""
    digest, beside = content_sha256(path), file_beside(path)
    return digest if beside is None else hashlib.sha256(digest.encode() + beside.read_bytes()).hexdigest()


@contextmanager
def fused_in(
    backbone: Backbone, request: EditRequest, subject: Subject | None, loras: Sequence[Lora] = ()
) -> Iterator[None]:
    """The subject and the request's LoRAs in the model's weights for the duration, taken out whatever happens. What
    words mean may depend on them: prompts are encoded inside.
    """
    given = list(zip(loras, request.lora_strengths, strict=True))
    if subject is not None:
        given.insert(0, (Lora.of_unet(from_diffusers(subject.lora), subject.alpha), request.subject_strength))
    with FusedLoras.fuse(backbone.modules(), given):
        yield
