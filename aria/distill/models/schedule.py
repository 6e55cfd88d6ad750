r"""The noise schedule, and what a denoiser's output means in it.

A noised latent is :math:`x_t = \alpha_t x_0 + \sigma_t \epsilon`. A denoiser predicts the noise :math:`\epsilon`, the
velocity :math:`v = \alpha_t\epsilon - \sigma_t x_0` (T. Salimans, J. Ho, "Progressive distillation for fast sampling of
diffusion models", ICLR 2022), the image :math:`x_0`, or the flow :math:`\epsilon - x_0`. Each determines the others.

Timesteps are the numbers :math:`0 \dots T-1` of the levels, the least noise first. In a schedule with
``alphas_cumprod`` they are also the model's input, and :math:`\alpha_t^2 + \sigma_t^2 = 1`. In flow matching
:math:`\alpha = 1 - \sigma`, and the model's input is :math:`T\sigma`. There the levels are the ``T`` that diffusers'
scheduler begins with, shifted as its configuration says:

.. math:: \sigma_i = \frac{s\,u_i}{1 + (s - 1)u_i}, \qquad u_i = \frac{i + 1}{T}

so that equally likely levels are as dense as the pipeline's steps (P. Esser et al., "Scaling rectified flow
transformers for high-resolution image synthesis", ICML 2024). A shift that depends on the images' size is left to the
pipeline: the levels are then spread evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aria import checks
from aria.distill.settings.choices import PREDICTIONS

STEEPEST = 100.0
"""The largest σ/α at which a noise prediction is used: an error in the noise is that many times larger in the image."""


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Signal and noise levels by timestep.

    >>> schedule = NoiseSchedule(torch.tensor([1.0, 0.6]), torch.tensor([0.0, 0.8]))
    >>> schedule.add_noise(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.tensor([1])).item()
    0.6
    """

    alpha: Tensor
    """(T,) share of the image."""
    sigma: Tensor
    """(T,) share of the noise."""
    time: Tensor | None = None
    """(T,) the model's time input at each level; None where that is the timestep itself."""

    @classmethod
    def of(cls, scheduler: Any) -> NoiseSchedule:
        """The schedule a diffusers scheduler was made with; every one that matches flows or has ``alphas_cumprod``."""
        if matches_flows(scheduler):
            return cls.flow(scheduler.config.num_train_timesteps, _shift(scheduler.config))
        if not hasattr(scheduler, "alphas_cumprod"):
            raise ValueError(
                f"{type(scheduler).__name__} has no alphas_cumprod; a teacher's scheduler is one with a table of "
                "noise levels, such as DDPMScheduler or DDIMScheduler, or one that matches flows"
            )
        signal = scheduler.alphas_cumprod.double().clamp(0, 1)
        return cls(signal.sqrt().float(), (1 - signal).sqrt().float())

    @classmethod
    def flow(cls, timesteps: int, shift: float = 1.0) -> NoiseSchedule:
        """``timesteps`` levels of flow matching.

        >>> NoiseSchedule.flow(4, shift=3.0).time.tolist()
        [2.0, 3.0, 3.5999999046325684, 4.0]
        """
        even = torch.arange(1, timesteps + 1, dtype=torch.float64) / timesteps
        sigma = (shift * even / (1 + (shift - 1) * even)).float()
        return cls(1 - sigma, sigma, sigma * timesteps)

    def __len__(self) -> int:
        return self.alpha.shape[0]

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The same schedule on ``device``."""
        return NoiseSchedule(
            self.alpha.to(device), self.sigma.to(device), None if self.time is None else self.time.to(device)
        )

    @property
    def noisiness(self) -> Tensor:
        """(T,) float64 how far each level is on the way from the image to pure noise: σ in flow matching, else t/T."""
        if self.time is not None:
            return self.sigma.double()
        return torch.arange(len(self), dtype=torch.float64, device=self.alpha.device) / len(self)

    def levels(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma of ``(B,)`` timesteps, shaped to multiply ``like`` (B, …)."""
        shape = (-1,) + (1,) * (like.ndim - 1)
        return self.alpha[timestep].view(shape).to(like), self.sigma[timestep].view(shape).to(like)

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) noised latents."""
        alpha, sigma = self.levels(timestep, clean)
        return alpha * clean + sigma * noise

    def telling(self) -> Tensor:
        """(n,) the timesteps at which an output determines the image, σ/α at most :data:`STEEPEST`.

        >>> NoiseSchedule(torch.tensor([1.0, 0.6, 0.0]), torch.tensor([0.0, 0.8, 1.0])).telling()
        tensor([0, 1])
        """
        return (self.sigma <= STEEPEST * self.alpha).nonzero().flatten()

    def snr(self, timestep: Tensor) -> Tensor:
        """(B,) signal-to-noise ratio α²/σ², float32; infinite where there is no noise."""
        return (self.alpha[timestep] / self.sigma[timestep]) ** 2

    def target(self, prediction: str, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) what a perfect denoiser of this ``prediction`` type would return."""
        checks.one_of("prediction", prediction, PREDICTIONS)
        alpha, sigma = self.levels(timestep, clean)
        if prediction == "epsilon":
            return noise
        if prediction == "sample":
            return clean
        return alpha * noise - sigma * clean if prediction == "v_prediction" else noise - clean

    def clean(self, output: Tensor, prediction: str, noisy: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) the image x₀ that an ``output`` implies; undefined for noise predictions where α = 0."""
        checks.one_of("prediction", prediction, PREDICTIONS)
        alpha, sigma = self.levels(timestep, noisy)
        if prediction == "sample":
            return output
        if prediction == "epsilon":
            return (noisy - sigma * output) / alpha
        if prediction == "v_prediction":
            return (alpha * noisy - sigma * output) / self._square(alpha, sigma)
        return (noisy - sigma * output) / (alpha + sigma)

    def noise(self, output: Tensor, prediction: str, noisy: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) the noise ε that an ``output`` implies; undefined for image predictions where σ = 0."""
        checks.one_of("prediction", prediction, PREDICTIONS)
        alpha, sigma = self.levels(timestep, noisy)
        if prediction == "epsilon":
            return output
        if prediction == "sample":
            return (noisy - alpha * output) / sigma
        if prediction == "v_prediction":
            return (sigma * noisy + alpha * output) / self._square(alpha, sigma)
        return (noisy + alpha * output) / (alpha + sigma)

    def convert(self, output: Tensor, given: str, wanted: str, noisy: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) an ``output`` of the type ``given``, converted to the type ``wanted``."""
        if given == wanted:
            checks.one_of("prediction", given, PREDICTIONS)
            return output
        if wanted == "epsilon":
            return self.noise(output, given, noisy, timestep)
        clean = self.clean(output, given, noisy, timestep)
        if wanted == "sample":
            return clean
        return self.target(wanted, clean, self.noise(output, given, noisy, timestep), timestep)

    def _square(self, alpha: Tensor, sigma: Tensor) -> Tensor | float:
        """α² + σ², which is 1 in every schedule with ``alphas_cumprod``."""
        return 1.0 if self.time is None else alpha**2 + sigma**2

    def check_conversion(self, given: str, wanted: str) -> None:
        """Refuse a conversion that some timestep makes impossible: without a share of the image a noise prediction does
        not determine it, and without noise an image does not determine the noise. Schedulers of flow matching take only
        flows, so a student whose teacher predicts flows must predict them as well."""
        if self.time is not None and given != wanted:
            raise ValueError(f"{given} cannot be read as {wanted}: a pipeline that matches flows takes nothing else")
        for prediction, level, what in (("epsilon", self.alpha, "image"), ("sample", self.sigma, "noise")):
            if given == prediction and wanted != given and not bool((level > 0).all()):
                timestep = int((level > 0).long().argmin())
                raise ValueError(f"{given} cannot be read as {wanted}: timestep {timestep} has no {what} in it")


class Timed:
    """Calls models whose time input is not the timestep's number but its entry in ``time`` (T,)."""

    def __init__(self, ask: Any, time: Tensor) -> None:
        self.ask, self.time = ask, time
        self.takes_guidance = bool(getattr(ask, "takes_guidance", True))

    def __call__(self, model: Any, noisy: Tensor, timestep: Tensor, condition: dict[str, Tensor]) -> Tensor:
        """(B, …) the model's output at ``(B,)`` timesteps."""
        if self.time.device != timestep.device:
            self.time = self.time.to(timestep.device)
        output: Tensor = self.ask(model, noisy, self.time[timestep], condition)
        return output


def matches_flows(scheduler: Any) -> bool:
    """Whether a diffusers scheduler is one of flow matching."""
    return "FlowMatch" in type(scheduler).__name__ or bool(scheduler.config.get("use_flow_sigmas"))


def prediction_of(scheduler: Any) -> str:
    """What a pipeline with this scheduler has its model predict."""
    return "flow_prediction" if matches_flows(scheduler) else str(scheduler.config.prediction_type)


def _shift(config: Any) -> float:
    """How far levels are moved towards noise; 1 leaves them where they are."""
    if config.get("use_dynamic_shifting"):
        return 1.0
    return float(config.get("shift", config.get("flow_shift", 1.0)))
