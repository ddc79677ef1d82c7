"""Which modules of a model a LoRA can change: their names as LoRA files have them, and the shapes of their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from intarsia.adapters.errors import AdapterError
from intarsia.adapters.lora import PARTS, Part

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class LoraModules:
    """`shapes`: part → module → shape of its weight. `config`: the U-Net's."""

    shapes: Mapping[Part, Mapping[str, tuple[int, ...]]] = field(repr=False)
    config: Mapping[str, Any]

    @classmethod
    def of(cls, parts: Mapping[str, nn.Module]) -> Self:
        """Of a model's parts (see `Backbone.modules`), also where other adapters are in them.

        Raises:
            AdapterError: no U-Net among them.
        """
        if "unet" not in parts:
            raise AdapterError(f"the parts {', '.join(parts) or '(none)'} hold no U-Net: give a model's own parts")
        shapes = {
            part: {name: tuple(module.weight.shape) for name, module in changeable(part, parts[part]).items()}
            for part in PARTS
            if part in parts
        }
        config: Any = parts["unet"].config
        return cls(shapes, dict(config))

    @classmethod
    def of_folder(cls, folder: str | Path) -> Self:
        """Of a model folder, from the `config.json` of its U-Net and text towers alone; no weights are read.

        Raises:
            AdapterError: a config that is missing or is not that of such a part.
        """
        import torch
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        root = Path(folder)
        unet: Any = UNet2DConditionModel
        parts: dict[str, nn.Module] = {}
        with torch.device("meta"):
            for part in PARTS:
                path = root / part / "config.json"
                if part != "unet" and not path.is_file():
                    continue
                config = _read_config(path)
                try:
                    if part == "unet":
                        made: Any = unet.from_config(config)
                    else:
                        tower = CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection
                        made = tower(CLIPTextConfig(**config))
                except Exception as error:
                    reason = " ".join(str(error).split())[:160]
                    raise AdapterError(
                        f"{path} does not describe a {part} of Stable Diffusion's kind ({reason}): give a folder "
                        "of SD 1.x or SDXL"
                    ) from error
                parts[part] = made
        return cls.of(parts)

    @property
    def two_towers(self) -> bool:
        """Whether the model is of SDXL's shape, with two text towers, or of Stable Diffusion 1.5's with one."""
        return self.config.get("addition_embed_type") == "text_time"

    @property
    def prompt_width(self) -> int | None:
        """Width of the tokens that the U-Net's cross-attentions read: what tells families apart."""
        width = self.config.get("cross_attention_dim")
        return width if isinstance(width, int) else None


def changeable(part: str, root: nn.Module) -> dict[str, Any]:
    """Name → linear layer or 2-D convolution, as it is without what PEFT wraps around it.

    CLIP's text tower is flat in newer versions of transformers; the names in files have its former `text_model.`.
    """
    from torch import nn

    found: dict[str, Any] = {}
    for name, module in root.named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d)) or ".lora_A." in name or ".lora_B." in name:
            continue
        plain = name.removesuffix(".base_layer")
        if part != "unet" and not plain.startswith(("text_model.", "text_projection")):
            plain = f"text_model.{plain}"
        found[plain] = module
    return found


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AdapterError(f"{path} is missing: give a model folder in the diffusers layout") from error
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} cannot be read as JSON: copy or download the model again") from error
    if not isinstance(content, dict):
        raise AdapterError(f"{path} is not a JSON object: copy or download the model again")
    return content
