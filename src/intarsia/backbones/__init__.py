"""Base models: what a backbone is, which ones there are, and how one is loaded.

Importing this room is cheap: torch, diffusers and transformers are imported when a model is loaded or used.
"""

from intarsia.backbones.backbone import Backbone
from intarsia.backbones.errors import BackboneError, MissingWeightsError, UnknownModelError
from intarsia.backbones.images import prepare_for_image_encoder
from intarsia.backbones.known_models import CatalogEntry, catalog, find_model
from intarsia.backbones.loading import load_backbone
from intarsia.backbones.locate import widen_for_inpainting
from intarsia.backbones.weights import model_hash

__all__ = [
    "Backbone",
    "BackboneError",
    "CatalogEntry",
    "MissingWeightsError",
    "UnknownModelError",
    "catalog",
    "find_model",
    "load_backbone",
    "model_hash",
    "prepare_for_image_encoder",
    "widen_for_inpainting",
]
