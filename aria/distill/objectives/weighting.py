"""How much each noise level counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.settings.choices import PREDICTIONS


class Weighting(ABC):
    """A frozen dataclass that gives the weight of every timestep."""

    @abstractmethod
    def table(self, schedule: NoiseSchedule, prediction: str) -> Tensor:
        """(T,) factors of a squared error in the ``prediction`` type."""


@dataclass(frozen=True)
class Uniform(Weighting):
    """Errors count as they are."""

    def table(self, schedule: NoiseSchedule, prediction: str) -> Tensor:
        return torch.ones_like(schedule.alpha)


@dataclass(frozen=True)
class MinSNR(Weighting):
    r"""An error of the image :math:`x_0` counts :math:`\min(\mathrm{SNR}, \gamma)` (T. Hang et al., ICCV 2023).

    In noise predictions that is min(SNR, γ)/SNR, in velocities min(SNR, γ)/(SNR + 1).

    >>> schedule = NoiseSchedule(torch.tensor([0.8]), torch.tensor([0.6]))
    >>> MinSNR(gamma=1.0).table(schedule, "epsilon").item()
    0.5625
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        checks.positive("gamma", self.gamma)

    def table(self, schedule: NoiseSchedule, prediction: str) -> Tensor:
        snr = (schedule.alpha / schedule.sigma) ** 2
        table = snr.clamp(max=self.gamma) * _image_error(schedule, prediction)
        return table.nan_to_num(nan=1.0)  # 0·∞ where a noise prediction is of pure noise: min(SNR, γ)/SNR tends to 1


@dataclass(frozen=True)
class TruncatedSNR(Weighting):
    r"""An error of the image :math:`x_0` counts :math:`\max(\mathrm{SNR}, 1)` (T. Salimans, J. Ho, ICLR 2022).

    In velocities that is :math:`\max(\alpha_t^2, \sigma_t^2)`: where there is hardly any image left, errors of it count
    all the same, which a student of few steps needs. A noise prediction's errors count
    :math:`\max(1, \sigma_t^2/\alpha_t^2)`, which is infinite, and refused, where there is no image.

    >>> schedule = NoiseSchedule(torch.tensor([0.6]), torch.tensor([0.8]))
    >>> round(TruncatedSNR().table(schedule, "v_prediction").item(), 4)
    0.64
    """

    def table(self, schedule: NoiseSchedule, prediction: str) -> Tensor:
        most = torch.maximum(schedule.alpha, schedule.sigma) ** 2
        return most * _velocity_error(schedule, prediction, "truncated_snr")


@dataclass(frozen=True)
class Velocity(Weighting):
    r"""An error counts as it would as an error of the velocity: a noise prediction's by :math:`1/\alpha_t^2`.

    Where there is no image (or, for image predictions, no noise) that is infinite, and refused.

    >>> schedule = NoiseSchedule(torch.tensor([0.8]), torch.tensor([0.6]))
    >>> Velocity().table(schedule, "epsilon").item()
    1.5625
    """

    def table(self, schedule: NoiseSchedule, prediction: str) -> Tensor:
        return _velocity_error(schedule, prediction, "velocity")


def _velocity_error(schedule: NoiseSchedule, prediction: str, weighting: str) -> Tensor:
    """(T,) squared error of the velocity for a squared error 1 of the prediction; refused where it is infinite."""
    checks.one_of("prediction", prediction, PREDICTIONS)
    alpha, sigma = schedule.alpha, schedule.sigma
    table = {
        "sample": sigma**-2,
        "epsilon": alpha**-2,
        "v_prediction": torch.ones_like(alpha),
        "flow_prediction": (alpha + sigma) ** -2,
    }[prediction]
    if not bool(table.isfinite().all()):
        timestep = int(table.isfinite().long().argmin())
        raise ValueError(f"{weighting} weighting: an error of {prediction} counts infinitely at timestep {timestep}")
    return table


def _image_error(schedule: NoiseSchedule, prediction: str) -> Tensor:
    """(T,) squared error of the image for a squared error 1 of the prediction."""
    checks.one_of("prediction", prediction, PREDICTIONS)
    alpha, sigma = schedule.alpha, schedule.sigma
    return {
        "sample": torch.ones_like(alpha),
        "epsilon": (sigma / alpha) ** 2,
        "v_prediction": sigma**2,
        "flow_prediction": (sigma / (alpha + sigma)) ** 2,
    }[prediction]
