"""Fetching a model's files from the Hub into its cache. Nothing else in the package downloads anything."""

from __future__ import annotations

import glob
import logging
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from intarsia.backbones.catalog import CatalogEntry, catalog
from intarsia.backbones.downloads import RemoteFile, download, sha256_of
from intarsia.backbones.errors import FetchError, UnknownModelError
from intarsia.backbones.known_models import FOOOCUS, check_takes_fooocus, entry_of, split_repository
from intarsia.backbones.licences import check_licence
from intarsia.backbones.on_disk import FOLDER_VARIABLE, MAIN, lacking, storage_of
from intarsia.backbones.weights import INDEX, WEIGHT_STEMS

_ROOM = 1.01
"""Of the bytes to come so many must be free."""
_STEMS = frozenset(WEIGHT_STEMS.values())
_FLAT = (".json", ".txt", ".safetensors", ".jinja", "tokenizer.model")
"""How the files end that transformers reads, chat templates and tokenizers among them."""
_WEIGHTS = re.compile(r"(?P<stem>[^.]+?)(?:-\d{5}-of-\d{5})?(?P<variant>(?:\.\w+)*?)(?:-\d{5}-of-\d{5})?")


@dataclass(frozen=True)
class Fetched:
    """What is on disk now: the model's folder, its files' number and bytes, and how many of them were hashed."""

    name: str
    folder: Path
    files: int
    bytes: int
    checked: int


@dataclass(frozen=True)
class _Source:
    """One repository's share of a model."""

    name: str
    repository: str
    revision: str
    files: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)


def fetch_model(
    name: str, *, revision: str | None = None, say: Callable[[str], None] | None = None, bars: bool = False
) -> tuple[Fetched, ...]:
    """Download what a model needs, but for what is there already: a catalog entry, OWNER/NAME[@REVISION], or either
    with "+fooocus". A part of a file that was stopped is gone on with.

    Every file whose sha256 is known, here or at the Hub, is checked against it, what was there before as well. Nothing
    of a wrong one is kept.

    Args:
        revision: a commit, tag or branch instead of the catalog's.
        say: called with what is being done, a line each.
        bars: progress bars on stderr.

    Raises:
        UnknownModelError: no such name. BackboneError: Fooocus' files do not fit it.
        LicenceError: the policy in force refuses it.
        FetchError: offline, nothing there, no room, or another file than it must be.
    """
    sources = _sources_of(name, revision)
    for source in sources:
        check_licence(source.name, entry_of(source.name))
    from huggingface_hub import constants

    if sources and constants.HF_HUB_OFFLINE:
        raise FetchError(
            f"{name!r} cannot be fetched while HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: unset it, or copy the "
            f"model's folder from another machine to ${FOLDER_VARIABLE}/{sources[0].name}"
        )
    with _bars(bars):
        return tuple(_fetch(source, say or (lambda line: None)) for source in sources)


def _sources_of(name: str, revision: str | None) -> list[_Source]:
    """Where a model's files come from, in the order of fetching; nothing for one of the package's own."""
    if name.endswith(FOOOCUS):
        base = name.removesuffix(FOOOCUS)
        check_takes_fooocus(base)
        return _sources_of(base, revision) + _sources_of("fooocus-inpaint", None)
    entry = catalog.get(name)
    if entry is not None and entry.inpaint == "four-channel + head":
        return _sources_of(f"{entry.base}{FOOOCUS}", revision)
    if entry is not None:
        return [] if entry.kind == "package" else [_source_of(entry, revision)]
    split = split_repository(name)
    if split is None or Path(name).exists():
        known = ", ".join(name for name, entry in catalog.items() if entry.kind == "hub")
        raise UnknownModelError(f"{name!r} cannot be fetched: use one of {known}, or OWNER/NAME on the Hub")
    return [_Source(name, split[0], revision or split[1] or MAIN)]


def _source_of(entry: CatalogEntry, revision: str | None) -> _Source:
    known = entry.revision or MAIN
    # Another revision holds other files, about which the catalog knows nothing.
    hashes = entry.sha256 if revision in (None, known) else {}
    return _Source(entry.name, entry.location, revision or known, entry.files, entry.needs, hashes)


def _fetch(source: _Source, say: Callable[[str], None]) -> Fetched:
    from huggingface_hub import snapshot_download

    storage = storage_of(source.repository)
    with _explained(source):
        commit, listing = _listing(source)
    names, needs = _choose(source, listing)
    chosen = [listing[name] for name in names]
    snapshot = storage / "snapshots" / commit
    _drop_wrong(chosen, snapshot, storage, say)
    coming = {file.name: count for file in chosen if (count := file.missing_bytes(snapshot, storage))}
    _check_room(source, sum(coming.values()), storage)
    if coming:
        say(
            f"fetching {source.name}: {_size(sum(coming.values()))} of {_size(sum(file.size for file in chosen))} from "
            f"{source.repository} at {commit[:12]}; if it is stopped, the same command goes on"
        )
    with _explained(source):
        for file in chosen:
            if file.sha256 is not None and file.name in coming:
                say(f"  {file.name}, {_size(coming[file.name])}")
                download(file, source.repository, commit, storage)
        exact = [glob.escape(name) for name in names]
        folder = Path(snapshot_download(source.repository, revision=source.revision, allow_patterns=exact))
    lacks = [name for name in names if not (folder / name).is_file()] or list(lacking(folder, needs))
    if folder.name != commit or lacks:
        reason = f"{', '.join(lacks[:3])} missing" if lacks else "it changed meanwhile"
        raise FetchError(
            f"{source.repository} is incomplete at {source.revision!r} ({reason}): run the same command again, or try "
            "another --revision"
        )
    checked = sum(file.sha256 is not None for file in chosen)
    return Fetched(source.name, folder, len(names), sum(file.size for file in chosen), checked)


def _listing(source: _Source) -> tuple[str, dict[str, RemoteFile]]:
    """The commit, and its files by name."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(source.repository, revision=source.revision, files_metadata=True)
    found: dict[str, RemoteFile] = {}
    for file in info.siblings or []:
        told = None if file.lfs is None else file.lfs.sha256
        known = source.sha256.get(file.rfilename)
        if None not in (told, known) and told != known:
            raise FetchError(
                f"{source.repository} holds another {file.rfilename} (sha256 {str(told)[:12]}…) than the known one "
                f"({str(known)[:12]}…): nothing was fetched; say by --revision which one you trust"
            )
        found[file.rfilename] = RemoteFile(file.rfilename, file.size or 0, known or told)
    return str(info.sha), found


def _choose(source: _Source, names: Collection[str]) -> tuple[list[str], tuple[str, ...]]:
    """What to fetch of a repository's files, and what of it must be there in the end (nothing said: a whole model)."""
    patterns, needs = source.files, source.needs
    root = [name for name in names if "/" not in name]
    if patterns:
        wanted = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    elif INDEX in names:
        suffixes = (".json", ".txt", ".safetensors")
        wanted = [INDEX, *(n for n in names if "/" in n and n.endswith(suffixes) and n[:15] != "safety_checker/")]
    elif "config.json" in root:
        wanted = [name for name in root if name.endswith(_FLAT)]
        needs = ("config.json",)
    else:
        wanted = [name for name in root if name.endswith(".safetensors")]
        if len(wanted) > 1:
            raise FetchError(
                f"{source.repository} holds {len(wanted)} checkpoints ({', '.join(wanted[:3])}…): download the one you "
                "want and give its path"
            )
    chosen = _half_precision(wanted)
    if not chosen or (not needs and not any(name.endswith(".safetensors") for name in chosen)):
        raise FetchError(
            f"{source.repository} has no safetensors weights of a model at {source.revision!r}, and pickles are not "
            "loaded: use another repository or --revision"
        )
    return chosen, needs


def _half_precision(names: Iterable[str]) -> list[str]:
    """Without the weights, and their indices, of other precisions or for training: of each folder the half ones, else
    the plain ones."""
    variants = {name: _variant(name) for name in names}
    halves = {name.rpartition("/")[0] for name, variant in variants.items() if variant == "fp16"}
    return [
        name
        for name, variant in variants.items()
        if variant is None or variant == ("fp16" if name.rpartition("/")[0] in halves else "")
    ]


def _variant(name: str) -> str | None:
    """Like "fp16" or "non_ema", "" for plain weights; None for a file of no known part's weights."""
    match = re.fullmatch(r"(.+)\.safetensors(?:\.index(?:\.(\w+))?\.json)?", name.rpartition("/")[2])
    parts = None if match is None else _WEIGHTS.fullmatch(match[1])
    if match is None or parts is None or parts["stem"] not in _STEMS:
        return None
    return match[2] or parts["variant"].removeprefix(".")


def _drop_wrong(chosen: Iterable[RemoteFile], snapshot: Path, storage: Path, say: Callable[[str], None]) -> None:
    """Delete what the cache holds of other bytes than it must, so that it is fetched again."""
    there = {file: path for file in chosen if file.sha256 and (path := file.at(snapshot, storage)) is not None}
    if there:
        say(f"checking {_size(sum(file.size for file in there))} on disk")
    for file, path in there.items():
        if sha256_of(path) != file.sha256:
            say(f"  {file.name} on disk is corrupt (another sha256) and was deleted")
            for one in (path, snapshot / file.name):
                one.unlink(missing_ok=True)


def _check_room(source: _Source, coming: int, storage: Path) -> None:
    place = next(folder for folder in storage.parents if folder.is_dir())
    free = shutil.disk_usage(place).free
    if coming * _ROOM > free:
        raise FetchError(
            f"{source.name!r} needs {_size(coming)} more under {storage.parent}, where {_size(free)} are free: make "
            "room, or set HF_HUB_CACHE to a folder on another disk"
        )


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e8 else f"{count / 1e9:,.2f} GB"


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """With or without the Hub library's progress bars and its own remarks; they come back as they were."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before, hidden = get_verbosity(), are_progress_bars_disabled()
    set_verbosity(logging.ERROR)
    if not shown:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(before)
        if not hidden:
            enable_progress_bars()


@contextmanager
def _explained(source: _Source) -> Iterator[None]:
    """What goes wrong on the way, as one line that says what to do."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    where = source.repository
    try:
        yield
    except FetchError:
        raise
    except RevisionNotFoundError as error:
        raise FetchError(f"{where} has no revision {source.revision!r}: give another --revision, or none") from error
    except GatedRepoError as error:
        raise FetchError(f"{where} wants its terms accepted: do that on its page, then `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise FetchError(f"no {where} is on the Hub, or it is private: check the name, or `hf auth login`") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise FetchError(f"the Hub answered {status} for {where}: run the same command later; it goes on") from error
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise FetchError(
            f"{where} could not be fetched ({reason}): check the network and the disk, then run the same command; it "
            "goes on where it was"
        ) from error
