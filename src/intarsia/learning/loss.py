"""The loss of learning a subject (eq. 7 and 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from intarsia.learning.errors import LearningError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Noised:
    """x_t = alpha · x0 + sigma · noise; latents (B, C, h, w), alpha and sigma (B, 1, 1, 1), alpha² + sigma²
    = 1.
    """

    clean: Tensor
    noise: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def x(self) -> Tensor:
        """x_t, what the U-Net sees."""
        return self.alpha * self.clean + self.sigma * self.noise


def predicted_noise(prediction: Tensor, noised: Noised, prediction_type: str) -> Tensor:
    """What a prediction p at x_t says about the noise: p itself, or alpha · p + sigma · x_t for a velocity,
    or (x_t - alpha · p) / sigma for the clean latent. (B, C, h, w)
    """
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "v_prediction":
        return noised.alpha * prediction + noised.sigma * noised.x
    if prediction_type == "sample":
        return (noised.x - noised.alpha * prediction) / noised.sigma
    raise LearningError(f"prediction type {prediction_type!r} is unknown: use epsilon, v_prediction or sample")


def prediction_error(prediction: Tensor, noised: Noised, prediction_type: str, space: str) -> Tensor:
    """The error of the noise, or ("velocity") of v = alpha · noise - sigma · clean. (B, C, h, w)

    At a given x_t the latter is the former divided by alpha: the velocity counts noisy steps more.
    """
    if space == "epsilon":
        return noised.noise - predicted_noise(prediction, noised, prediction_type)
    velocity = noised.alpha * noised.noise - noised.sigma * noised.clean
    if prediction_type == "v_prediction":
        return velocity - prediction
    return (noised.noise - predicted_noise(prediction, noised, prediction_type)) / noised.alpha


def reweighted(error: Tensor, mask: Tensor, weight_object: float, weight_background: float) -> Tensor:
    """mean(w ⊙ error²) of each sample, (B,); w = weight_object inside the latent mask, else
    weight_background (eq. 7).

    error (B, C, h, w), mask (B, 1, h, w) of 0 and 1. The weights are linear: they multiply the squared error.
    """
    weights = weight_background + (weight_object - weight_background) * mask
    return (weights * error.square()).mean(dim=(1, 2, 3))


def total_loss(losses: Tensor, regular: Tensor, beta: float | None) -> Tensor:
    """L = L_subject + beta · L_regular, each the mean over its own samples (eq. 8).

    losses (B,); regular (B,) bool tells which samples are regular. With beta None the samples were drawn in
    the right shares already, and the loss is the mean over all.
    """
    if beta is None or not bool(regular.any()):
        return losses.mean()
    if bool(regular.all()):
        return beta * losses.mean()
    return losses[~regular].mean() + beta * losses[regular].mean()
