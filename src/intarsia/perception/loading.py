"""Loading helper models and their processors through transformers, from this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intarsia.backbones import catalog, check_licence, entry_of, locate_part
from intarsia.perception.errors import HelperError


def load_parts(kind: str, model: str, device: str, model_class: Any, *others: Any) -> tuple[tuple[Any, ...], str]:
    """((model, processors …), name with revision) of a folder, a name of the catalog, or a name at the model hub,
    possibly NAME@REVISION, that was fetched before; nothing is downloaded.

    Raises:
        HelperError: not there, not fetched, of another kind, or a package that it needs is missing.
        LicenceError: the policy in force refuses it. MissingWeightsError: of the catalog, but not fetched.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    where, revision = _place_of(model)
    options: dict[str, Any] = {"local_files_only": True, **({"revision": revision} if revision else {})}
    try:
        loaded = model_class.from_pretrained(where, **options).to(device).eval().requires_grad_(False)
        processors = [other.from_pretrained(where, **options) for other in others]
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise HelperError(
            f"the {kind} {model!r} cannot be loaded ({reason}): give a folder or a name at the model hub that "
            f"`intarsia models fetch` has fetched"
        ) from error
    commit = getattr(loaded.config, "_commit_hash", None) or revision
    name = model if model in catalog or not Path(where).is_dir() else Path(where).name
    return (loaded, *processors), f"{kind}:{name.partition('@')[0]}" + (f"@{commit[:12]}" if commit else "")


def _place_of(model: str) -> tuple[str, str | None]:
    """What transformers knows it by, and its revision."""
    if Path(model).is_dir():
        check_licence(model, None)
        return model, None
    if model in catalog:
        folder = locate_part(model)
        return str(folder), folder.name if folder.parent.name == "snapshots" else None
    where, _, revision = model.partition("@")
    check_licence(model, entry_of(where))
    return where, revision or None
