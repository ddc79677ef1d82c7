"""Base models: what a backbone is, which ones there are, and how one is loaded.

Importing this room is cheap: torch, diffusers and transformers are imported when a model is loaded or used.
"""

from intarsia.backbones.backbone import Backbone
from intarsia.backbones.errors import BackboneError, MissingWeightsError, UnknownModelError
from intarsia.backbones.images import prepare_for_image_encoder
from intarsia.backbones.instruct import narrow_to_latents, start_instructions, widen_for_instructions
from intarsia.backbones.instruct_loading import (
    check_instruct_folder,
    load_instruct_base,
    load_instruct_model,
    save_instruct_model,
)
from intarsia.backbones.known_models import CatalogEntry, address_of, catalog, find_model
from intarsia.backbones.loading import load_backbone
from intarsia.backbones.locate import widen_for_inpainting
from intarsia.backbones.weights import model_hash

__all__ = [
    "Backbone",
    "BackboneError",
    "CatalogEntry",
    "MissingWeightsError",
    "UnknownModelError",
    "address_of",
    "catalog",
    "check_instruct_folder",
    "find_model",
    "load_backbone",
    "load_instruct_base",
    "load_instruct_model",
    "model_hash",
    "narrow_to_latents",
    "prepare_for_image_encoder",
    "save_instruct_model",
    "start_instructions",
    "widen_for_inpainting",
    "widen_for_instructions",
]
