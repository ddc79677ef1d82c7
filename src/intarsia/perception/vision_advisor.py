"""The three requests to a local vision-language model of transformers."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intarsia.perception.errors import HelperError, NamerError, PerceptionError, shortened
from intarsia.perception.requests import AskingAdvisor

Answer = TypeVar("Answer")

_MOST_TOKENS = 1536
_MOST_STARTS = 8
_FORM = "\nAnswer with one JSON object of this JSON schema, without any other text:\n{schema}"
_AGAIN = "\nAn earlier answer was wrong: {problem}. Mind this."


class VisionAsker:
    """An instruct model (LLaVA; Qwen-VL and SmolVLM where torchvision is installed, SmolVLM with num2words) asked
    through its chat template, decoding greedily.

    The schema is told in words; JSON is read leniently (code fences, text around it, a trailing comma, Python's
    quotes) and then checked strictly. A wrong answer is told what was wrong and asked again.

    Args:
        load: () -> (model, processor, name), called at the first question and after `release`.
        retries: further attempts after a wrong answer.
    """

    def __init__(self, load: Callable[[], tuple[Any, Any, str]], retries: int = 2) -> None:
        if retries < 0:
            raise NamerError(f"{retries} retries cannot be made: use 0 or more")
        self.retries = retries
        self._load = load
        self._loaded: tuple[Any, Any, str] | None = None

    def ask(
        self,
        text: str,
        pictures: Sequence[NDArray[np.uint8]],
        schema: dict[str, Any],
        name: str,
        read: Callable[[Any], Answer],
    ) -> Answer:
        """See `Asker.ask`. Raises NamerError: the model cannot be loaded or asked, or gives no usable answer."""
        if self._loaded is None:
            self._loaded = self._load()
        question = text + _FORM.format(schema=json.dumps(schema))
        problem = ""
        for _ in range(self.retries + 1):
            said = self._said(question + (_AGAIN.format(problem=problem) if problem else ""), pictures)
            try:
                return read(json_in(said))
            except (PerceptionError, RecursionError) as error:
                problem = shortened(str(error))
        raise NamerError(
            f"{self._loaded[2]} gives no usable {name} in {self.retries + 1} attempts ({problem}): "
            "use a larger model, openai:URL#MODEL or yaml:PATH"
        )

    def release(self) -> None:
        """Give the model's memory back; another question loads it again."""
        self._loaded = None

    def _said(self, question: str, pictures: Sequence[NDArray[np.uint8]]) -> str:
        import torch

        assert self._loaded is not None
        model, processor, name = self._loaded
        if getattr(processor, "chat_template", None) is None:
            raise NamerError(f"{name} has no chat template, so it cannot be asked: use an instruct model")
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": question}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        images = [Image.fromarray(np.ascontiguousarray(pixels)) for pixels in pictures]
        inputs = processor(text=prompt, return_tensors="pt", **({"images": images} if images else {}))
        inputs = inputs.to(model.device, model.dtype)
        with torch.no_grad():
            output = model.generate(**inputs, max_new_tokens=_MOST_TOKENS, do_sample=False)
        asked = inputs["input_ids"].shape[1]
        text: str = processor.decode(output[0][asked:], skip_special_tokens=True)
        return text


class VisionAdvisor(AskingAdvisor):
    """An `AttributeAdvisor` by a local vision-language model, loaded when first asked."""

    def __init__(self, asker: VisionAsker, source: str) -> None:
        super().__init__(asker, source)
        self._asker = asker

    @classmethod
    def of(cls, model: str, device: str = "auto") -> VisionAdvisor:
        """From a folder or a name at the model hub; loading it may raise NamerError, when asked."""

        def load() -> tuple[Any, Any, str]:
            from transformers import AutoModelForImageTextToText, AutoProcessor

            from intarsia.perception.loading import load_parts

            try:
                parts, name = load_parts("vlm", model, device, AutoModelForImageTextToText, AutoProcessor)
            except HelperError as error:
                raise NamerError(str(error)) from error
            return parts[0], parts[1], name

        return cls(VisionAsker(load), f"vlm:{model}")

    def release(self) -> None:
        """See `VisionAsker.release`."""
        self._asker.release()


def json_in(text: str) -> Any:
    """The first object in what a model wrote, after its thinking, whatever stands around it.

    Raises:
        NamerError: there is none, or it is neither JSON nor a Python literal.
    """
    text = text.rpartition("</think>")[2]
    starts = [found.start() for found in re.finditer(r"{", text)][:_MOST_STARTS]
    for start in starts:
        with suppress(ValueError, RecursionError):
            return json.JSONDecoder().raw_decode(text, start)[0]
        body = re.sub(r",(\s*[\]}])", r"\1", text[start : text.rfind("}") + 1])
        for read in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                return read(body)
    raise NamerError("there is no JSON object in the answer" if not starts else "the answer is not JSON")
