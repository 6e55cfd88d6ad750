r"""The noise schedule, and what a denoiser's output means in it.

A noised latent is :math:`x_t = \alpha_t x_0 + \sigma_t \epsilon`. A denoiser predicts the noise :math:`\epsilon`, the
velocity :math:`v = \alpha_t\epsilon - \sigma_t x_0` (T. Salimans, J. Ho, "Progressive distillation for fast sampling of
diffusion models", ICLR 2022), the image :math:`x_0`, or the flow :math:`\epsilon - x_0`. Each determines the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aria import checks

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")
"""diffusers' names for what a denoiser predicts."""


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

    @classmethod
    def of(cls, scheduler: Any) -> NoiseSchedule:
        """The schedule a diffusers scheduler was made with; every one that has ``alphas_cumprod`` will do."""
        if not hasattr(scheduler, "alphas_cumprod"):
            raise ValueError(
                f"{type(scheduler).__name__} has no alphas_cumprod; a teacher's scheduler is one with a table of "
                "noise levels, such as DDPMScheduler or DDIMScheduler"
            )
        signal = scheduler.alphas_cumprod.double().clamp(0, 1)
        return cls(signal.sqrt().float(), (1 - signal).sqrt().float())

    def __len__(self) -> int:
        return self.alpha.shape[0]

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The same schedule on ``device``."""
        return NoiseSchedule(self.alpha.to(device), self.sigma.to(device))

    def levels(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma of ``(B,)`` timesteps, shaped to multiply ``like`` (B, …)."""
        shape = (-1,) + (1,) * (like.ndim - 1)
        return self.alpha[timestep].view(shape).to(like), self.sigma[timestep].view(shape).to(like)

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) noised latents."""
        alpha, sigma = self.levels(timestep, clean)
        return alpha * clean + sigma * noise

    def snr(self, timestep: Tensor) -> Tensor:
        """(B,) signal-to-noise ratio α²/σ², float32; infinite where there is no noise."""
        return (self.alpha[timestep] / self.sigma[timestep]) ** 2

    def target(self, prediction: str, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) what a perfect denoiser of this ``prediction`` type would answer."""
        checks.one_of("prediction", prediction, PREDICTIONS)
        alpha, sigma = self.levels(timestep, clean)
        if prediction == "epsilon":
            return noise
        if prediction == "sample":
            return clean
        return alpha * noise - sigma * clean if prediction == "v_prediction" else noise - clean

    def clean(self, output: Tensor, prediction: str, noisy: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) the image x₀ an ``output`` speaks of; by noise predictions it cannot be told where α = 0."""
        checks.one_of("prediction", prediction, PREDICTIONS)
        alpha, sigma = self.levels(timestep, noisy)
        if prediction == "sample":
            return output
        if prediction == "epsilon":
            return (noisy - sigma * output) / alpha
        if prediction == "v_prediction":  # α²+σ² = 1 in every schedule with alphas_cumprod
            return alpha * noisy - sigma * output
        return (noisy - sigma * output) / (alpha + sigma)

    def noise(self, output: Tensor, prediction: str, noisy: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) the noise ε an ``output`` speaks of; by images it cannot be told where σ = 0."""
        checks.one_of("prediction", prediction, PREDICTIONS)
        alpha, sigma = self.levels(timestep, noisy)
        if prediction == "epsilon":
            return output
        if prediction == "sample":
            return (noisy - alpha * output) / sigma
        if prediction == "v_prediction":
            return sigma * noisy + alpha * output
        return (noisy + alpha * output) / (alpha + sigma)

    def convert(self, output: Tensor, given: str, wanted: str, noisy: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) the same belief said as another ``prediction`` type."""
        if given == wanted:
            checks.one_of("prediction", given, PREDICTIONS)
            return output
        if wanted == "epsilon":
            return self.noise(output, given, noisy, timestep)
        clean = self.clean(output, given, noisy, timestep)
        if wanted == "sample":
            return clean
        return self.target(wanted, clean, self.noise(output, given, noisy, timestep), timestep)

    def check_conversion(self, given: str, wanted: str) -> None:
        """Refuse a conversion that some timestep makes impossible: without a share of the image a noise prediction says
        nothing about it, without noise an image says nothing about the noise."""
        for prediction, level, what in (("epsilon", self.alpha, "image"), ("sample", self.sigma, "noise")):
            if given == prediction and wanted != given and not bool((level > 0).all()):
                timestep = int((level > 0).long().argmin())
                raise ValueError(f"{given} cannot be read as {wanted}: timestep {timestep} has no {what} in it")
