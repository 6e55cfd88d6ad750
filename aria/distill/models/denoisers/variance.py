r"""The learned variance of DiT and PixArt: the half of an output that pipelines leave aside.

These models return :math:`2C` channels for latents of :math:`C`: the noise, and where between its two bounds the
logarithm of the reverse step's variance lies (A. Nichol, P. Dhariwal, "Improved denoising diffusion probabilistic
models", ICML 2021). All terms of the loss look at the noise alone, since that is what an output means in a schedule.
The variance has a term of its own, which is part of every run whose teacher is evaluated plainly: with ``output`` it
distils all channels. Without it the student's variance would drift with layers that are trained for something else, and
sampling with it would add noise that was never learned.

The output of a guided or halved teacher is computed from several forward passes, and no variance belongs to it. The
term is left out there, and the student's variance does drift: sample such a student deterministically, as DDIM and
DPM-Solver do, which ignore the variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aria.distill.objectives.base import Answer, Objective, Pairs, Shown, per_sample


@dataclass(frozen=True)
class Variance(Objective):
    r""":math:`\|v_S(x_t, t, c) - v_T(x_t, t, c)\|^2`, the mean over the second half of all channels.

    It is read off the last layer, whose (B, N, p·p·2C) features are the output in patches, channels last. It counts the
    same at every noise level: a variance is no prediction whose error a weighting could translate.
    """

    layer: str = "proj_out"
    """The last layer of both models."""

    def pairs(self, default: Pairs) -> Pairs:
        return ((self.layer, self.layer),)

    def __call__(self, shown: Shown, teacher: Answer, student: Answer) -> Tensor:
        channels = shown.clean.shape[1]
        apart = student.features[0] - teacher.features[0]
        return per_sample(apart.reshape(*apart.shape[:-1], -1, 2 * channels)[..., channels:])


def learned(model: Any, layer: str) -> tuple[Variance, ...]:
    """The term of a model that predicts a variance, with ``layer``; none for one that does not."""
    return (Variance(layer=layer),) if model.config.out_channels == 2 * model.config.in_channels else ()
