"""Names of base models and what belongs to them: where their weights are, under which licence, at which size they
paint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from intarsia.backbones.fooocus_files import FOOOCUS_FILES

LicenceClass = Literal["permissive", "responsible-use", "non-commercial", "unknown"]
InpaintKind = Literal["nine-channel", "four-channel + head", "four-channel", "none", "part"]


@dataclass(frozen=True)
class CatalogEntry:
    """One model: `location` is a folder inside the package (`package`) or a repository on the Hub (`hub`).

    `inpaint` says how it fills a mask: its U-Net reads the mask (nine-channel), Fooocus' head reads it for a
    four-channel U-Net, or known and new are blended (four-channel). "none": an instruction model, for `add`; "part": no
    model alone.
    """

    name: str
    kind: Literal["package", "hub"]
    location: str
    licence: str
    licence_class: LicenceClass
    inpaint: InpaintKind
    description: str
    native_size: int | None = None
    """Side of the square it paints best, in pixels."""
    scheduler: str | None = None
    """A sampler that suits it, by the names of `sampling.SCHEDULERS`."""
    time_ids: Literal["sdxl", "none"] | None = None
    """Whether the U-Net wants SDXL's six numbers of sizes and crop."""
    base: str | None = None
    """The entry whose weights it stands on, or whose settings it holds."""
    revision: str | None = None
    """The commit that is fetched; None: what is the newest then."""
    megabytes: int | None = None
    """About how much is fetched, in units of 10^6 bytes; None: not known."""
    files: tuple[str, ...] = ()
    """Patterns of what is fetched; of weights in several precisions only the half one."""
    needs: tuple[str, ...] = ()
    """Of a part: the files without which it is incomplete."""
    sha256: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """File -> what it must hash to, where known."""


def _folders(*parts: str) -> tuple[str, ...]:
    return ("model_index.json", "*/*.json", "*/*.txt", *(f"{part}/*.safetensors" for part in parts))


_ONE_TOWER = _folders("unet", "vae", "text_encoder")
_TWO_TOWERS = _folders("unet", "vae", "text_encoder", "text_encoder_2")
_SETTINGS = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
)
_SECOND_SETTINGS = ("text_encoder_2/config.json", "tokenizer_2/vocab.json", "tokenizer_2/merges.txt")
_TOWER = ("models/image_encoder/config.json", "models/image_encoder/model.safetensors")
_HELPER = ("*.json", "*.txt", "model.safetensors")

_RAIL_PP = "CreativeML Open RAIL++-M"
_RAIL_M = "CreativeML OpenRAIL-M"

_ENTRIES = (
    CatalogEntry(
        name="miniature",
        kind="package",
        location="weights/miniature",
        licence="Apache-2.0",
        licence_class="permissive",
        inpaint="nine-channel",
        description="The bundled small SDXL, trained on Tabletop; runs on a laptop CPU without any download.",
        native_size=64,
        scheduler="dpmpp_2m_karras",
        time_ids="sdxl",
    ),
    CatalogEntry(
        name="sdxl",
        kind="hub",
        location="stabilityai/stable-diffusion-xl-base-1.0",
        licence=_RAIL_PP,
        licence_class="responsible-use",
        inpaint="four-channel",
        description="SDXL 1.0 as published: a mask is filled by blending; wants a GPU.",
        native_size=1024,
        scheduler="euler",
        time_ids="sdxl",
        megabytes=6950,
        files=_TWO_TOWERS,
    ),
    CatalogEntry(
        name="sdxl-fooocus",
        kind="hub",
        location="stabilityai/stable-diffusion-xl-base-1.0",
        licence=f"{_RAIL_PP}; Fooocus' files: openrail",
        licence_class="responsible-use",
        inpaint="four-channel + head",
        description="SDXL 1.0 with Fooocus' inpaint head and patch v2.6, as DreamMix uses them; wants a GPU.",
        native_size=1024,
        scheduler="dpmpp_2m_sde_karras",
        time_ids="sdxl",
        base="sdxl",
        megabytes=8270,
    ),
    CatalogEntry(
        name="sdxl-inpaint",
        kind="hub",
        location="diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
        licence=_RAIL_PP,
        licence_class="responsible-use",
        inpaint="nine-channel",
        description="SDXL 1.0 fine-tuned for inpainting; wants a GPU.",
        native_size=1024,
        scheduler="euler",
        time_ids="sdxl",
        megabytes=6950,
        files=_TWO_TOWERS,
    ),
    CatalogEntry(
        name="sd15",
        kind="hub",
        location="stable-diffusion-v1-5/stable-diffusion-v1-5",
        licence=_RAIL_M,
        licence_class="responsible-use",
        inpaint="four-channel",
        description="Stable Diffusion 1.5 as published: a mask is filled by blending.",
        native_size=512,
        scheduler="ddim",
        time_ids="none",
        megabytes=2140,
        files=_ONE_TOWER,
    ),
    CatalogEntry(
        name="sd15-inpaint",
        kind="hub",
        location="stable-diffusion-v1-5/stable-diffusion-inpainting",
        licence=_RAIL_M,
        licence_class="responsible-use",
        inpaint="nine-channel",
        description="Stable Diffusion 1.5 fine-tuned for inpainting.",
        native_size=512,
        scheduler="ddim",
        time_ids="none",
        megabytes=2140,
        files=_ONE_TOWER,
    ),
    CatalogEntry(
        name="miniature-add",
        kind="package",
        location="weights/miniature_add",
        licence="Apache-2.0",
        licence_class="permissive",
        inpaint="none",
        description="The miniature's instruction model: adds an object that words name, without a mask.",
        native_size=64,
        scheduler="dpmpp_2m_karras",
        time_ids="sdxl",
        base="miniature",
    ),
    CatalogEntry(
        name="pipe-add",
        kind="hub",
        location="paint-by-inpaint/add-finetuned-mb",
        licence="undeclared; derived from Stable Diffusion 1.5, which is under CreativeML OpenRAIL-M",
        licence_class="responsible-use",
        inpaint="none",
        description="Paint by Inpaint's add model, fine-tuned on MagicBrush.",
        native_size=512,
        scheduler="euler_a",
        time_ids="none",
        megabytes=2140,
        files=_ONE_TOWER,
    ),
    CatalogEntry(
        name="sdxl-parts",
        kind="hub",
        location="stabilityai/stable-diffusion-xl-base-1.0",
        licence=_RAIL_PP,
        licence_class="responsible-use",
        inpaint="part",
        description="Settings and tokenizers that a single-file SDXL checkpoint needs; part of sdxl.",
        base="sdxl",
        megabytes=4,
        files=_SETTINGS + _SECOND_SETTINGS + ("tokenizer*/*.json",),
        needs=_SETTINGS + _SECOND_SETTINGS,
    ),
    CatalogEntry(
        name="sd15-parts",
        kind="hub",
        location="stable-diffusion-v1-5/stable-diffusion-v1-5",
        licence=_RAIL_M,
        licence_class="responsible-use",
        inpaint="part",
        description="Settings and tokenizer that a single-file Stable Diffusion 1.5 checkpoint needs; part of sd15.",
        base="sd15",
        megabytes=2,
        files=(*_SETTINGS, "tokenizer/*.json"),
        needs=_SETTINGS,
    ),
    CatalogEntry(
        name="fooocus-inpaint",
        kind="hub",
        location="lllyasviel/fooocus_inpaint",
        licence="openrail",
        licence_class="responsible-use",
        inpaint="part",
        description="Fooocus' inpaint head and patch v2.6, for sdxl-fooocus and any MODEL+fooocus.",
        revision="74bbcc070e55219adb9b6c3b0d035b34e3697d1d",
        megabytes=round(sum(known.bytes for known in FOOOCUS_FILES.values()) / 1e6),
        files=tuple(FOOOCUS_FILES),
        needs=tuple(FOOOCUS_FILES),
        sha256=MappingProxyType({name: known.sha256 for name, known in FOOOCUS_FILES.items()}),
    ),
    CatalogEntry(
        name="ip-adapter-sdxl",
        kind="hub",
        location="h94/IP-Adapter",
        licence="Apache-2.0",
        licence_class="permissive",
        inpaint="part",
        description="IP-Adapter-Plus for SDXL with its image encoder: shows reference photos to any SDXL.",
        megabytes=3376,
        files=("sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors", *_TOWER),
        needs=("sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors", *_TOWER),
    ),
    CatalogEntry(
        name="ip-adapter-sd15",
        kind="hub",
        location="h94/IP-Adapter",
        licence="Apache-2.0",
        licence_class="permissive",
        inpaint="part",
        description="IP-Adapter-Plus for Stable Diffusion 1.5 with its image encoder: shows reference photos.",
        megabytes=2627,
        files=("models/ip-adapter-plus_sd15.safetensors", *_TOWER),
        needs=("models/ip-adapter-plus_sd15.safetensors", *_TOWER),
    ),
    CatalogEntry(
        name="sam2",
        kind="hub",
        location="facebook/sam2.1-hiera-small",
        licence="Apache-2.0",
        licence_class="permissive",
        inpaint="part",
        description="SAM 2.1 small: cuts a subject out of its photo.",
        megabytes=184,
        files=_HELPER,
        needs=("config.json", "model.safetensors"),
    ),
    CatalogEntry(
        name="grounding-dino",
        kind="hub",
        location="IDEA-Research/grounding-dino-tiny",
        licence="Apache-2.0",
        licence_class="permissive",
        inpaint="part",
        description="Grounding DINO tiny: finds what words name.",
        revision="a2bb814dd30d776dcf7e30523b00659f4f141c71",
        megabytes=690,
        files=_HELPER,
        needs=("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"),
    ),
    CatalogEntry(
        name="clip",
        kind="hub",
        location="openai/clip-vit-large-patch14",
        licence="undeclared; the code is under MIT",
        licence_class="unknown",
        inpaint="part",
        description="CLIP ViT-L/14: compares pictures and words.",
        megabytes=1710,
        files=_HELPER,
        needs=("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"),
    ),
)

catalog: Mapping[str, CatalogEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Read-only: name -> entry."""
