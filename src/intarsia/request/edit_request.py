"""`EditRequest`: one frozen, validated, serialisable record of everything that decides an edit's pixels."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from intarsia.request.checks import check_together
from intarsia.request.errors import RequestError, one_line
from intarsia.request.presets import PRESETS, defaults

Verb = Literal["insert", "remove", "outpaint", "add"]
Preset = Literal["default", "paper"]
Anchor = Literal["center", "left", "right", "top", "bottom", "top-left", "top-right", "bottom-left", "bottom-right"]
LoraStrength = Annotated[float, Field(ge=-4, le=4)]
BlockStrength = Annotated[float, Field(ge=0, le=2)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Border = Annotated[int, Field(ge=0, le=16384)]


class EditRequest(BaseModel):
    """One edit. Fields that are not given come from the preset, so a request always holds every value.

    Paths are kept as given; the hashes say what was in the files. Pictures, masks and subjects given from
    memory have a hash and no path. Lengths are in pixels of the scene.

    Raises:
        RequestError: one line: which field, which value, what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    verb: Verb
    """`insert` paints what the prompt says, a subject or a reference shows; `remove` paints the background on;
    `outpaint` paints a frame around the scene; `add` finds the place for what an instruction names, and paints it.
    """
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
    mask_shape: Literal["drawn", "box"]
    """Whether the mask is repainted as drawn, or the whole of its bounding box."""
    prompt: str = ""
    """May be empty with a subject or a reference (the thing as it is), and for removal and outpainting (the
    model's words for emptiness).
    """
    negative_prompt: str = ""
    subject: str | None = None
    subject_sha256: str | None = None
    """Of what the subject file holds, whatever the order of its header."""
    subject_strength: float = Field(ge=0, le=2)
    """0: as if it had learned nothing; 1: as learned."""
    lora: tuple[str, ...] = ()
    """Files of LoRAs, in any of the known formats; their changes are summed."""
    lora_strength: tuple[LoraStrength, ...] = ()
    """One for each; none: 1 for all. 0: as if it were not there; 1: as learned; below 0: its opposite."""
    lora_sha256: tuple[str, ...] = ()
    """Of what the files hold, as `subject_sha256`."""
    reference: tuple[str, ...] = ()
    """Photos of a thing to insert without learning it."""
    reference_sha256: tuple[str, ...] = ()
    reference_mask: tuple[str | None, ...] = ()
    """Which part of each photo is meant, white = the thing; None or left out: by its transparency, or guessed."""
    reference_mask_sha256: tuple[str, ...] = ()
    """Of the masks used, guessed ones included."""
    reference_model: str | None = None
    """A folder or file of Assign and Refine weights; None: the model's own folder `reference`."""
    reference_hash: str | None = None
    """Of those weights."""
    reference_strength: float = Field(ge=0, le=2)
    """β of Assign: 0 as if no reference were seen, 1 as trained."""
    reference_blocks: tuple[BlockStrength, BlockStrength, BlockStrength]
    """Factors of β in the U-Net's down, middle and up blocks."""
    reference_interval: tuple[Fraction, Fraction]
    """The part of the steps, as fractions [from, to), in which the reference is seen."""
    reference_schedule: Annotated[tuple[Fraction, ...], Field(min_length=1, max_length=1000)]
    """Factors of β and of the detail, evenly spread from the first step to the last, linear between them."""
    detail_strength: float = Field(ge=0, le=1)
    """Of Refine: 0 is Assign alone."""
    detail_mode: Literal["noised", "clean"]
    """What Refine looks at: the reference noised as the picture is at each step, or clean, once."""
    detail_guided: bool
    """Whether guidance amplifies the detail: only what it leads towards sees it. Else (the paper) both sides do."""
    model: str = "miniature"
    model_hash: str | None = None
    preset: Preset = "default"
    seed: int = Field(default=0, ge=0, lt=2**63)
    steps: int = Field(ge=1, le=1000)
    guidance_scale: float = Field(ge=0, le=100)
    guidance_mode: Literal["joint", "apart"]
    """Words and reference guided as one (the paper), or apart, the reference by `reference_guidance_scale`."""
    reference_guidance_scale: float = Field(ge=0, le=100)
    guidance_rescale: float = Field(ge=0, le=1)
    guidance_interval: tuple[Fraction, Fraction]
    """The part of the steps, as fractions [from, to), that is guided."""
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
    left: Border = 0
    right: Border = 0
    top: Border = 0
    bottom: Border = 0
    """Outpainting: by how many pixels the scene grows at each side; or by a ratio and an anchor."""
    ratio: float | None = Field(default=None, ge=0.5, le=1)
    """Outpainting: the scene's share of the new picture's sides."""
    anchor: Anchor = "center"
    """Where in the new picture the scene stands."""
    rim: int = Field(ge=0, le=512)
    """Outpainting: pixels of the scene's own border, at the sides that grow, that may change; the blend
    (`feather`) lies inside it.
    """
    instruction: tuple[str, ...] = ()
    """Adding: what to add, in words; several are done one after the other."""
    place: str | None = None
    """Adding: about where, `x,y,w,h`; without it the model chooses."""
    candidates: int = Field(ge=1, le=16)
    """Adding: how many proposals are made; the one that hides least of the scene is taken."""
    place_hold: float = Field(ge=0, le=1)
    """Adding: the share of the steps during which the scene outside a place that is named or given is held."""
    image_guidance_scale: float = Field(ge=0, le=100)
    """Adding: how closely the scene is kept, beside `guidance_scale`, how strictly the instruction is followed."""
    change_threshold: float = Field(gt=0, le=1)
    """Adding: by how much colours must differ (length of the difference of RGB in [0, 1]) to count as added."""
    finish: Literal["repaint", "direct"]
    """Adding: the inpainting model paints the thing where the instruction model put it, or its pixels are taken."""
    repaint_guidance_scale: float = Field(ge=0, le=100)
    """Adding: the guidance of that repainting."""
    repaint_strength: float = Field(gt=0, le=1)
    """Adding: the share of the steps of that repainting; it starts from the instruction model's pixels with as much
    noise. 1 paints anew.
    """
    chain: Literal["restored", "plain"]
    """Adding: what the next instruction sees: the last latents, outside the change restored or as they are."""
    add_model: str = "miniature-add"
    """Adding: the instruction model."""
    add_model_hash: str | None = None

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise RequestError(one_line(error, type(self).model_fields)) from error

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        name = str(data.get("preset", "default"))
        has_subject = data.get("subject") is not None or data.get("subject_sha256") is not None
        values = defaults(
            name if name in PRESETS else "default",
            str(data.get("verb")),
            subject=has_subject,
            reference=bool(data.get("reference") or data.get("reference_sha256")),
            words=bool(str(data.get("prompt") or "").strip()) or has_subject,
        )
        return {**values, **data}

    @field_validator("remove_attributes")
    @classmethod
    def _no_blank_attributes(cls, value: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not isinstance(value, str) and any(not attribute.strip() for attribute in value):
            raise ValueError("holds a blank attribute; leave it out")
        return value

    @field_validator("lora", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        several = (value,) if isinstance(value, (str, PurePath)) else value
        if not isinstance(several, (list, tuple)):
            return several
        return tuple(str(path) if isinstance(path, PurePath) else path for path in several)

    @field_validator("lora_strength", mode="before")
    @classmethod
    def _one_or_several_strengths(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (int, float)) else value

    @field_validator("reference_interval", "guidance_interval")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("is no part of the steps; use 0 <= from <= to <= 1")
        return value

    @property
    def has_subject(self) -> bool:
        return self.subject is not None or self.subject_sha256 is not None

    @property
    def lora_strengths(self) -> tuple[float, ...]:
        """One for each of `lora`."""
        return self.lora_strength or (1.0,) * len(self.lora)

    @property
    def has_reference(self) -> bool:
        return bool(self.reference or self.reference_sha256)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        check_together(self)
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
