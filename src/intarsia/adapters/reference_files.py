"""Weights that show references to a model on disk: a folder of ours, or a stock IP-Adapter-Plus file.

A folder holds `assign.safetensors` and, where the detail branch was trained, `refine.safetensors`, in half precision.
Files that would be too large are numbered parts instead: `refine-00001-of-00002.safetensors`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.adapters.errors import AdapterError, AdapterFileError, AdapterKeyError
from intarsia.adapters.files import encode_tensors, load_lora, make_folder
from intarsia.adapters.ip_adapter_keys import (
    MAX_REFERENCES,
    attention_numbers,
    config_of,
    from_ip_adapter,
    is_ip_adapter,
    require_plus,
)
from intarsia.adapters.keys import require_shapes
from intarsia.backbones import PICKLE_SUFFIXES
from intarsia.errors import OutputError
from intarsia.imaging import write_file_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.adapters.assign import Assign, AssignConfig
    from intarsia.adapters.refine import Refine
    from intarsia.backbones import ImageTower

FORMAT_VERSION = "1"
SHARD_BYTES = 14_500_000
"""Of tensors in one file; with its header a file stays under 15 MB."""

_OUR_FILE = re.compile(r"(assign|refine)(-\d{5}-of-\d{5})?\.safetensors")


@dataclass(frozen=True, eq=False)
class ReferenceAdapters:
    """Assign, Refine (None: not trained), and `hash`, the sha256 over their settings and tensors as in the file.
    `tower`: the image tower that came with them (None: the model's own is meant)."""

    assign: Assign
    refine: Refine | None
    hash: str
    tower: ImageTower | None = None


def save_reference(folder: str | Path, assign: Assign, refine: Refine | None, base_hash: str) -> None:
    """Write both adapters to `folder` in half precision, replacing what was there as a whole.

    The same weights give the same bytes. `base_hash`: `Backbone.hash` of the model that they belong to.

    Raises:
        AdapterFileError: weights that are not finite, or too large for half precision.
        OutputError, DiskFullError: the folder holds other files or cannot be written; what was there stays.
    """
    parts: dict[str, tuple[Any, Mapping[str, Tensor]]] = {"assign": (assign.config, assign.state_dict())}
    if refine is not None:
        parts["refine"] = (refine.config, refine.own_state())
    files: dict[str, bytes] = {}
    for kind, (config, state) in parts.items():
        metadata = {
            "format": "pt",
            "kind": kind,
            "format_version": FORMAT_VERSION,
            "config": json.dumps(asdict(config), sort_keys=True),
            "base": base_hash,
        }
        shards = list(_shards(_halved(kind, state)))
        for number, shard in enumerate(shards, 1):
            part = "" if len(shards) == 1 else f"-{number:05d}-of-{len(shards):05d}"
            files[f"{kind}{part}.safetensors"] = encode_tensors(shard, metadata)
    _replace_folder(Path(folder), files)


def load_reference(path: str | Path, unet: Any, base_hash: str | None = None) -> ReferenceAdapters:
    """Adapters for a U-Net (its device and number format, frozen, not injected) from a folder of ours or a stock
    IP-Adapter-Plus file.

    `base_hash`: `Backbone.hash` of the model at hand; None: not compared. Stock files do not name theirs.

    Raises:
        AdapterFileError: missing, corrupt or incomplete files, numbers that are not finite, another kind of file, or
            weights of another model.
        AdapterKeyError: keys or shapes that do not fit the U-Net; lists all of them.
    """
    path = Path(path)
    if not path.exists():
        raise AdapterFileError(
            f"{path} does not exist: give a folder with assign.safetensors, or an IP-Adapter-Plus .safetensors file"
        )
    if path.is_file() and path.suffix in PICKLE_SUFFIXES:
        raise AdapterFileError(f"{path} is a pickle, which may run code when read: take its .safetensors twin")
    try:
        return _load_folder(path, unet, base_hash) if path.is_dir() else _load_stock(path, unet)
    except AdapterKeyError as error:
        raise AdapterKeyError(f"{path}: {error}") from error


def max_references_of(path: str | Path) -> int | None:
    """How many references the weights in a folder or stock file take, by a header alone; None where none can be read.
    Needs neither torch nor the U-Net."""
    path = Path(path)
    try:
        file = _files_of(path, "assign")[0] if path.is_dir() else path
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                return None
            header = json.loads(stream.read(length))
        if "config" in (header.get("__metadata__") or {}):
            return int(json.loads(header["__metadata__"]["config"])["max_references"])
        return MAX_REFERENCES if is_ip_adapter(header) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def _load_folder(folder: Path, unet: Any, base_hash: str | None) -> ReferenceAdapters:
    import torch

    from intarsia.adapters.assign import AssignConfig
    from intarsia.adapters.refine import Refine, RefineConfig

    if not _files_of(folder, "assign"):
        pickles = [file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLE_SUFFIXES]
        advice = (
            f"{pickles[0]} is a pickle, take its .safetensors twin" if pickles else "train or copy the folder again"
        )
        raise AdapterFileError(f"{folder} has no assign.safetensors: {advice}")
    state, config = _read(folder, "assign", AssignConfig, base_hash)
    digest = hashlib.sha256()
    _add_to_hash(digest, config, state)
    assign = _filled(_empty(config, unet), state, unet)
    if not _files_of(folder, "refine"):
        return ReferenceAdapters(assign, None, digest.hexdigest())
    own, detail_config = _read(folder, "refine", RefineConfig, base_hash)
    _add_to_hash(digest, detail_config, own)
    null_pooled = own.get("null_pooled", assign.resampler.latents.new_zeros(1, 1))
    with torch.random.fork_rng(devices=[]):  # new weights are drawn, and then filled from the file
        refine = Refine.from_unet(unet, detail_config, null_pooled)
    refine.load_own_state(own)
    for parameter in refine.own_parameters():
        parameter.requires_grad_(False)
    return ReferenceAdapters(assign, refine.eval(), digest.hexdigest())


def _load_stock(path: Path, unet: Any) -> ReferenceAdapters:
    state, metadata = load_lora(path)
    if metadata.get("kind") in ("assign", "refine"):
        raise AdapterFileError(f"{path} is one file of a reference model: give the folder that it is in")
    if not is_ip_adapter(state):
        raise AdapterFileError(f"{path} is no IP-Adapter: give an IP-Adapter-Plus file or a folder of ours")
    require_plus(state, str(path))
    config = config_of(state)
    digest = hashlib.sha256()
    _add_to_hash(digest, config, state)
    assign = _empty(config, unet)
    ours = from_ip_adapter(state, assign.state_dict(), attention_numbers(unet))
    return ReferenceAdapters(_filled(assign, ours, unet), None, digest.hexdigest())


def _empty(config: AssignConfig, unet: Any) -> Assign:
    """An Assign for a U-Net without memory for its weights."""
    import torch

    from intarsia.adapters.assign import Assign, layer_widths

    with torch.device("meta"):
        return Assign(config, layer_widths(unet))


def _filled(assign: Assign, state: Mapping[str, Tensor], unet: Any) -> Assign:
    wanted = {key: tuple(value.shape) for key, value in assign.state_dict().items()}
    require_shapes(state, wanted, "the Assign weights", "use those made for this model")
    weight = unet.conv_in.weight
    placed = {key: value.to(weight.device, weight.dtype).contiguous() for key, value in state.items()}
    assign.load_state_dict(placed, assign=True)
    return assign.requires_grad_(False).eval()


def _read(folder: Path, kind: str, config_class: Any, base_hash: str | None) -> tuple[dict[str, Tensor], Any]:
    """The tensors of all of a kind's files, and its settings."""
    state: dict[str, Tensor] = {}
    metadata: dict[str, str] | None = None
    for file in _files_of(folder, kind):
        tensors, found = load_lora(file)
        if metadata not in (None, found):
            raise AdapterFileError(f"{file} belongs to another saving than its neighbours: copy the folder again")
        state, metadata = state | tensors, found
    assert metadata is not None
    if metadata.get("kind") != kind or metadata.get("format_version") != FORMAT_VERSION:
        raise AdapterFileError(
            f"{folder / kind}.safetensors is of kind {metadata.get('kind')!r}, version "
            f"{metadata.get('format_version')!r}, not {kind!r}, {FORMAT_VERSION!r}: use weights of this version"
        )
    if base_hash is not None and metadata.get("base") != base_hash:
        raise AdapterFileError(
            f"{folder / kind}.safetensors was made for another model (weights {str(metadata.get('base'))[:12]}…, not "
            f"{base_hash[:12]}…): use the reference weights of this model"
        )
    try:
        return state, config_class(**json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        reason = f" ({error})" if isinstance(error, AdapterError) else ""
        raise AdapterFileError(
            f"{folder / kind}.safetensors has settings that cannot be read{reason}: copy the folder again"
        ) from error


def _files_of(folder: Path, kind: str) -> list[Path]:
    """The one file of a kind, or all of its numbered parts; [] where there are none.

    Raises:
        AdapterFileError: parts are missing, or of two savings.
    """
    found = sorted(f for f in folder.glob(f"{kind}*.safetensors") if _OUR_FILE.fullmatch(f.name))
    if found in ([], [folder / f"{kind}.safetensors"]):
        return found
    count = int(found[-1].stem.rpartition("-")[2]) if "-of-" in found[-1].name else len(found)
    wanted = [folder / f"{kind}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    if found != wanted:
        names = ", ".join(file.name for file in sorted(set(found) ^ set(wanted)))
        raise AdapterFileError(f"the numbered parts of {kind} in {folder} do not fit together ({names}): copy it again")
    return found


def _halved(kind: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    halves = {key: value.detach().cpu().half() for key, value in state.items()}
    broken = sorted(key for key, value in halves.items() if not value.isfinite().all())
    if broken:
        raise AdapterFileError(
            f"{kind} holds numbers that are not finite in half precision in {', '.join(broken)}: train it again"
        )
    return halves


def _shards(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for key in sorted(state):
        if shard and size + state[key].nbytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[key] = state[key]
        size += state[key].nbytes
    yield shard


def _replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with these files in place, once all of them are written."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is not a folder: choose another place")
    strangers = [f.name for f in sorted(folder.iterdir()) if not _OUR_FILE.fullmatch(f.name)] if folder.exists() else []
    if strangers:
        raise OutputError(f"{folder} holds other files ({strangers[0]}): choose a folder for these weights alone")
    token = secrets.token_hex(6)
    new, old = (folder.with_name(f".{folder.name}-{token}.{end}") for end in ("part", "old"))
    make_folder(new)
    try:
        for name, content in files.items():
            write_file_atomically(new / name, content)
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    except OSError as error:
        if old.exists():
            with contextlib.suppress(OSError):
                old.replace(folder)
        raise OutputError(f"{folder} cannot be replaced ({error.strerror}): choose another place") from error
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def _add_to_hash(digest: Any, config: Any, state: Mapping[str, Tensor]) -> None:
    import torch

    digest.update(json.dumps(asdict(config), sort_keys=True).encode())
    for key, value in sorted(state.items()):
        digest.update(f"\0{key} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
