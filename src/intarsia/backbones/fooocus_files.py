"""Fooocus' files: which are known, and how pickles are read without running what they say."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from intarsia.backbones.errors import BackboneError


@dataclass(frozen=True)
class KnownFile:
    """A published file: `bytes` long, with this `sha256`."""

    sha256: str
    bytes: int


FOOOCUS_FILES: Mapping[str, KnownFile] = MappingProxyType(
    {
        "fooocus_inpaint_head.pth": KnownFile(
            "32f7f838e0c6d8f13437ba8411e77a4688d77a2e34df8857e4ef4d51f6b97692", 52_602
        ),
        "inpaint_v26.fooocus.patch": KnownFile(
            "f8657a025104e22d70f9c060635d8e8c2196f433871a2f68dc40abd2171f0d59", 1_323_362_033
        ),
    }
)
"""Read-only: name in the repository -> what it must be. Hugging Face Hub, lllyasviel/fooocus_inpaint, under
OpenRAIL."""


def load_tensors(path: Path) -> dict[str, Any]:
    """A file of named tensors (or tuples of them), on the CPU; a pickle is mapped into memory, not read, where its
    format permits.

    A pickle is read with `weights_only`: one that names anything but tensors and containers is refused, not run.

    Raises:
        BackboneError: missing, unreadable, cut short, refused, or not a dictionary.
    """
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise BackboneError(f"{path} is missing: give the path of the file, or fetch it")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        raise BackboneError(
            f"{path} is not a whole file of tensors and nothing else ({type(error).__name__}): it is cut short, of "
            "another kind, or would run code; fetch it again"
        ) from error
    if not isinstance(found, dict):
        raise BackboneError(f"{path} holds a {type(found).__name__}, not named tensors: use another file")
    return dict(found)
