r"""The exact denoiser of images that are mixtures of Gaussians.

Given a condition, an image is :math:`x_0 = m_j + z` with a template :math:`m_j` picked at random and
:math:`z \sim N(0, \Sigma)`, so :math:`x_t = \alpha x_0 + \sigma\epsilon` is a mixture too, and with
:math:`S_t = \alpha^2\Sigma + \sigma^2 I`

.. math:: E[x_0|x_t] = \sum_j r_j \left(m_j + \alpha\Sigma S_t^{-1}(x_t - \alpha m_j)\right), \qquad
          r_j \propto \pi_j \exp\left(-\tfrac12 (x_t-\alpha m_j)^T S_t^{-1} (x_t-\alpha m_j)\right).

All of it is elementwise in the eigenbasis of :math:`\Sigma`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aria.distill.models.schedule import NoiseSchedule


class MixtureTeacher(nn.Module):
    """Predicts the noise exactly: of a condition from its templates, and of the null condition from all templates."""

    alpha: Tensor
    sigma: Tensor
    templates: Tensor
    share: Tensor
    basis: Tensor
    spectrum: Tensor

    def __init__(
        self, templates: Tensor, share: Tensor, basis: Tensor, spectrum: Tensor, schedule: NoiseSchedule
    ) -> None:
        """
        Args:
            templates: (N, J, D) means of each condition's images, equally likely.
            share: (N,) weight of each condition in the null condition's mixture.
            basis: (D, D) eigenvectors of the covariance, one in each column.
            spectrum: (D,) eigenvalues of the covariance.
        """
        super().__init__()
        self.register_buffer("alpha", schedule.alpha, persistent=False)
        self.register_buffer("sigma", schedule.sigma, persistent=False)
        self.register_buffer("templates", templates @ basis)  # in the eigenbasis
        self.register_buffer("share", share / share.sum())
        self.register_buffer("basis", basis)
        self.register_buffer("spectrum", spectrum)

    def forward(self, noisy: Tensor, timestep: Tensor, concept: Tensor) -> Tensor:
        """(B, …) noise of ``noisy`` (B, …) at ``(B,)`` timesteps; a concept of N is the null condition."""
        count = len(self.templates)
        x = noisy.flatten(1) @ self.basis  # (B, D)
        null = concept == count
        means = self.templates[concept.clamp(max=count - 1)]  # (B, J, D)
        noise = self._noise(x, timestep, means, means.new_zeros(means.shape[:2]))
        # Finding the null rows needs a host sync on an accelerator: there both means are computed for every row.
        rows = null.nonzero()[:, 0] if null.is_cpu else torch.arange(len(null), device=null.device)
        everything = self.templates.flatten(0, 1)  # (NJ, D)
        prior = self.share.log().repeat_interleave(self.templates.shape[1])
        unconditional = noise.index_copy(0, rows, self._noise(x[rows], timestep[rows], everything, prior))
        noise = torch.where(null[:, None], unconditional, noise)
        return (noise @ self.basis.T).view_as(noisy)

    def _noise(self, x: Tensor, timestep: Tensor, means: Tensor, prior: Tensor) -> Tensor:
        alpha, sigma = (level[timestep, None].to(x) for level in (self.alpha, self.sigma))  # (B, 1)
        spread = alpha**2 * self.spectrum + sigma**2  # (B, D)
        near, size = _inner(x / spread, means), _inner(1 / spread, means.square())  # (B, J)
        weight = torch.softmax(prior + alpha * near - alpha**2 * size / 2, -1)  # terms that all templates share cancel
        mean = _inner(weight, means.transpose(-1, -2))  # (B, D)
        return sigma * (x - alpha * mean) / spread


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """(B, J) inner products of ``x`` (B, D) with the rows of ``y``, (J, D) or (B, J, D)."""
    return x @ y.T if y.ndim == 2 else (y @ x[..., None])[..., 0]
