"""Learned subjects: from file or memory, loaded once."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.editing.errors import EditingError, InputChangedError
from intarsia.editing.pictures import find
from intarsia.errors import MissingFileError
from intarsia.request import EditRequest

if TYPE_CHECKING:
    from intarsia.learning import Subject


class Subjects:
    """Loads subjects by file and keeps the last one."""

    def __init__(self) -> None:
        self._loaded: dict[str, Subject] = {}

    def of(self, request: EditRequest, folder: Path | None) -> tuple[Subject | None, EditRequest]:
        """The request's subject, and the request with its hash.

        Raises:
            InputChangedError: another subject than the request was made with. EditingError: one from memory.
        """
        if request.subject is None:
            if request.subject_sha256 is not None:
                raise EditingError(
                    "the subject was given from memory, so it is not known here; save it and give its path"
                )
            return None, request
        learned, found = self.load(find(request.subject, folder))
        if request.subject_sha256 not in (None, found):
            raise InputChangedError(
                f"{request.subject} is not the subject of this request (sha256 {str(found)[:12]}…, not "
                f"{str(request.subject_sha256)[:12]}…): give the original file"
            )
        return learned, request.replace(subject_sha256=found)

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


def check_subject_file(path: str | Path) -> str:
    """sha256 of what a subject file holds: its header as JSON with sorted keys, then its numbers.

    Raises:
        MissingFileError, EditingError: no file, or no safetensors file.
    """
    target = Path(path)
    if not target.is_file():
        raise MissingFileError(f"the subject {target} does not exist; make it with `intarsia learn`")
    try:
        return content_sha256(target)
    except ValueError as error:
        raise EditingError(
            f"the subject {target} is damaged or no safetensors file; learn it again with `intarsia learn`"
        ) from error


def content_sha256(path: Path) -> str:
    """sha256 of what a safetensors file holds, whatever the order of its header. `ValueError` for any other file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end].decode("utf-8")), sort_keys=True)
    return hashlib.sha256(header.encode() + data[end:]).hexdigest()
