"""Adapter weights on disk: safetensors with string metadata, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.adapters.errors import AdapterFileError
from intarsia.errors import OutputError
from intarsia.imaging import write_file_atomically

if TYPE_CHECKING:
    from torch import Tensor


def save_lora(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write `state` (diffusers keys) and `metadata` to `path`, replacing it in one step.

    The bytes are those of sorted keys, so the same state and metadata give the same file.

    Raises:
        AdapterFileError: metadata that is not text -> text, or an empty state.
        DiskFullError, OutputError: the file cannot be written; nothing half-written stays behind.
    """
    path = Path(path)
    if not state:
        raise AdapterFileError(f"nothing to write to {path}: the adapter has no weights")
    content = encode_tensors(state, metadata)
    make_folder(path.parent)
    write_file_atomically(path, content, overwrite=True)


def encode_tensors(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file with sorted keys: the same state and metadata give the same bytes.

    Raises:
        AdapterFileError: metadata that is not text -> text.
    """
    from safetensors.torch import save

    wrong = [
        str(key) for key, value in metadata.items() if not (isinstance(key, str) and isinstance(value, str))
    ]
    if wrong:
        raise AdapterFileError(
            f"metadata {', '.join(wrong)} is not text: turn every value into a string first"
        )
    tensors = {key: state[key].detach().cpu().contiguous() for key in sorted(state)}
    return _header_in_order(save(tensors, metadata=dict(sorted(metadata.items()))))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; OutputError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}): choose another place") from error


def _header_in_order(content: bytes) -> bytes:
    """The same safetensors file with its header's keys sorted; the library writes metadata in random order."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def load_lora(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read (state with the file's own keys, metadata).

    Raises:
        AdapterFileError: no such file, not safetensors, cut short, or numbers that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise AdapterFileError(f"{path} is not a file: give a .safetensors file of adapter weights")
    try:
        with safe_open(str(path), framework="pt") as stream:
            state = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 (not a dict)
            metadata = dict(stream.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise AdapterFileError(
            f"{path} is corrupt or not a safetensors file: save or download it again"
        ) from error
    require_finite(state, str(path))
    return state, metadata


def read_metadata(path: str | Path) -> dict[str, str]:
    """A safetensors file's metadata; neither its numbers are read, nor is torch needed.

    Raises:
        AdapterFileError: no such file, or not safetensors.
    """
    return _read_header(Path(path))[1]


def read_names(path: str | Path) -> list[str]:
    """The names of a safetensors file's tensors, read and refused as `read_metadata` does."""
    return _read_header(Path(path))[0]


def _read_header(path: Path) -> tuple[list[str], dict[str, str]]:
    if not path.is_file():
        raise AdapterFileError(f"{path} is not a file: give a .safetensors file of adapter weights")
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= path.stat().st_size - 8:
                raise ValueError("no header")
            header = dict(json.loads(stream.read(length).decode("utf-8")))
        metadata = {str(key): str(value) for key, value in dict(header.pop("__metadata__", {})).items()}
        return sorted(header), metadata
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise AdapterFileError(
            f"{path} is corrupt or not a safetensors file: save or download it again"
        ) from error


def require_finite(state: Mapping[str, Tensor], name: str) -> None:
    """Raise `AdapterFileError` naming every tensor with NaN or infinity in it."""
    broken = sorted(
        key
        for key, value in state.items()
        if value.is_floating_point()
        and not (value.float() if value.dtype.itemsize == 1 else value).isfinite().all()
    )
    if broken:
        raise AdapterFileError(
            f"{name} holds numbers that are not finite in {', '.join(broken)}: train it again"
        )
