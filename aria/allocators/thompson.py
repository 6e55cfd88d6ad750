"""Thompson sampling without random numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aria import checks
from aria.allocators import reading
from aria.interfaces import Allocator, Estimate


@dataclass(frozen=True)
class Thompson(Allocator):
    r"""The probability that a region is the worst, as far as is known.

    .. math:: q_k = P\big(b_k\theta_k = \max_j b_j\theta_j\big), \qquad b_k = p_k^{base},\quad
              \theta_k \sim N(m_k, s_k^2) \text{ independent}

    Drawing a region from :math:`q` *is* Thompson sampling, so the allocation needs no random numbers of its own. It is

    .. math:: q_k = \int F(x)\, \frac{\phi_k(x)}{\Phi_k(x)}\, dx, \qquad F = \prod_j \Phi_j,

    with :math:`\phi_k, \Phi_k` the density and distribution function of :math:`b_k\theta_k`, by a quadrature of
    ``nodes`` points (see :func:`most_likely_largest`). Its error is about 1e-11 where the widths are within a factor
    of a thousand, and 3e-8 at worst, beside known values (:math:`s_k = 0`) or beliefs a hundred million times
    narrower than others. Known values that are tied share equally.

    *Unseen regions.* Let the widths of ``m`` of the beliefs grow without bound. In the limit the seen ones are zeros
    beside them, and some unseen :math:`b_k\theta_k` is positive with probability :math:`1-2^{-m}`, whatever the widths.
    So the unseen regions get :math:`1-2^{-m}` together and the seen ones keep :math:`2^{-m}` times what they have among
    themselves. How the unseen ones divide theirs depends on how fast each width grows; they share it by the base
    measure, equally where that is equal. Where nothing is seen, that is all there is.

    W. R. Thompson, "On the likelihood that one unknown probability exceeds another in view of the evidence of two
    samples", Biometrika 25, 1933.

    >>> q = Thompson()(Estimate(torch.tensor([1.0, 2.0]), torch.tensor([0.6, 0.8])), torch.tensor([0.5, 0.5]))
    >>> q.round(decimals=4)  # Phi(1) = 0.8413
    tensor([0.1587, 0.8413], dtype=torch.float64)
    """

    base: float = 1.0
    nodes: int = 192

    def __post_init__(self) -> None:
        checks.non_negative("base", self.base)
        checks.whole("nodes", self.nodes, least=16)

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        prior = reading.measure(mass.double(), self.base).expand(estimate.value.shape)  # (..., K)
        seen = estimate.value.isfinite() & estimate.stderr.isfinite() & (mass > 0)
        unseen = ~seen & (mass > 0)
        value, stderr = (part.double().masked_fill(~seen, 0) for part in estimate)
        scale = torch.maximum(value.abs(), stderr).amax(-1, keepdim=True)  # (..., 1)
        unit = scale + (scale == 0)
        known = most_likely_largest(prior * (value / unit), prior * (stderr / unit), seen, self.nodes)
        known = torch.where(scale > 0, known, _share(prior * seen))  # all zero says nothing: the base measure
        rest = 0.5 ** unseen.sum(-1, keepdim=True)
        return (1 - rest) * _share(prior * unseen) + rest * known

    @classmethod
    def examples(cls) -> Iterable[Thompson]:
        return cls(), cls(base=0.0), cls(base=0.5, nodes=64)


REACH = 8.5
"""Beyond this many widths from its mean a Gaussian has probability 1e-17: nothing in float64."""
NEGLIGIBLE = -25.0
"""The integral starts where the logarithm of F passes this: it leaves out 1e-11."""
RESOLUTION = 1e-8
"""Widths below this share of the range that matters are raised to it: a known value becomes a very narrow belief."""
CHUNK = 2**17
"""How many numbers are integrated at once: few enough for the cache, enough to keep the number of calls small."""


def most_likely_largest(mean: Tensor, width: Tensor, playing: Tensor, nodes: int) -> Tensor:
    r"""(..., K) probability that each is the largest of the :math:`N(mean_k, width_k^2)` that are ``playing``.

    The range starts at ``low``, where F becomes noticeable. All :math:`\Phi_k(low) \ge F(low)`, so a belief of width
    :math:`w` lies at most a few ``w`` above ``low``: the narrower it is, the closer. Nodes equidistant in
    :math:`t = \ln(x-low)` therefore resolve all beliefs alike, whatever the ratio of their widths, and since the
    integrand is smooth in ``t`` and vanishes at both ends, the plain sum over the nodes converges exponentially.
    """
    mean, width = mean.masked_fill(~playing, -torch.inf), width.masked_fill(~playing, 0)
    width = width.maximum(_narrowest(mean, width))
    mean = mean - (mean - REACH * width).amax(-1, keepdim=True)  # now F(0) < 1e-17
    high = (mean + REACH * width).amax(-1, keepdim=True)  # (..., 1) and 1 - F(high) < K 1e-17
    low = _noticeable(mean, width, high)
    mean, high = mean - low, high - low
    cdf, density = _cdf(-mean / width)
    start = 0.1 / (density / cdf / width).sum(-1, keepdim=True)  # F grows by a tenth from low to low + start
    step = (high / start).log() / nodes  # (..., 1)
    total = torch.zeros_like(mean)
    size = max(1, CHUNK // max(1, mean.numel()))
    for first in range(0, nodes, size):
        node = torch.arange(first, min(first + size, nodes), dtype=mean.dtype, device=mean.device)  # (C,)
        x = (start * ((node + 0.5) * step).exp()).unsqueeze(-1)  # (..., C, 1)
        cdf, density = _cdf((x - mean.unsqueeze(-2)) / width.unsqueeze(-2))  # (..., C, K)
        largest = cdf.log().sum(-1, keepdim=True).exp()  # (..., C, 1), F
        total += (x * largest * density / cdf).sum(-2)
    return _share((total / width).nan_to_num(nan=0.0))


def _narrowest(mean: Tensor, width: Tensor) -> Tensor:
    """(..., 1) the smallest width that is told from zero."""
    low, high = ((mean + side * width).amax(-1, keepdim=True) for side in (-REACH, REACH))
    rounding = 1e-14 * torch.maximum(low.abs(), high.abs())
    return (RESOLUTION * (high - low)).maximum(rounding).clamp(min=1e-300)


def _noticeable(mean: Tensor, width: Tensor, high: Tensor) -> Tensor:
    """(..., 1) where log F is about ``NEGLIGIBLE``, by bisection over the logarithm; F(0) is less."""
    below, above = (RESOLUTION * RESOLUTION * high).log(), high.log()
    for _ in range(20):
        middle = (below + above) / 2
        cdf, _ = _cdf((middle.exp() - mean) / width)
        early = (cdf.log().sum(-1, keepdim=True) < NEGLIGIBLE).to(mean)
        below, above = torch.lerp(below, middle, early), torch.lerp(middle, above, early)
    return below.exp()


def _cdf(z: Tensor) -> tuple[Tensor, Tensor]:
    """The standard normal's distribution function and, up to a constant factor, its density."""
    return torch.special.ndtr(z), (z * z * -0.5).exp()


def _share(weight: Tensor) -> Tensor:
    """(..., K) weights that sum to one; all zero stays so."""
    return weight / weight.sum(-1, keepdim=True).clamp(min=1e-300)
