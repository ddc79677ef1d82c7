"""Base models: what a backbone is, which ones there are, and how one is loaded.

Importing this room is cheap: torch, diffusers and transformers are imported when a model is loaded or used.
"""

from intarsia.backbones.backbone import Backbone
from intarsia.backbones.byte_count import CountedBytes, count_unet_bytes, count_vae_bytes
from intarsia.backbones.catalog import CatalogEntry, catalog
from intarsia.backbones.compiling import compile_blocks, is_compiled
from intarsia.backbones.errors import (
    BackboneError,
    DeviceMemoryError,
    FetchError,
    LicenceError,
    MissingWeightsError,
    UnknownModelError,
)
from intarsia.backbones.fetching import Fetched, fetch_model
from intarsia.backbones.fooocus_files import FOOOCUS_FILES, KnownFile
from intarsia.backbones.fooocus_head import InpaintHead, head_of, load_head
from intarsia.backbones.fooocus_patch import MergedPatch, expected_patch_keys, load_patch, merge_patch
from intarsia.backbones.image_towers import ImageTower, find_image_tower, load_image_tower
from intarsia.backbones.images import prepare_for_image_encoder
from intarsia.backbones.instruct import narrow_to_latents, start_instructions, widen_for_instructions
from intarsia.backbones.instruct_loading import (
    check_instruct_folder,
    load_instruct_base,
    load_instruct_model,
    save_instruct_model,
)
from intarsia.backbones.known_models import (
    ModelFiles,
    entry_of,
    find_model,
    locate_model,
    locate_part,
    split_repository,
)
from intarsia.backbones.ldm_names import to_ldm_names
from intarsia.backbones.licences import check_licence, licence_policy, licence_policy_of
from intarsia.backbones.loading import load_backbone
from intarsia.backbones.locate import widen_for_inpainting
from intarsia.backbones.memory import (
    FreeMemory,
    bytes_of,
    free_memory,
    memory_needs,
    parameter_count,
    plan_for,
    warn_of_short_memory,
)
from intarsia.backbones.memory_errors import memory_error_of, no_memory_explained
from intarsia.backbones.memory_plan import MemoryMode, MemoryNeeds, MemoryPlan, check_memory_mode, plan_memory
from intarsia.backbones.offload import (
    apply_memory_plan,
    follow_memory_plan,
    is_offloaded,
    send_to,
    share_memory_plan,
    take_place_of,
    whole_unet,
)
from intarsia.backbones.on_disk import OnDisk, entry_on_disk, megabytes_of, repository_on_disk
from intarsia.backbones.pickles import PICKLE_SUFFIXES, is_pickle
from intarsia.backbones.weights import model_hash

__all__ = [
    "FOOOCUS_FILES",
    "PICKLE_SUFFIXES",
    "Backbone",
    "BackboneError",
    "CatalogEntry",
    "CountedBytes",
    "DeviceMemoryError",
    "FetchError",
    "Fetched",
    "FreeMemory",
    "ImageTower",
    "InpaintHead",
    "KnownFile",
    "LicenceError",
    "MemoryMode",
    "MemoryNeeds",
    "MemoryPlan",
    "MergedPatch",
    "MissingWeightsError",
    "ModelFiles",
    "OnDisk",
    "UnknownModelError",
    "apply_memory_plan",
    "bytes_of",
    "catalog",
    "check_instruct_folder",
    "check_licence",
    "check_memory_mode",
    "compile_blocks",
    "count_unet_bytes",
    "count_vae_bytes",
    "entry_of",
    "entry_on_disk",
    "expected_patch_keys",
    "fetch_model",
    "find_image_tower",
    "find_model",
    "follow_memory_plan",
    "free_memory",
    "head_of",
    "is_compiled",
    "is_offloaded",
    "is_pickle",
    "licence_policy",
    "licence_policy_of",
    "load_backbone",
    "load_head",
    "load_image_tower",
    "load_instruct_base",
    "load_instruct_model",
    "load_patch",
    "locate_model",
    "locate_part",
    "megabytes_of",
    "memory_error_of",
    "memory_needs",
    "merge_patch",
    "model_hash",
    "narrow_to_latents",
    "no_memory_explained",
    "parameter_count",
    "plan_for",
    "plan_memory",
    "prepare_for_image_encoder",
    "repository_on_disk",
    "save_instruct_model",
    "send_to",
    "share_memory_plan",
    "split_repository",
    "start_instructions",
    "take_place_of",
    "to_ldm_names",
    "warn_of_short_memory",
    "whole_unet",
    "widen_for_inpainting",
    "widen_for_instructions",
]
