"""What of a model is on this machine: under INTARSIA_MODELS, else in the Hub's cache. Nothing here needs a network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path

from intarsia.backbones.catalog import CatalogEntry, catalog
from intarsia.backbones.errors import BackboneError
from intarsia.backbones.weights import INDEX, layout_of, part_files, parts_of

FOLDER_VARIABLE = "INTARSIA_MODELS"
MAIN = "main"


@dataclass(frozen=True)
class OnDisk:
    """The folder of a model, None where there is none, and what it lacks."""

    folder: Path | None
    lacks: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return self.folder is not None and not self.lacks


def entry_on_disk(entry: CatalogEntry) -> OnDisk:
    """A catalog entry's own folder, whole if there is a whole one; of one with a head, its base's."""
    if entry.kind == "package":
        folder = Path(str(files("intarsia"))) / entry.location
        return _best([folder], entry.needs)
    if entry.inpaint == "four-channel + head":
        base, added = entry_on_disk(catalog[str(entry.base)]), entry_on_disk(catalog["fooocus-inpaint"])
        return OnDisk(base.folder, base.lacks + (added.lacks if added.folder else catalog["fooocus-inpaint"].needs))
    folders = list(_own_folders(entry.name))
    if entry.inpaint == "part" and entry.base is not None:
        folders += _own_folders(entry.base)
    revisions = [revision for revision in (entry.revision, MAIN) if revision is not None]
    folders += [found for revision in revisions if (found := snapshot_of(entry.location, revision)) is not None]
    return _best(folders, entry.needs)


def repository_on_disk(repository: str, revision: str | None) -> OnDisk:
    """A Hub repository's folder; `revision`: a commit, tag or branch, None for the branch main."""
    folders = list(_own_folders(repository)) if revision is None else []
    cached = snapshot_of(repository, revision or MAIN)
    return _best(folders if cached is None else [*folders, cached], ())


def snapshot_of(repository: str, revision: str) -> Path | None:
    """Where the Hub's cache keeps a repository (`models--OWNER--NAME/snapshots/COMMIT`), if it does."""
    storage = storage_of(repository)
    reference = storage / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    folder = storage / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def storage_of(repository: str) -> Path:
    """The folder of a repository in the Hub's cache, whether it is there or not."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def own_folder() -> Path | None:
    """The folder INTARSIA_MODELS, where it is set."""
    text = os.environ.get(FOLDER_VARIABLE)
    return Path(text).expanduser() if text else None


def single_file_of(folder: Path) -> Path | None:
    """The checkpoint of a repository that holds one file instead of a folder per part."""
    found = [] if (folder / INDEX).is_file() else sorted(folder.glob("*.safetensors"))
    return found[0] if len(found) == 1 and found[0].is_file() else None


def lacking(folder: Path, needs: Sequence[str] = ()) -> tuple[str, ...]:
    """What a folder lacks: of `needs`, or of a model in the diffusers layout that loads."""
    if needs:
        return tuple(name for name in needs if not (folder / name).is_file())
    if single_file_of(folder) is not None:
        return ()
    if not (folder / INDEX).is_file():
        return (INDEX,)
    found: list[str] = []
    for part in parts_of(folder):
        found += [] if (folder / part / "config.json").is_file() else [f"{part}/config.json"]
        found += [] if _has_weights(folder, part) else [f"{part}/*.safetensors"]
    layout = layout_of(folder)
    if layout == "difference":
        return tuple(found)
    for part in ("tokenizer",) if layout == "one-tower" else ("tokenizer", "tokenizer_2"):
        if not (folder / part / "tokenizer.json").is_file():
            names = (f"{part}/vocab.json", f"{part}/merges.txt")
            found += [name for name in names if not (folder / name).is_file()]
    settings = "scheduler/scheduler_config.json"
    return (*found, *(() if (folder / settings).is_file() else (settings,)))


def megabytes_of(folder: Path, patterns: Sequence[str] = ()) -> int:
    """How much of a folder's files of these patterns (all where there are none) is on disk, in 10^6 bytes."""
    names = [(path, path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file()]
    wanted = [path for path, name in names if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]
    return round(sum(path.stat().st_size for path in wanted) / 1e6)


def _has_weights(folder: Path, part: str) -> bool:
    try:
        return bool(part_files(folder, part))
    except BackboneError:
        return False


def _own_folders(name: str) -> Iterator[Path]:
    root = own_folder()
    if root is not None and (root / name).is_dir():
        yield root / name


def _best(folders: Sequence[Path], needs: Sequence[str]) -> OnDisk:
    """The first whole one, else the first."""
    found = [OnDisk(folder, lacking(folder, needs)) for folder in folders]
    return next((one for one in found if one.complete), found[0] if found else OnDisk(None))
