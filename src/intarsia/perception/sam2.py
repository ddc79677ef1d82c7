"""Masks for boxes by SAM 2 (Ravi et al. 2024), through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intarsia.imaging import Window
from intarsia.perception.helpers import Box, Photo, Segmentation

# ImageNet's statistics, which all SAM checkpoints use.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


class Sam2Segmenter:
    """Encodes a picture once and prompts with its boxes, one mask each.

    Pictures are prepared here (stretched to the model's square side, normalised), as the model's own processor needs
    torchvision, which the package does not.
    """

    def __init__(self, model: Any, name: str = "sam2") -> None:
        self.model = model.eval().requires_grad_(False)
        self.name = name
        self._seen: tuple[Photo, Any] | None = None

    @classmethod
    def load(cls, model: str, device: str = "auto") -> Sam2Segmenter:
        """From a folder or a name at the model hub. Raises HelperError."""
        from transformers import Sam2Model

        from intarsia.perception.loading import load_parts

        (loaded,), name = load_parts("sam2", model, device, Sam2Model)
        return cls(loaded, name)

    def segment(self, photo: Photo, boxes: Sequence[Box]) -> list[Segmentation]:
        """See `Segmenter.segment`."""
        import torch
        from torch.nn.functional import interpolate

        if not boxes:
            return []
        height, width = photo.size
        side = self._side()
        scale = np.array([side / width, side / height] * 2, np.float32)
        corners = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.float32) * scale
        with torch.no_grad():
            output = self.model(
                image_embeddings=self._embeddings(photo),
                input_boxes=torch.from_numpy(corners)[None].to(self.model.device, self.model.dtype),
                multimask_output=False,
            )
            logits = interpolate(output.pred_masks[0].float(), (height, width), mode="bilinear", align_corners=False)
        masks, ious = (logits[:, 0] > 0).cpu().numpy(), output.iou_scores[0, :, 0].float().cpu().numpy()
        return [Segmentation(mask, float(np.clip(iou, 0.0, 1.0))) for mask, iou in zip(masks, ious, strict=True)]

    def _side(self) -> int:
        return int(self.model.config.prompt_encoder_config.image_size)

    def _embeddings(self, photo: Photo) -> Any:
        import torch

        if self._seen is None or self._seen[0].rgb is not photo.rgb:
            side = self._side()
            pixels = (Window.resize(photo.rgb.astype(np.float32) / 255, (side, side), "bilinear") - _MEAN) / _STD
            values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
            values = values.to(self.model.device, self.model.dtype)
            self._seen = photo, self.model.get_image_embeddings(values)
        return list(self._seen[1])
