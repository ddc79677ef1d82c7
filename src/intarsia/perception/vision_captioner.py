"""Short local captions by an image-text-to-text model of transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from intarsia.perception.helpers import BoolArray, Box, Description, Photo, View, crop, cut_out

_SURROUNDINGS = 0.25
_MOST_TOKENS = 32
_QUESTION = (
    "Describe the one thing in {where} in five to ten words: its colour and material first, then what it is, then a "
    "pattern or what it wears, if anything. Nothing of its place or background. Answer with the words only."
)


class VisionCaptioner:
    """A model that is asked through its chat template (LLaVA …; Qwen-VL and SmolVLM need torchvision), or one that
    only captions (BLIP).

    The description's score is the geometric mean of its tokens' probabilities under greedy decoding.
    """

    def __init__(self, model: Any, processor: Any, name: str = "captioner") -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.name = name

    @classmethod
    def load(cls, model: str, device: str = "auto") -> VisionCaptioner:
        """From a folder or a name at the model hub. Raises HelperError."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from intarsia.perception.loading import load_parts

        (loaded, processor), name = load_parts("captioner", model, device, AutoModelForImageTextToText, AutoProcessor)
        return cls(loaded, processor, name)

    def caption(self, photo: Photo, box: Box, mask: BoolArray, view: View = "context") -> Description:
        """See `Captioner.caption`."""
        import torch

        cut = view == "cutout"
        pixels = cut_out(photo.rgb, mask, box) if cut else crop(photo.rgb, box, _SURROUNDINGS)
        inputs = self._inputs(Image.fromarray(np.ascontiguousarray(pixels)), cut)
        inputs = inputs.to(self.model.device, self.model.dtype)
        asked = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        with torch.no_grad():
            output = self.model.generate(
                **inputs,
                max_new_tokens=_MOST_TOKENS,
                do_sample=False,
                output_scores=True,
                return_dict_in_generate=True,
            )
        tokens = output.sequences[0]
        tokens = tokens[asked:] if len(tokens) > len(output.scores) else tokens
        chosen = [
            float(scores[0].float().log_softmax(-1)[token])
            for token, scores in zip(tokens[-len(output.scores) :], output.scores, strict=True)
        ]
        text = self.processor.decode(tokens, skip_special_tokens=True)
        score = float(np.exp(np.mean(chosen))) if chosen else None
        return Description(" ".join(text.lower().split()).strip(" ."), score)

    def _inputs(self, image: Image.Image, cut: bool) -> Any:
        if getattr(self.processor, "chat_template", None) is None:
            return self.processor(images=image, return_tensors="pt")
        where = "this picture (cut out, on white)" if cut else "the middle of this picture"
        content = [{"type": "image"}, {"type": "text", "text": _QUESTION.format(where=where)}]
        prompt = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return self.processor(images=image, text=prompt, return_tensors="pt")
