"""Learned subjects: from file or memory, loaded once, injected for an edit."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.editing.errors import EditingError
from intarsia.errors import MissingFileError

if TYPE_CHECKING:
    from intarsia.backbones import Backbone
    from intarsia.learning import Subject


class Subjects:
    """Loads subjects by file and keeps the last one."""

    def __init__(self) -> None:
        self._loaded: dict[str, Subject] = {}

    def load(self, subject: Subject | str | Path | None) -> tuple[Subject | None, str | None]:
        """The subject and the sha256 of what its file holds (or would hold, when it comes from memory)."""
        if subject is None:
            return None, None
        from intarsia.learning import Subject

        if isinstance(subject, Subject):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "subject.safetensors"
                subject.save(path)
                return subject, check_subject_file(path)
        digest = check_subject_file(subject)
        if digest not in self._loaded:
            self._loaded = {digest: Subject.load(subject)}
        return self._loaded[digest], digest


@contextmanager
def subject_in(backbone: Backbone, subject: Subject | None, strength: float) -> Iterator[None]:
    """The subject's LoRA in the U-Net for the duration, ejected whatever happens; strength 0: nothing."""
    if subject is None or strength == 0:
        yield
        return
    lora = subject.adapter()
    lora.scale = strength
    with lora.inject(backbone.unet):
        yield


def check_subject_file(path: str | Path) -> str:
    """sha256 of what a subject file holds: its header as JSON with sorted keys, then its numbers.

    Raises:
        MissingFileError, EditingError: no file, or no safetensors file.
    """
    target = Path(path)
    if not target.is_file():
        raise MissingFileError(f"the subject {target} does not exist; make it with `intarsia learn`")
    data = target.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.dumps(json.loads(data[8:end].decode("utf-8")), sort_keys=True)
    except ValueError as error:
        raise EditingError(
            f"the subject {target} is damaged or no safetensors file; learn it again with `intarsia learn`"
        ) from error
    return hashlib.sha256(header.encode() + data[end:]).hexdigest()
