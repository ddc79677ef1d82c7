"""Frozen helpers that look at pictures: naming a subject's attributes, cutting it out; tagging, finding, segmenting and
captioning what is in a photo.

Importing this room is cheap; torch and transformers are imported when a model is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.lazy import lazy_names
from intarsia.perception.chat_client import ChatClient
from intarsia.perception.chat_namer import ChatNamer
from intarsia.perception.cutout import connected_regions, estimate_mask
from intarsia.perception.cutters import CutOrigin, FoundCutter, GuessCutter, SubjectCutter, cutter_from_option
from intarsia.perception.errors import (
    CutOutError,
    HelperAwayError,
    HelperError,
    NamerError,
    PerceptionError,
    VocabularyError,
)
from intarsia.perception.helper_options import Helpers
from intarsia.perception.helpers import (
    Box,
    Captioner,
    Description,
    Detection,
    Detector,
    Photo,
    PictureEmbedder,
    QualityScorer,
    Segmentation,
    Segmenter,
    Tag,
    Tagger,
    crop,
    cut_out,
)
from intarsia.perception.instruction_writers import (
    ChatDescriber,
    ChatInstructionWriter,
    Describer,
    InstructionWriter,
    TemplateWriter,
    TruthDescriber,
    WriterOption,
)
from intarsia.perception.instructions import Instruction, InstructionError, parse_instruction
from intarsia.perception.masks import (
    box_iou,
    box_of,
    box_overlap,
    clip_box,
    from_rle,
    grow,
    largest_share,
    mask_iou,
    shrink,
    to_rle,
)
from intarsia.perception.namer import (
    AttributeNamer,
    YamlNamer,
    check_namer_option,
    checked_attributes,
    namer_from_option,
)
from intarsia.perception.noise import Noise
from intarsia.perception.phrases import describe
from intarsia.perception.places import PLACES, PlaceError, place_box, place_of, place_region
from intarsia.perception.requests import (
    AskingAdvisor,
    AttributeAdvisor,
    Attributes,
    RegularPrompt,
)
from intarsia.perception.truth import Truth, TruthObject, truth_path
from intarsia.perception.vocabulary import ABSENT, KINDS, Mention, Vocabulary, subject_phrase
from intarsia.perception.vocabulary_namer import VocabularyNamer

if TYPE_CHECKING:
    from intarsia.perception.chat_helpers import ChatCaptioner, ChatTagger
    from intarsia.perception.clip_namer import ClipNamer
    from intarsia.perception.encoders import ClipScorer, TowerScorer, ZeroShotTagger
    from intarsia.perception.grabcut import GrabCutter
    from intarsia.perception.grounding_dino import GroundingDetector
    from intarsia.perception.sam2 import Sam2Segmenter
    from intarsia.perception.truth_helpers import TruthCaptioner, TruthDetector, TruthSegmenter, TruthTagger
    from intarsia.perception.vision_advisor import VisionAdvisor, VisionAsker
    from intarsia.perception.vision_captioner import VisionCaptioner
    from intarsia.perception.vision_encoder import VisionEncoder

# Back ends are loaded when first asked for.
_LAZY = {
    "ChatCaptioner": "chat_helpers",
    "ChatTagger": "chat_helpers",
    "ClipNamer": "clip_namer",
    "ClipScorer": "encoders",
    "GrabCutter": "grabcut",
    "GroundingDetector": "grounding_dino",
    "Sam2Segmenter": "sam2",
    "TowerScorer": "encoders",
    "TruthCaptioner": "truth_helpers",
    "TruthDetector": "truth_helpers",
    "TruthSegmenter": "truth_helpers",
    "TruthTagger": "truth_helpers",
    "VisionAdvisor": "vision_advisor",
    "VisionAsker": "vision_advisor",
    "VisionCaptioner": "vision_captioner",
    "VisionEncoder": "vision_encoder",
    "ZeroShotTagger": "encoders",
}

__all__ = [
    "ABSENT",
    "KINDS",
    "PLACES",
    "AskingAdvisor",
    "AttributeAdvisor",
    "AttributeNamer",
    "Attributes",
    "Box",
    "Captioner",
    "ChatCaptioner",
    "ChatClient",
    "ChatDescriber",
    "ChatInstructionWriter",
    "ChatNamer",
    "ChatTagger",
    "ClipNamer",
    "ClipScorer",
    "CutOrigin",
    "CutOutError",
    "Describer",
    "Description",
    "Detection",
    "Detector",
    "FoundCutter",
    "GrabCutter",
    "GroundingDetector",
    "GuessCutter",
    "HelperAwayError",
    "HelperError",
    "Helpers",
    "Instruction",
    "InstructionError",
    "InstructionWriter",
    "Mention",
    "NamerError",
    "Noise",
    "PerceptionError",
    "Photo",
    "PictureEmbedder",
    "PlaceError",
    "QualityScorer",
    "RegularPrompt",
    "Sam2Segmenter",
    "Segmentation",
    "Segmenter",
    "SubjectCutter",
    "Tag",
    "Tagger",
    "TemplateWriter",
    "TowerScorer",
    "Truth",
    "TruthCaptioner",
    "TruthDescriber",
    "TruthDetector",
    "TruthObject",
    "TruthSegmenter",
    "TruthTagger",
    "VisionAdvisor",
    "VisionAsker",
    "VisionCaptioner",
    "VisionEncoder",
    "Vocabulary",
    "VocabularyError",
    "VocabularyNamer",
    "WriterOption",
    "YamlNamer",
    "ZeroShotTagger",
    "box_iou",
    "box_of",
    "box_overlap",
    "check_namer_option",
    "checked_attributes",
    "clip_box",
    "connected_regions",
    "crop",
    "cut_out",
    "cutter_from_option",
    "describe",
    "estimate_mask",
    "from_rle",
    "grow",
    "largest_share",
    "mask_iou",
    "namer_from_option",
    "parse_instruction",
    "place_box",
    "place_of",
    "place_region",
    "shrink",
    "subject_phrase",
    "to_rle",
    "truth_path",
]

__getattr__ = lazy_names(__name__, _LAZY)
