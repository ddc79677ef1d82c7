"""Any diffusers scheduler that makes one model call per step, by a friendly name or its class name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from intarsia.sampling.errors import SchedulerError
from intarsia.sampling.parametrisation import PREDICTION_TYPES

if TYPE_CHECKING:
    import torch

    from intarsia.backbones import Backbone

_SDE = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}
_MULTISTEP = "DPMSolverMultistepScheduler"

SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "ddim": ("DDIMScheduler", {}),
        "ddpm": ("DDPMScheduler", {}),
        "euler": ("EulerDiscreteScheduler", {}),
        "euler_karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
        "euler_a": ("EulerAncestralDiscreteScheduler", {}),
        "dpmpp_2m": (_MULTISTEP, {}),
        "dpmpp_2m_karras": (_MULTISTEP, {"use_karras_sigmas": True}),
        "dpmpp_2m_sde": (_MULTISTEP, _SDE),
        "dpmpp_2m_sde_karras": (_MULTISTEP, {**_SDE, "use_karras_sigmas": True}),
        "unipc": ("UniPCMultistepScheduler", {}),
        "deis": ("DEISMultistepScheduler", {}),
    }
)
"""Friendly name -> (diffusers class, settings on top of the model's own)."""

_TWO_CALLS = "it calls the model twice per step"
_REFUSED = {
    "heun": _TWO_CALLS,
    "lcm": "it needs a distilled model",
    "HeunDiscreteScheduler": _TWO_CALLS,
    "KDPM2DiscreteScheduler": _TWO_CALLS,
    "KDPM2AncestralDiscreteScheduler": _TWO_CALLS,
    "DPMSolverSDEScheduler": "its noise cannot be drawn from a generator per sample",
    "PNDMScheduler": "it takes more model calls than steps",
    "LCMScheduler": "it needs a distilled model",
    "TCDScheduler": "it needs a distilled model",
}


def make_scheduler(backbone_or_config: Backbone | Mapping[str, Any], name: str, **overrides: Any) -> Any:
    """A new scheduler with the model's noise schedule.

    Args:
        backbone_or_config: a `Backbone`, or the dictionary of a `scheduler_config.json`.
        name: a key of `SCHEDULERS`, or the class name of a diffusers scheduler.
        overrides: settings of that class, e.g. `timestep_spacing="trailing"`.

    Raises:
        SchedulerError: unknown name (lists the known ones), a scheduler this loop cannot drive (says why), or
            a setting the scheduler does not have.
    """
    import diffusers

    config = (
        backbone_or_config if isinstance(backbone_or_config, Mapping) else backbone_or_config.scheduler_config
    )
    class_name, settings = SCHEDULERS.get(name, (name, {}))
    if name in _REFUSED:
        raise SchedulerError(f"scheduler {name!r} cannot be used ({_REFUSED[name]}): use one of {_names()}")
    scheduler_class = getattr(diffusers, class_name, None) if class_name.endswith("Scheduler") else None
    if scheduler_class is None:
        raise SchedulerError(
            f"unknown scheduler {name!r}: use one of {_names()}, or the class name of a diffusers scheduler"
        )
    accepted = set(inspect.signature(scheduler_class.__init__).parameters) - {"self"}
    unknown = sorted(set(overrides) - accepted)
    if unknown:
        raise SchedulerError(f"{class_name} has no setting {', '.join(unknown)}: remove it")
    wanted = {key: value for key, value in config.items() if key in accepted}
    # Latents are not bounded by 1, but some schedulers clip them unless told otherwise.
    wanted |= {key: False for key in ("clip_sample", "thresholding") if key in accepted}
    try:
        scheduler = scheduler_class(**{**wanted, **settings, **overrides})
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        raise SchedulerError(f"{class_name} refuses these settings ({error}): change them") from error
    _require_drivable(scheduler, class_name)
    return scheduler


def set_steps(scheduler: Any, steps: int, start: int = 0, device: str | torch.device = "cpu") -> Any:
    """Ready a scheduler (in place) for steps [start, steps) of a schedule of `steps`; forgets any history.

    Raises:
        SchedulerError: steps or start out of range, or a scheduler that makes another number of model calls.
    """
    limit = int(scheduler.config.num_train_timesteps)
    if not 1 <= steps <= limit:
        raise SchedulerError(f"{steps} steps cannot be scheduled: use 1 to {limit}")
    if not 0 <= start < steps:
        raise SchedulerError(f"start step {start} is outside 0..{steps - 1}: choose another")
    try:
        scheduler.set_timesteps(steps, device=device)
    except (ValueError, IndexError) as error:
        raise SchedulerError(
            f"{type(scheduler).__name__} cannot make {steps} steps ({error}): change them"
        ) from error
    if len(scheduler.timesteps) != steps:
        raise SchedulerError(
            f"{type(scheduler).__name__} makes {len(scheduler.timesteps)} model calls for {steps} steps: "
            f"use one of {_names()}"
        )
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    return scheduler


def _require_drivable(scheduler: Any, class_name: str) -> None:
    config = scheduler.config
    reason = None
    if getattr(scheduler, "order", 1) != 1:
        reason = _TWO_CALLS
    elif class_name.startswith("FlowMatch") or config.get("use_flow_sigmas"):
        reason = "it is made for flow-matching models"
    elif class_name.startswith("EDM") or not hasattr(scheduler, "alphas_cumprod"):
        reason = "it has not the noise schedule of a latent diffusion model"
    elif config.get("prediction_type", "epsilon") not in PREDICTION_TYPES:
        reason = f"prediction type {config['prediction_type']!r} is not one of {PREDICTION_TYPES}"
    elif not hasattr(scheduler, "add_noise") or not hasattr(scheduler, "init_noise_sigma"):
        reason = "it cannot add noise to a latent"
    if reason is not None:
        raise SchedulerError(f"scheduler {class_name!r} cannot be used ({reason}): use one of {_names()}")


def _names() -> str:
    return ", ".join(sorted(SCHEDULERS))
