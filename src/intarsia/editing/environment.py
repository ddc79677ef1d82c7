"""What a picture was made with, and what differs when it is made again."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from intarsia import __version__
from intarsia.result import Recipe

if TYPE_CHECKING:
    from intarsia.backbones import Backbone

_PACKAGES = ("torch", "diffusers", "transformers", "peft", "numpy", "pillow")


def environment_of(backbone: Backbone) -> dict[str, str]:
    """Versions, platform, device, number format and threads: what may change the last bits of a picture."""
    import torch

    found = {"intarsia": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    device = backbone.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        **found,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{device.type} {name}",
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
    }


def differences(before: Recipe, after: Recipe) -> list[str]:
    """In words, what differs between two recipes of one request: `weights: 1a2b… then, 3c4d… now`."""
    found: list[str] = []
    if before.weights != after.weights:
        found.append(f"weights: {before.weights[:12]} then, {after.weights[:12]} now")
    for name, field in (("reference weights", "reference_hash"), ("instruction model", "add_model_hash")):
        then, now = (str(getattr(recipe.request, field)) for recipe in (before, after))
        if then != now:
            found.append(f"{name}: {then[:12]} then, {now[:12]} now")
    for name in sorted({*before.environment, *after.environment}):
        then, now = before.environment.get(name, "unknown"), after.environment.get(name, "unknown")
        if then != now:
            found.append(f"{name}: {then} then, {now} now")
    return found
