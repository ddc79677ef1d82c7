"""From what a user calls a model to its files, on this machine alone unless a download is asked for."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from intarsia.backbones.catalog import CatalogEntry, catalog
from intarsia.backbones.errors import BackboneError, MissingWeightsError, UnknownModelError
from intarsia.backbones.licences import check_licence
from intarsia.backbones.on_disk import (
    OnDisk,
    entry_on_disk,
    own_folder,
    repository_on_disk,
    single_file_of,
)
from intarsia.backbones.pickles import PICKLE_SUFFIXES
from intarsia.backbones.weights import INDEX, model_hash, parts_of

FOOOCUS = "+fooocus"
_HEAD, _PATCH = "fooocus_inpaint_head.pth", "inpaint_v26.fooocus.patch"
_REPOSITORY = re.compile(r"(?P<repository>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?")
_UNET = "model.diffusion_model."
_SDXL = ("conditioner.embedders", f"{_UNET}label_emb")


@dataclass(frozen=True)
class ModelFiles:
    """`path`: a folder in the diffusers layout, or one .safetensors file, which also needs `parts`: a folder in that
    layout with settings and tokenizers. `head` and `patch`: Fooocus'.

    `name`: in the catalog or on the Hub, else that of the folder or file. `address`: what `locate_model` finds the same
    files by ("": the path). `entry`: what the catalog knows of them.
    """

    name: str
    path: Path
    parts: Path | None = None
    head: Path | None = None
    patch: Path | None = None
    address: str = ""
    entry: CatalogEntry | None = None

    @property
    def other_weights(self) -> tuple[Path, ...]:
        """Files of weights besides those at `path`."""
        return tuple(path for path in (self.head, self.patch) if path is not None)

    @property
    def has_image_encoder(self) -> bool:
        """Whether an image encoder is loaded from them."""
        return self.parts is None and "image_encoder" in parts_of(self.path)

    @property
    def hash(self) -> str:
        """`Backbone.hash` of what is loaded from them. Raises BackboneError where weights are missing."""
        return model_hash(self.path, self.other_weights)


def locate_model(name: str | Path, *, download: bool = False, beside: Path | None = None) -> ModelFiles:
    """The files of a model: a name of the catalog, the path of a folder or .safetensors file (also looked for in
    `beside`), a name in the folder INTARSIA_MODELS, or OWNER/NAME on the Hub, perhaps with @REVISION; with "+fooocus"
    behind, any four-channel SDXL gets Fooocus' head and patch.

    Raises:
        UnknownModelError: none of these. LicenceError: the policy in force refuses it.
        MissingWeightsError: known, but not, or not wholly, on this machine (and `download` is off).
        FetchError: `download` is on and it cannot be fetched. BackboneError: a file that cannot be used.
    """
    text = str(name)
    if text in catalog:
        return _from_catalog(catalog[text], download)
    if text.endswith(FOOOCUS) and not Path(text).exists():
        return _with_fooocus(text.removesuffix(FOOOCUS), download, beside)
    for path, address in _paths_of(text, beside) if text else ():
        if path.is_dir():
            check_licence(text, None)
            return ModelFiles(path.resolve().name, path, address=address)
        if path.is_file():
            check_licence(text, None)
            return replace(_from_file(path.stem, path, download), address=address)
    split = split_repository(text)
    if split is None or Path(text).suffix in (".safetensors", *PICKLE_SUFFIXES):
        raise UnknownModelError(
            f"unknown model {text!r}: use one of {', '.join(sorted(_models()))}, a folder, a .safetensors file, or "
            "OWNER/NAME on the Hugging Face Hub"
        )
    return _from_hub(text, *split, download)


def locate_part(name: str, *, download: bool = False) -> Path:
    """The folder of any catalog entry, of one that is no model alone as well.

    Raises:
        UnknownModelError: not in the catalog. LicenceError, MissingWeightsError, FetchError: see `locate_model`.
    """
    if name not in catalog:
        raise UnknownModelError(f"unknown part {name!r}: use one of {', '.join(sorted(catalog))}")
    entry = catalog[name]
    check_licence(name, entry)
    if entry.kind == "package" and not entry_on_disk(entry).complete:
        raise MissingWeightsError(
            f"the weights of {name!r} are not part of this installation: reinstall the package, or train them"
        )
    return _whole(name, entry.location, lambda: entry_on_disk(entry), download)


def find_model(
    name_or_folder: str | Path, *, download: bool = False, beside: Path | None = None
) -> tuple[str, Path]:
    """Name and path of a model; raises as `locate_model` does."""
    files = locate_model(name_or_folder, download=download, beside=beside)
    return files.name, files.path


def split_repository(text: str) -> tuple[str, str | None] | None:
    """OWNER/NAME and its revision, if that is what a text names."""
    match = _REPOSITORY.fullmatch(text)
    return None if match is None or ".." in text else (match["repository"], match["revision"])


def check_takes_fooocus(name: str) -> None:
    """That a catalog entry is one that Fooocus' files fit; of other models loading tells. Raises BackboneError."""
    entry = catalog.get(name)
    if entry is not None and (entry.inpaint != "four-channel" or entry.time_ids != "sdxl"):
        raise BackboneError(
            f"{name!r} cannot take Fooocus' head and patch: they are made for a four-channel SDXL, like sdxl"
        )


def entry_of(name: str) -> CatalogEntry | None:
    """The catalog's entry of this name, or of this repository on the Hub."""
    split = split_repository(name)
    found = (entry for entry in catalog.values() if split is not None and entry.location == split[0])
    return catalog.get(name) or next(found, None)


def _has_head(name: str) -> bool:
    return name in catalog and catalog[name].inpaint == "four-channel + head"


def _models() -> list[str]:
    return [entry.name for entry in catalog.values() if entry.inpaint != "part"]


def _paths_of(text: str, beside: Path | None) -> list[tuple[Path, str]]:
    """Where a text may lead, and the address to keep: a path such that it cannot be taken for a name, or a name in
    INTARSIA_MODELS as it is, which is found on other machines as well."""
    given = Path(text).expanduser()
    plain = str(given) if given.is_absolute() or given.parts[:1] == ("..",) else f"./{given}"
    found = [(given, plain)]
    if beside is not None and not given.is_absolute():
        found.append((beside / given, str((beside / given).absolute())))
    root = own_folder()
    if root is not None and not text.startswith((".", "/", "~")):
        found += [(root / text, text), (root / f"{text}.safetensors", text)]
    return found


def _from_catalog(entry: CatalogEntry, download: bool) -> ModelFiles:
    if entry.inpaint == "part":
        raise UnknownModelError(
            f"{entry.name!r} is no model alone ({entry.description.rstrip('.')}): use one of {', '.join(_models())}"
        )
    check_licence(entry.name, entry)
    if _has_head(entry.name):
        files = _with_fooocus(str(entry.base), download)
        return replace(files, name=entry.name, address=entry.name, entry=entry)
    path = locate_part(entry.name, download=download)
    return ModelFiles(entry.name, path, address=entry.name, entry=entry)


def _with_fooocus(name: str, download: bool, beside: Path | None = None) -> ModelFiles:
    check_takes_fooocus(name)
    files = locate_model(name, download=download, beside=beside)
    _check_shape(files)
    folder = locate_part("fooocus-inpaint", download=download)
    files = replace(files, head=folder / _HEAD, patch=folder / _PATCH)
    # Only what came from the catalog is what another entry of the catalog stands on.
    alias = next((one for one in catalog.values() if _has_head(one.name) and one.base == files.address), None)
    if alias is not None:
        return replace(files, name=alias.name, address=alias.name, entry=alias)
    return replace(files, name=f"{files.name}{FOOOCUS}", address=f"{files.address}{FOOOCUS}")


def _check_shape(files: ModelFiles) -> None:
    """That the U-Net can be what Fooocus' files were made for, from its settings alone. Raises BackboneError."""
    channels: object = None
    if files.path.is_file():
        shapes = safetensors_shapes(files.path)
        first = shapes.get(f"{_UNET}input_blocks.0.0.weight", ())
        channels, sdxl = (first[1] if len(first) == 4 else None), any(key.startswith(_SDXL) for key in shapes)
    else:
        try:
            config = json.loads((files.path / "unet" / "config.json").read_text(encoding="utf-8"))
            channels, sdxl = config.get("in_channels"), config.get("addition_embed_type") == "text_time"
        except (OSError, ValueError, AttributeError):
            sdxl = False
    if channels != 4 or not sdxl:
        kind = f"a U-Net of {channels} channels{' without' if not sdxl else ' with'} SDXL's size conditioning"
        raise BackboneError(
            f"{files.path} is {kind}: Fooocus' head and patch are made for a four-channel SDXL, use one or leave "
            f"out {FOOOCUS}"
        )


def _from_file(name: str, path: Path, download: bool) -> ModelFiles:
    if path.suffix in PICKLE_SUFFIXES:
        raise BackboneError(
            f"{path} is a pickle, which may run code when it is opened: use the same model's .safetensors file"
        )
    if path.suffix != ".safetensors":
        raise UnknownModelError(f"{path} is no model: give a folder in the diffusers layout or a .safetensors file")
    keys = safetensors_shapes(path)
    if not any(key.startswith(_UNET) for key in keys):
        raise BackboneError(
            f"{path} holds no whole checkpoint ({_UNET}… is not in it): a LoRA is no model but is used with one"
        )
    beside = path.with_suffix("")
    if (beside / INDEX).is_file():
        return ModelFiles(name, path, beside)
    parts = "sdxl-parts" if any(key.startswith(_SDXL) for key in keys) else "sd15-parts"
    return ModelFiles(name, path, locate_part(parts, download=download))


def _from_hub(text: str, repository: str, revision: str | None, download: bool) -> ModelFiles:
    check_licence(text, entry_of(text))
    folder = _whole(text, repository, lambda: repository_on_disk(repository, revision), download)
    single = single_file_of(folder)
    files = ModelFiles(text, folder) if single is None else _from_file(text, single, download)
    return replace(files, address=text, entry=entry_of(text))


def _whole(name: str, location: str, look: Callable[[], OnDisk], download: bool) -> Path:
    """The folder that `look` finds, if it is whole, else after a download."""
    found = look()
    if download and not found.complete:
        from intarsia.backbones.fetching import fetch_model

        fetch_model(name)
        found = look()
    if found.folder is not None and found.complete:
        return found.folder
    command = f"`intarsia models fetch {name}`"
    if found.folder is None:
        also = " (nor is there such a folder)" if name == location else f" ({location})"
        raise MissingWeightsError(f"the weights of {name!r}{also} are not on this machine: fetch them by {command}")
    more = f" and {len(found.lacks) - 2} more" if len(found.lacks) > 2 else ""
    raise MissingWeightsError(
        f"the weights of {name!r} in {found.folder} are incomplete, without {', '.join(found.lacks[:2])}{more}: "
        f"complete them by {command}"
    )


def safetensors_shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
    """The names and shapes of the tensors in a file, from its header; the file must be as long as the header says.

    Raises:
        BackboneError: not safetensors, or cut short.
    """
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > path.stat().st_size:
                raise ValueError
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        if end != path.stat().st_size:
            raise ValueError
        return {name: tuple(tensor["shape"]) for name, tensor in header.items()}
    except (OSError, ValueError, struct.error, TypeError, KeyError, AttributeError) as error:
        raise BackboneError(f"{path} is not a whole safetensors file: copy or download it again") from error
