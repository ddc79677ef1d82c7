"""Helper models chosen by short texts, as the command line gives them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from intarsia.perception.chat_client import ChatClient
from intarsia.perception.errors import HelperError, public
from intarsia.perception.helpers import Captioner, Detector, QualityScorer, Segmenter, Tagger
from intarsia.perception.noise import Noise


@dataclass(frozen=True)
class Helpers:
    """Which helpers a data engine asks, loaded when first used.

    Args:
        tagger: truth, openai:URL#MODEL, or clip:MODEL#WORDS (a file with one noun a line).
        detector: truth, or grounding-dino:MODEL.
        segmenter: truth, or sam2:MODEL.
        captioner: truth, openai:URL#MODEL, or transformers:MODEL.
        scorer: towers:MODEL (a backbone's image and text towers), or clip:MODEL.
        folder: the pictures' folder; truth helpers read what lies beside them.
        noise: of the truth helpers.
        device: of the models; "auto" takes a GPU if there is one.

    MODEL is a folder or a name at the model hub, possibly with @REVISION.
    """

    tagger: str = "truth"
    detector: str = "truth"
    segmenter: str = "truth"
    captioner: str = "truth"
    scorer: str = "towers:miniature"
    folder: Path = Path(".")
    noise: Noise = field(default_factory=Noise)
    device: str = "auto"

    def __post_init__(self) -> None:
        for kind, forms in _FORMS.items():
            option = getattr(self, kind)
            name, _, rest = option.partition(":")
            if name not in forms or (name == "truth") != (not rest):
                known = ", ".join(forms.values())
                raise HelperError(f"{kind} {public(option)!r} is unknown: use {known}")
            if "#" in forms[name] and not all(rest.rpartition("#")[::2]):
                raise HelperError(f"{kind} {public(option)!r} lacks a part: write {forms[name]}")

    def load_tagger(self) -> Tagger:
        """Raises HelperError."""
        return _load(self).tagger

    def load_detector(self) -> Detector:
        """Raises HelperError."""
        return _load(self).detector

    def load_segmenter(self) -> Segmenter:
        """Raises HelperError."""
        return _load(self).segmenter

    def load_captioner(self) -> Captioner:
        """Raises HelperError."""
        return _load(self).captioner

    def load_scorer(self) -> QualityScorer:
        """Raises HelperError or BackboneError."""
        return _load(self).scorer


_FORMS = {
    "tagger": {"truth": "truth", "openai": "openai:URL#MODEL", "clip": "clip:MODEL#WORDS"},
    "detector": {"truth": "truth", "grounding-dino": "grounding-dino:MODEL"},
    "segmenter": {"truth": "truth", "sam2": "sam2:MODEL"},
    "captioner": {"truth": "truth", "openai": "openai:URL#MODEL", "transformers": "transformers:MODEL"},
    "scorer": {"towers": "towers:MODEL", "clip": "clip:MODEL"},
}


class _Loaded:
    """Each helper once per process, however many steps ask it."""

    def __init__(self, options: Helpers) -> None:
        self.options = options

    @cached_property
    def tagger(self) -> Tagger:
        kind, _, rest = self.options.tagger.partition(":")
        if kind == "truth":
            from intarsia.perception.truth_helpers import TruthTagger

            return TruthTagger(self.options.folder, self.options.noise)
        if kind == "openai":
            from intarsia.perception.chat_helpers import ChatTagger

            return ChatTagger(_client(rest))
        from intarsia.perception.encoders import ClipScorer, ZeroShotTagger

        model, _, words = rest.rpartition("#")
        return ZeroShotTagger(ClipScorer.load(model, self.options.device), _lines(words))

    @cached_property
    def detector(self) -> Detector:
        if self.options.detector == "truth":
            from intarsia.perception.truth_helpers import TruthDetector

            return TruthDetector(self.options.folder, self.options.noise)
        from intarsia.perception.grounding_dino import GroundingDetector

        return GroundingDetector.load(self.options.detector.partition(":")[2], self.options.device)

    @cached_property
    def segmenter(self) -> Segmenter:
        if self.options.segmenter == "truth":
            from intarsia.perception.truth_helpers import TruthSegmenter

            return TruthSegmenter(self.options.folder, self.options.noise)
        from intarsia.perception.sam2 import Sam2Segmenter

        return Sam2Segmenter.load(self.options.segmenter.partition(":")[2], self.options.device)

    @cached_property
    def captioner(self) -> Captioner:
        kind, _, rest = self.options.captioner.partition(":")
        if kind == "truth":
            from intarsia.perception.truth_helpers import TruthCaptioner

            return TruthCaptioner(self.options.folder, self.options.noise)
        if kind == "openai":
            from intarsia.perception.chat_helpers import ChatCaptioner

            return ChatCaptioner(_client(rest))
        from intarsia.perception.vision_captioner import VisionCaptioner

        return VisionCaptioner.load(rest, self.options.device)

    @cached_property
    def scorer(self) -> QualityScorer:
        from intarsia.perception.encoders import ClipScorer, TowerScorer

        kind, _, rest = self.options.scorer.partition(":")
        load = TowerScorer.load if kind == "towers" else ClipScorer.load
        return load(rest, self.options.device)


@lru_cache(maxsize=2)
def _load(options: Helpers) -> _Loaded:
    return _Loaded(options)


def _client(rest: str) -> ChatClient:
    url, _, model = rest.rpartition("#")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intarsia" / "helpers"
    return ChatClient(url, model, cache_dir=cache)


def _lines(path: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HelperError(f"the words {path} cannot be read ({error}): give a text file, one noun a line") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
