"""Loading helper models and their processors through transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intarsia.perception.errors import HelperError


def load_parts(kind: str, model: str, device: str, model_class: Any, *others: Any) -> tuple[tuple[Any, ...], str]:
    """((model, processors …), name with revision) of a folder or of a name at the model hub, possibly NAME@REVISION.

    Raises:
        HelperError: not there, not downloaded, of another kind, or a package that it needs is missing.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    where, _, revision = (model, "", "") if Path(model).is_dir() else model.partition("@")
    options = {"revision": revision} if revision else {}
    try:
        loaded = model_class.from_pretrained(where, **options).to(device).eval().requires_grad_(False)
        processors = [other.from_pretrained(where, **options) for other in others]
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise HelperError(
            f"the {kind} {model!r} cannot be loaded ({reason}): give a folder or a name at the model hub"
        ) from error
    commit = getattr(loaded.config, "_commit_hash", None) or revision
    name = Path(where).name if Path(where).is_dir() else where
    return (loaded, *processors), f"{kind}:{name}" + (f"@{commit[:12]}" if commit else "")
