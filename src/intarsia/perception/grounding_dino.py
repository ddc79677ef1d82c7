"""Boxes for words by Grounding DINO (Liu et al. 2023), through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from intarsia.perception.helpers import Detection, Photo
from intarsia.perception.masks import clip_box

_MOST_TAGS = 24


class GroundingDetector:
    """Asks for up to 24 tags at once ("mug. toy duck."): a query belongs to the tag with the highest token.

    A detection's ``score`` is the tag's best token (what papers threshold as the box score), its ``text_score`` the
    mean over the tag's tokens: a long tag of which only one word fits scores lower.

    Args:
        model: `GroundingDinoForObjectDetection` or another zero-shot detector with the same outputs.
        tokenizer: a fast tokenizer, for it must tell where tokens come from.
        least: boxes below this score are not reported; thresholds are cut later.
    """

    def __init__(
        self, model: Any, tokenizer: Any, image_processor: Any, name: str = "grounding-dino", least: float = 0.2
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.name = name
        self.least = least

    @classmethod
    def load(cls, model: str, device: str = "auto") -> GroundingDetector:
        """From a folder or a name at the model hub. Raises HelperError."""
        from transformers import AutoImageProcessor, AutoModelForZeroShotObjectDetection, AutoTokenizer

        from intarsia.perception.loading import load_parts

        (loaded, tokenizer, processor), name = load_parts(
            "grounding-dino", model, device, AutoModelForZeroShotObjectDetection, AutoTokenizer, AutoImageProcessor
        )
        return cls(loaded, tokenizer, processor, name)

    def detect(self, photo: Photo, tags: Sequence[str]) -> list[Detection]:
        """See `Detector.detect`; best score first."""
        found: list[Detection] = []
        for start in range(0, len(tags), _MOST_TAGS):
            found += self._detect(photo, tags[start : start + _MOST_TAGS])
        return sorted(found, key=lambda detection: -detection.score)

    def _detect(self, photo: Photo, tags: Sequence[str]) -> list[Detection]:
        import torch

        text, spans = "", []
        for tag in tags:
            spans.append((len(text), len(text) + len(tag)))
            text += tag + ". "
        encoded = self.tokenizer(text.strip(), return_tensors="pt", return_offsets_mapping=True, truncation=True)
        offsets = encoded.pop("offset_mapping")[0].tolist()
        image = Image.fromarray(np.ascontiguousarray(photo.rgb))
        inputs = {**self.image_processor(images=image, return_tensors="pt"), **encoded}
        with torch.no_grad():
            output = self.model(**{name: self._placed(value) for name, value in inputs.items()})
        scores = output.logits[0].float().sigmoid().cpu().numpy()
        boxes = output.pred_boxes[0].float().cpu().numpy()
        tokens = [
            [n for n, (first, last) in enumerate(offsets) if first < last and start <= first and last <= end]
            for start, end in spans
        ]
        heard = [n for n, indices in enumerate(tokens) if indices]
        if not heard:
            return []
        best = np.stack([scores[:, tokens[n]].max(axis=1) for n in heard], axis=1)
        height, width = photo.size
        found = []
        for query in np.flatnonzero(best.max(axis=1) >= self.least):
            which = int(best[query].argmax())
            centre_x, centre_y, w, h = boxes[query]
            box = clip_box((centre_x - w / 2) * width, (centre_y - h / 2) * height, w * width, h * height, photo.size)
            if box is not None:
                mean = float(scores[query, tokens[heard[which]]].mean())
                found.append(Detection(box, tags[heard[which]], float(best[query, which]), mean))
        return found

    def _placed(self, value: Any) -> Any:
        value = value.to(self.model.device)
        return value.to(self.model.dtype) if value.is_floating_point() else value
