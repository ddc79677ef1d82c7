"""Loading helper models and their processors through transformers, from this machine alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intarsia.backbones import catalog, check_licence, entry_of, locate_part, repository_on_disk, split_repository
from intarsia.perception.errors import HelperError

_CONFIG = "config.json"
_PACKAGE = re.compile(r"requires the (\w+) library|[Pp]ackage `([\w-]+)`|No module named '(\w+)'")


def load_parts(kind: str, model: str, device: str, model_class: Any, *others: Any) -> tuple[tuple[Any, ...], str]:
    """((model, processors …), name with revision) of a name of the catalog, a folder, or a name at the model hub,
    possibly NAME@REVISION, that was fetched before; nothing is downloaded, no code of the folder's is run, and no
    pickle is opened.

    Raises:
        HelperError: not there, not fetched, of another kind, without some of its weights, or a package that it needs
            is missing.
        LicenceError: the policy in force refuses it. MissingWeightsError: of the catalog, but not fetched.
    """
    folder, name = _folder_of(kind, model)
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quietly():
            # The processors are small, and what they need may be missing: they go first.
            processors = [other.from_pretrained(str(folder), **options) for other in others]
            loaded, info = model_class.from_pretrained(
                str(folder), use_safetensors=True, output_loading_info=True, **options
            )
            _check_whole(kind, model, info)
            loaded = loaded.to(device).eval().requires_grad_(False)
    except (HelperError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if package := _package_missing(error):
            raise HelperError(
                f"the {kind} {model!r} needs the package {package}, which is not installed (often for a processor of "
                f"videos, which is loaded with that of pictures): `pip install {package}`, or use another model"
            ) from error
        raise HelperError(f"the {kind} {model!r} cannot be loaded ({_reason(error)}): {_advice(model)}") from error
    commit = folder.name if folder.parent.name == "snapshots" and name != folder.name else ""
    return (loaded, *processors), f"{kind}:{name}" + (f"@{commit[:12]}" if commit else "")


def check_there(kind: str, model: str) -> None:
    """That `load_parts` finds a model's files; none is opened. Raises as that does."""
    _folder_of(kind, model)


def _folder_of(kind: str, model: str) -> tuple[Path, str]:
    """Where its files are, and its name; the catalog's names come before folders of the same name."""
    if model in catalog:
        return locate_part(model), model
    folder = Path(model).expanduser()
    if folder.is_dir():
        check_licence(model, None)
        if not (folder / _CONFIG).is_file():
            raise HelperError(f"the {kind} {model!r} cannot be loaded (no {_CONFIG} is in it): {_advice(model)}")
        return folder, folder.resolve().name
    split = split_repository(model)
    if split is None or folder.is_file():
        raise HelperError(
            f"the {kind} {model!r} cannot be loaded (there is no such folder): give a folder, a name of "
            "`intarsia models`, or OWNER/NAME of the model hub"
        )
    check_licence(model, entry_of(model))
    found = repository_on_disk(*split).folder
    if found is None or not (found / _CONFIG).is_file():
        raise HelperError(
            f"the {kind} {model!r} cannot be loaded (it is not on this machine, nor is there such a folder): fetch it "
            f"by `{_fetching(model)}`"
        )
    return found, split[0]


def _check_whole(kind: str, model: str, info: dict[str, Any]) -> None:
    """What a model ties or ignores is not in transformers' report; what is there would be random numbers."""
    wrong = [
        f"{label} {', '.join(sorted(str(key[0] if isinstance(key, tuple) else key) for key in info[which])[:3])}"
        for which, label in (("missing_keys", "missing"), ("mismatched_keys", "of another shape"))
        if info.get(which)
    ]
    if wrong:
        raise HelperError(
            f"the weights of the {kind} {model!r} do not fit its class ({'; '.join(wrong)}): {_advice(model)}"
        )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "trust_remote_code" in text:
        return "it brings code of its own, which is not run"
    return text[:200]


def _package_missing(error: Exception) -> str | None:
    """What transformers says is not installed, as pip calls it."""
    found = _PACKAGE.search(str(error)) if isinstance(error, ImportError) else None
    return None if found is None else next(name for name in found.groups() if name).lower()


def _advice(model: str) -> str:
    if model in catalog or not Path(model).expanduser().is_dir():
        return f"complete it by `{_fetching(model)}`, or use another model"
    return f"give a folder in transformers' layout with {_CONFIG} and .safetensors weights of such a model"


def _fetching(model: str) -> str:
    return f"intarsia models fetch {model}"


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' bars and remarks; they come back as they were."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
