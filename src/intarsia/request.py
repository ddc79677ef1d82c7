"""`EditRequest`: one frozen, validated, serialisable record of everything that decides an edit's pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from intarsia.errors import IntarsiaError

Verb = Literal["insert", "remove"]
Preset = Literal["default", "paper"]


class RequestError(IntarsiaError):
    """A request that contradicts itself, or a value outside its range."""


_COMMON: dict[str, Any] = {
    "steps": 30,
    "guidance_scale": 4.0,
    "scheduler": "dpmpp_2m_sde_karras",
    "lam": 0.7,
    "local_margin": 0.15,
    "remove_attributes": "auto",
    "attribute_strength": 1.0,
    "subject_strength": 1.0,
    "start": "fill",
}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": MappingProxyType(
            {
                **_COMMON,
                "local_share": None,
                "local_minimum_fraction": 0.5,
                "context_share": None,
                "growth": 0,
                "feather": 31,
                "seam_strength": 0.0,
                "keep_detail": False,
            }
        ),
        "default": MappingProxyType(
            {
                **_COMMON,
                "steps": 20,
                "guidance_scale": 5.0,
                "scheduler": "dpmpp_2m_karras",
                "lam": 1.0,
                "local_share": 0.6,
                "local_minimum_fraction": 0.0,
                "context_share": 0.42,
                "growth": 0,
                "feather": 4,
                "seam_strength": 1.0,
                "keep_detail": True,
            }
        ),
    }
)
"""Preset -> the values of all fields that a request does not name. `paper` is DreamMix (2024) and its
released code; `default` differs in its windows (adaptive, so that small objects are painted at full size),
in keeping the local window's detail, and in matching colours at the seam instead of a wide blend; its
sampler, guidance and λ were chosen on the miniature (docs/sampling.md has the numbers). Both blend the
known region before and after each call of the model.
"""

_REMOVAL: dict[str, Any] = {"growth": 4, "remove_attributes": "none"}
REMOVAL: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": MappingProxyType(_REMOVAL),
        "default": MappingProxyType({**_REMOVAL, "lam": 0.7, "guidance_scale": 2.0}),
    }
)
"""What removal changes in each preset: masks drawn tightly would leave the object's rim standing, and emptiness
needs less guidance and more of the surroundings than an object does (measured, docs/sampling.md).
"""


class EditRequest(BaseModel):
    """One edit. Fields that are not given come from the preset, so a request always holds every value.

    Paths are kept as given; the hashes say what was in the files. Pictures, masks and subjects given from
    memory have a hash and no path. Lengths are in pixels of the scene.

    Raises:
        RequestError: one line: which field, which value, what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    verb: Verb
    """`insert` paints what the prompt says; `remove` paints the background on."""
    scene: str | None = None
    scene_sha256: str | None = None
    """Of the upright pixels (`Picture.sha256`)."""
    mask: str | None = None
    mask_sha256: str | None = None
    """Of the mask's size and bits."""
    mask_from: Literal["white", "black", "alpha"] = "white"
    """Which part of the mask picture is repainted."""
    box: str | None = None
    """`x,y,w,h` instead of a mask."""
    prompt: str = ""
    """May be empty with a subject (the subject as it is) and for removal (the model's words for emptiness).
    """
    negative_prompt: str = ""
    subject: str | None = None
    subject_sha256: str | None = None
    """Of what the subject file holds, whatever the order of its header."""
    subject_strength: float = Field(ge=0, le=2)
    """0: as if there were no subject; 1: as learned."""
    model: str = "miniature"
    model_hash: str | None = None
    preset: Preset = "default"
    seed: int = Field(default=0, ge=0, lt=2**63)
    steps: int = Field(ge=1, le=1000)
    guidance_scale: float = Field(ge=0, le=100)
    scheduler: str = Field(min_length=1)
    lam: float = Field(ge=0, le=1)
    """λ: the share of the steps in the local window; 0 = global only, 1 = local only."""
    local_share: float | None = Field(gt=0, le=1)
    """The share of the local window's side that the mask fills; None: the paper's margin and minimum
    fraction.
    """
    local_margin: float = Field(ge=0, le=10)
    local_minimum_fraction: float = Field(ge=0, le=1)
    """The local window's least side as a share of the scene's."""
    context_share: float | None = Field(gt=0, le=1)
    """The share of the global window's side that the mask fills; None: the global window is the whole scene.
    """
    growth: int = Field(ge=0, le=512)
    feather: int = Field(ge=0, le=512)
    seam_strength: float = Field(ge=0, le=1)
    remove_attributes: tuple[str, ...] | Literal["auto", "none"]
    """Attributes substituted (TAS): by hand, looked up in the subject's dictionary, or none."""
    attribute_strength: float = Field(ge=0, le=1)
    start: Literal["fill", "noise"]
    keep_detail: bool
    """Whether the final picture keeps the detail of the local window that the global one cannot hold."""

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise RequestError(_one_line(error)) from error

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        name = str(data.get("preset", "default"))
        name = name if name in PRESETS else "default"
        removal = REMOVAL[name] if data.get("verb") == "remove" else {}
        return {**PRESETS[name], **removal, **data}

    @field_validator("remove_attributes")
    @classmethod
    def _no_blank_attributes(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not isinstance(value, str) and any(not attribute.strip() for attribute in value):
            raise ValueError("holds a blank attribute; leave it out")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.scene is None and self.scene_sha256 is None:
            raise ValueError("scene is missing; give the path of a picture")
        if self.mask is not None and self.box is not None:
            raise ValueError("mask and box are both given; give one of them")
        if self.mask is None and self.box is None and self.mask_sha256 is None:
            raise ValueError("mask is missing; give a mask picture or a box x,y,w,h")
        has_subject = self.subject is not None or self.subject_sha256 is not None
        if self.verb == "insert" and not self.prompt.strip() and not has_subject:
            raise ValueError("prompt is empty; say what to paint, or give a subject")
        if self.verb == "remove" and has_subject:
            raise ValueError(f"subject {self.subject!r} has no part in a removal; leave it out, or insert")
        return self

    def replace(self, **changes: Any) -> EditRequest:
        """A validated copy with some fields changed."""
        return EditRequest(**{**self.model_dump(), **changes})

    def to_json(self) -> str:
        """JSON with every field, keys in the order of the fields."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> EditRequest:
        """The request of `to_json`; `RequestError` for anything else."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RequestError(f"the request is not JSON ({error}); give what to_json wrote") from error
        if not isinstance(data, dict):
            raise RequestError(f"the request is a JSON {type(data).__name__}; give an object")
        return cls(**data)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As the constructor, so that errors are the same."""
        return cls(**obj) if isinstance(obj, dict) else super().model_validate(obj, **options)


def _one_line(error: ValidationError) -> str:
    """The first fault in words: which field, which value, what is allowed."""
    fault = error.errors(include_url=False)[0]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    name = str(fault["loc"][0]) if fault["loc"] else ""
    reason = str(fault["msg"]).removeprefix("Value error, ")
    if not name:
        return reason + more
    if fault["type"] == "extra_forbidden":
        return f"{name} is no field of a request; use one of {', '.join(EditRequest.model_fields)}{more}"
    if fault["type"] == "missing":
        return f"{name} is missing; give it{more}"
    return f"{name} {fault['input']!r} cannot be used: {reason[:1].lower()}{reason[1:]}{more}"
