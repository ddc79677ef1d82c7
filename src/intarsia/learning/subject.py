"""A learned subject: a small LoRA and all that must be known to use it, in one file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import intarsia
from intarsia.adapters import AdapterError, SubjectLora, load_lora, save_lora
from intarsia.imaging import check_writable
from intarsia.learning.dictionary import AttributeDictionary
from intarsia.learning.errors import DictionaryError, OtherBaseError, SubjectError
from intarsia.learning.identity import prompt_with_token
from intarsia.perception import AttributeAdvisor

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.backbones import Backbone

FORMAT = "1"


def created_with() -> dict[str, str]:
    """Versions of what decides the numbers."""
    found = {"intarsia": intarsia.__version__}
    for name in ("torch", "diffusers", "peft", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, eq=False)
class Subject:
    """`lora` has diffusers' keys (`unet.….to_k.lora_A.weight`); `licence` is the base model's."""

    class_noun: str
    token: str
    dictionary: AttributeDictionary
    lora: Mapping[str, Tensor] = field(repr=False)
    rank: int
    alpha: float
    base_name: str
    base_hash: str
    licence: str | None = None
    preset: str = "default"
    photo_hashes: tuple[str, ...] = ()
    steps_done: int = 0
    created_with: Mapping[str, str] = field(default_factory=created_with)

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write one `.safetensors` file, whole or not at all; the same subject gives the same bytes.

        Raises:
            OutputExistsError, OutputError, DiskFullError: the file cannot be written.
        """

        check_writable(path, overwrite=overwrite)
        save_lora(path, self.lora, self._metadata())

    @classmethod
    def load(cls, path: str | Path) -> Subject:
        """Read a file that `save` wrote.

        Raises:
            AdapterFileError: missing, cut short, or numbers that are not finite.
            SubjectError: LoRA weights that are no subject of Intarsia, of a newer kind, or converted for another tool.
        """
        state, metadata = load_lora(path)
        if metadata.get("intarsia_subject") != FORMAT:
            raise SubjectError(
                f"{path} is no subject file of this version: learn the subject again, or give another file; other "
                "tools' LoRAs are given with --lora"
            )
        if not all(key.startswith("unet.") and key.endswith((".lora_A.weight", ".lora_B.weight")) for key in state):
            raise SubjectError(
                f"{path} is a subject in another tool's format: use it with --lora, or turn it back by "
                f"`intarsia convert {path} --to diffusers -o FILE`"
            )
        try:
            known = _read(metadata)
            lora = SubjectLora.from_state(state, metadata)
        except (KeyError, ValueError, TypeError, AttributeError, DictionaryError, AdapterError) as error:
            raise SubjectError(f"{path} is damaged ({error}): learn the subject again") from error
        return cls(lora=state, rank=lora.rank, alpha=lora.alpha, **known)

    def adapter(self) -> SubjectLora:
        """A fresh adapter with these weights and the true alpha, ready to be injected."""
        return SubjectLora.from_state(self.lora, {"alpha": repr(self.alpha)})

    def prompt_with_token(self, prompt: str) -> str:
        """The prompt with the identity token before the class noun; see `identity.prompt_with_token`."""
        return prompt_with_token(prompt, self.token, self.class_noun)

    def conflicts(self, prompt: str, advisor: AttributeAdvisor | None = None) -> list[str]:
        """The subject's attributes that the prompt contradicts; see `AttributeDictionary.conflicts`. Inserting
        with `remove_attributes` "auto" never asks an advisor: give it this answer instead.
        """
        without = re.sub(rf"(?<!\w){re.escape(self.token)}(?!\w)\s*", "", prompt, flags=re.IGNORECASE)
        return self.dictionary.conflicts(without, class_noun=self.class_noun, advisor=advisor)

    def require_base(self, backbone: Backbone) -> None:
        """Raise `OtherBaseError`, naming both models, unless `backbone` is the one this was learned on."""
        if backbone.hash != self.base_hash:
            raise OtherBaseError(
                f"this {self.class_noun} was learned on {self.base_name!r} ({self.base_hash[:12]}), not on "
                f"{backbone.name!r} ({backbone.hash[:12]}): load that model, or learn the subject again"
            )

    def _metadata(self) -> dict[str, str]:
        lora = SubjectLora.from_state(self.lora, {"alpha": repr(self.alpha)})
        return {
            **lora.metadata(),
            "intarsia_subject": FORMAT,
            "class_noun": self.class_noun,
            "token": self.token,
            "dictionary": self.dictionary.to_json(),
            "base": json.dumps({"name": self.base_name, "hash": self.base_hash, "licence": self.licence}),
            "preset": self.preset,
            "photo_hashes": json.dumps(list(self.photo_hashes)),
            "steps_done": str(self.steps_done),
            "created_with": json.dumps(dict(self.created_with), sort_keys=True),
        }


def _read(metadata: Mapping[str, str]) -> dict[str, Any]:
    base = json.loads(metadata["base"])
    return {
        "class_noun": metadata["class_noun"],
        "token": metadata["token"],
        "dictionary": AttributeDictionary.from_json(metadata["dictionary"], metadata["class_noun"]),
        "base_name": str(base["name"]),
        "base_hash": str(base["hash"]),
        "licence": None if base["licence"] is None else str(base["licence"]),
        "preset": metadata["preset"],
        "photo_hashes": tuple(str(value) for value in json.loads(metadata["photo_hashes"])),
        "steps_done": int(metadata["steps_done"]),
        "created_with": {str(key): str(value) for key, value in json.loads(metadata["created_with"]).items()},
    }
