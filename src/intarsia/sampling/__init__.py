"""From noise to a picture: schedulers, guidance, the known region, one denoise loop, local-global stages.

Everything here works on plain tensors; cropping and pasting belong to the caller.
"""

from intarsia.sampling.denoise import Denoised, DenoiseStep, PromptEmbedding, denoise
from intarsia.sampling.errors import NonFinitePredictionError, SamplingError, SchedulerError
from intarsia.sampling.guidance import Block, Guidance, guide, guide_apart
from intarsia.sampling.inputs import latent_mask, masked_image
from intarsia.sampling.known_region import KnownRegion, blend_denoised, blend_noisy
from intarsia.sampling.noise import draw_noise, make_generators, start_latents
from intarsia.sampling.parametrisation import NoiseLevel, denoised_from, noise_level, prediction_from
from intarsia.sampling.reference import ReferenceBranch
from intarsia.sampling.run_stages import StageInput, StageOutput, StagesResult, run_stages
from intarsia.sampling.schedulers import SCHEDULERS, make_scheduler, set_steps
from intarsia.sampling.stages import Stage, late_start, plan_stages

__all__ = [
    "SCHEDULERS",
    "Block",
    "DenoiseStep",
    "Denoised",
    "Guidance",
    "KnownRegion",
    "NoiseLevel",
    "NonFinitePredictionError",
    "PromptEmbedding",
    "ReferenceBranch",
    "SamplingError",
    "SchedulerError",
    "Stage",
    "StageInput",
    "StageOutput",
    "StagesResult",
    "blend_denoised",
    "blend_noisy",
    "denoise",
    "denoised_from",
    "draw_noise",
    "guide",
    "guide_apart",
    "late_start",
    "latent_mask",
    "make_generators",
    "make_scheduler",
    "masked_image",
    "noise_level",
    "plan_stages",
    "prediction_from",
    "run_stages",
    "set_steps",
    "start_latents",
]
