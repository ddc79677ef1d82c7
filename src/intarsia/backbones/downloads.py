"""One large file from the Hub into its cache: gone on with after a stop, and kept only if it hashes to what it must."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from intarsia.backbones.errors import FetchError


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository; `sha256` is None for small ones, of which the Hub does not tell it."""

    name: str
    size: int
    sha256: str | None = None

    def at(self, snapshot: Path, storage: Path) -> Path | None:
        """Where the cache holds its bytes, if it does: the Hub names blobs by their sha256."""
        pointer = snapshot / self.name
        if pointer.is_file():
            return pointer.resolve()
        blob = None if self.sha256 is None else storage / "blobs" / self.sha256
        return blob if blob is not None and blob.is_file() else None

    def begun(self, storage: Path) -> Path:
        """Where a download that is not at its end keeps its bytes."""
        return storage / "blobs" / f"{self.sha256}.intarsia.incomplete"

    def missing_bytes(self, snapshot: Path, storage: Path) -> int:
        """How much of it has yet to come."""
        if self.at(snapshot, storage) is not None:
            return 0
        begun = None if self.sha256 is None else self.begun(storage)
        return self.size - (min(begun.stat().st_size, self.size) if begun is not None and begun.is_file() else 0)


def download(file: RemoteFile, repository: str, commit: str, storage: Path) -> None:
    """Put a file into the cache's blobs, from where `snapshot_download` takes it.

    huggingface_hub itself begins a file anew after a stop, which costs gigabytes here.

    Raises:
        FetchError: what came is not what the file must be; it is deleted.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    begun = file.begun(storage)
    begun.parent.mkdir(parents=True, exist_ok=True)
    lock = storage.parent / ".locks" / storage.name / f"{begun.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        blob = begun.with_name(str(file.sha256))
        if blob.is_file():
            return
        with begun.open("ab") as stream:
            if stream.tell() > file.size:
                stream.seek(0)
                stream.truncate()
            # Compressed on the way, a part of a file could not be asked for by its bytes.
            http_get(
                hf_hub_url(repository, file.name, revision=commit),
                stream,
                resume_size=stream.tell(),
                headers=build_hf_headers() | {"Accept-Encoding": "identity"},
                expected_size=file.size,
                displayed_filename=file.name,
            )
        if sha256_of(begun) != file.sha256:
            begun.unlink()
            raise FetchError(
                f"what came as {file.name} of {repository} is corrupt (its sha256 is not {str(file.sha256)[:12]}…) and "
                "was deleted: run the same command again"
            )
        begun.replace(blob)


def sha256_of(path: Path) -> str:
    """Of a file's bytes, as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
