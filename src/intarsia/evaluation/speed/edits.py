"""The same edit by our own loop and by the stock pipeline: same parts, words, picture, mask, steps and first noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from intarsia.backbones import Backbone

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Job:
    """What is painted: a square picture of smooth colours with a box in its middle as the hole."""

    side: int
    steps: int
    scale: float = 4.0
    scheduler: str = "ddim"
    prompt: str = "a red mug on the table"
    seed: int = 0

    def colours(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(side, side, 3) in [0, 1]."""
        rows, columns = np.mgrid[: self.side, : self.side].astype(np.float32) / self.side
        return np.stack([0.2 + 0.6 * rows, 0.2 + 0.6 * columns, 0.5 + 0.3 * np.sin(6 * rows)], axis=-1)

    def hole(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(side, side): a box of a quarter of the side, so that a window around it is smaller than the picture. It
        covers whole latent cells: of partly covered ones we repaint all, the stock pipeline some."""
        mask = np.zeros((self.side, self.side), bool)
        begin, end = self.side * 3 // 8, self.side * 5 // 8
        mask[begin:end, begin:end] = True
        return mask

    def tensors(self, device: Any = "cpu") -> tuple[Tensor, Tensor]:
        """Picture (1, 3, side, side) in [-1, 1] and mask (1, 1, side, side)."""
        import torch

        image = torch.from_numpy(self.colours()).permute(2, 0, 1)[None] * 2 - 1
        return image.to(device), torch.from_numpy(self.hole())[None, None].float().to(device)


def one_window(backbone: Backbone, job: Job, *, remember: bool = True) -> Tensor:
    """Our edit that does what the stock pipeline does, nothing more: one window, from noise, no blending; (1, 3, side,
    side) in [0, 1]."""
    from intarsia.conditioning import empty_conditioning, encode_prompt
    from intarsia.sampling import Guidance, Stage, StageInput, make_generators, make_scheduler, run_stages

    image, mask = job.tensors()
    guided = job.scale > 1
    result = run_stages(
        backbone,
        make_scheduler(backbone, job.scheduler),
        [Stage("local", 0, job.steps)],
        image,
        lambda stage, scene: StageInput(scene, mask),
        lambda stage, scene, painted: painted,
        positive=encode_prompt(backbone, job.prompt),
        negative=empty_conditioning(backbone) if guided else None,
        generators=make_generators([job.seed]),
        steps=job.steps,
        guidance=Guidance(job.scale),
        start="noise",
        blend_before=False,
        blend_after=False,
        remember_prompts=remember,
    )
    return (result.scene / 2 + 0.5).clamp(0, 1)


def two_windows(backbone: Backbone, job: Job) -> Any:
    """Our whole edit as the preset `paper` makes it: λ of the steps in the local window, the rest in the scene, the
    known region blended in each step; (side, side, 3) in [0, 1]."""
    from intarsia.conditioning import empty_conditioning, encode_prompt
    from intarsia.editing import PaintOptions, paint

    options = PaintOptions.preset("paper", steps=job.steps, guidance_scale=job.scale, scheduler=job.scheduler)
    return paint(
        backbone,
        job.colours(),
        job.hole(),
        positive=encode_prompt(backbone, job.prompt),
        negative=empty_conditioning(backbone) if job.scale > 1 else None,
        options=options,
        seed=job.seed,
    ).rgb


def stock_pipeline(backbone: Backbone, scheduler: str = "ddim") -> Any:
    """diffusers' own inpainting pipeline of the same parts."""
    import diffusers

    from intarsia.sampling import make_scheduler

    made: Any = diffusers.StableDiffusionXLInpaintPipeline
    pipe = made(
        vae=backbone.vae,
        unet=backbone.unet,
        text_encoder=backbone.text_encoder,
        text_encoder_2=backbone.text_encoder_2,
        tokenizer=backbone.tokenizer,
        tokenizer_2=backbone.tokenizer_2,
        scheduler=make_scheduler(backbone, scheduler),
        force_zeros_for_empty_prompt=backbone.force_zeros_for_empty_prompt,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock(pipe: Any, job: Job, *, masked_latents: Tensor | None = None) -> Tensor:
    """What the pipeline paints, (1, 3, side, side) in [0, 1]. It encodes the masked picture itself, with a draw from
    the posterior, unless it is given."""
    from intarsia.sampling import draw_noise, make_generators

    image, mask = job.tensors()
    cells = job.side // int(pipe.vae_scale_factor)
    painted: Tensor = pipe(
        prompt=job.prompt,
        image=image / 2 + 0.5,
        mask_image=mask,
        masked_image_latents=masked_latents,
        height=job.side,
        width=job.side,
        strength=1.0,
        num_inference_steps=job.steps,
        guidance_scale=job.scale,
        latents=draw_noise(make_generators([job.seed]), (4, cells, cells), pipe.device, pipe.unet.dtype),
        output_type="pt",
    ).images
    return painted


def greatest_difference(backbone: Backbone, pipe: Any, job: Job) -> float:
    """Between our one-window edit and the pipeline's picture, in pixels of [0, 1], both with the masked picture's mode:
    what is compared for speed must be the same picture."""
    import torch

    from intarsia.sampling import masked_image

    with torch.no_grad():
        masked = backbone.encode(masked_image(*job.tensors()))
    ours, theirs = one_window(backbone, job), stock(pipe, job, masked_latents=masked)
    return float((ours - theirs.to(ours)).abs().max())


@contextmanager
def with_lora_file(pipe: Any, folder: Any) -> Iterator[None]:
    """A LoRA file loaded by the stock pipeline's own loader, and unloaded; that it is for the U-Net alone, the loader
    would say each time."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        pipe.load_lora_weights(str(folder))
    finally:
        logging.set_verbosity(before)
    try:
        yield
    finally:
        pipe.unload_lora_weights()
