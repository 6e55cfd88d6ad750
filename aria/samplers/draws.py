"""Random numbers as a function of (seed, step), and draws from a distribution."""

from __future__ import annotations

import torch
from torch import Tensor

BELOW_ONE = 1 - 2**-51
"""Points stay below it. Times any number it is less than that number, so no point is rounded past the last region."""
_MASK = (1 << 64) - 1


def _scramble(x: int) -> int:
    """SplitMix64's finaliser (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def step_seed(seed: int, step: int) -> int:
    """A 64-bit seed for one step of one run; nearby seeds and steps give unrelated ones.

    CPU generators use the lower 32 bits, so among a million steps about a hundred pairs share their random numbers.

    >>> step_seed(0, 0) != step_seed(0, 1) != step_seed(1, 0)
    True
    """
    return _scramble(_scramble(seed & _MASK) ^ (step & _MASK))


def systematic(n: int, generator: torch.Generator) -> Tensor:
    """(n,) evenly spaced points in [0, 1) with one common random offset, in rising order.

    Inverted through a distribution ``q`` they hit each region within one of ``n·q`` times, and each
    exactly ``n·q`` times in expectation (W. G. Madow, "On the theory of systematic sampling II", 1949).
    """
    offset = torch.rand(1, generator=generator, device=generator.device, dtype=torch.float64)
    return torch.arange(n, dtype=torch.float64, device=generator.device).add_(offset).div_(n / BELOW_ONE)


def shuffled(drawn: Tensor, generator: torch.Generator) -> Tensor:
    """(n,) ``drawn`` in random order."""
    return drawn.index_select(0, torch.randperm(len(drawn), generator=generator, device=generator.device))


def independent(n: int, generator: torch.Generator) -> Tensor:
    """(n,) independent uniform points in [0, 1)."""
    return torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64).mul_(BELOW_ONE)


def invert(cdf: Tensor, points: Tensor) -> Tensor:
    """(n,) regions that ``points`` up to ``BELOW_ONE`` fall into; never one of probability zero.

    ``cdf`` is the (K,) float64 cumulative sum of the probabilities (float32 would lose the upper half of a large K).

    >>> cdf = torch.tensor([0.25, 0.25, 1.0], dtype=torch.float64)
    >>> invert(cdf, torch.tensor([0.2, 0.25, BELOW_ONE], dtype=torch.float64))
    tensor([0, 2, 2])
    """
    return torch.searchsorted(cdf, points * cdf[-1], right=True)


def systematic_visit(probs: Tensor, n: int, counted: Tensor | int | None = None) -> Tensor:
    r"""(K,) probability that a systematic, shuffled draw of ``n`` visits each region.

    For the whole draw that is :math:`\min(1, nq)`. If only :math:`m` (``counted``) of the rows count, chosen without
    regard to the draw: a region has :math:`c = \lfloor nq \rfloor` draws, or one more with probability :math:`nq - c`,
    at random places, so none of them counts with the hypergeometric probability
    :math:`\binom{n-c}{m} / \binom{n}{m}`.

    >>> systematic_visit(torch.tensor([0.25, 0.75]), 4, counted=1)
    tensor([0.2500, 0.7500])
    """
    expected = probs * n
    if counted is None:
        return expected.clamp_(max=1)
    fewer = expected.floor()
    missed = torch.lerp(_all_missed(fewer, n, counted), _all_missed(fewer + 1, n, counted), expected - fewer)
    return (1 - missed).clamp_(min=0)


def _all_missed(draws: Tensor, n: int, counted: Tensor | int) -> Tensor:
    """(K,) probability that none of ``draws`` (K,) places out of ``n`` is among the ``counted`` ones."""
    free = n - draws - counted  # (K,) negative where there are more draws than places that do not count
    total = torch.full_like(draws, n)
    of_the_rest = (total - draws + 1).lgamma() - (free + 1).lgamma()
    of_all = (total + 1).lgamma() - (total - counted + 1).lgamma()
    return torch.where(free < 0, 0.0, (of_the_rest - of_all).exp())  # exactly 1 without draws


def independent_visit(probs: Tensor, n: int, counted: Tensor | int | None = None) -> Tensor:
    """(K,) probability that ``n`` independent draws, of which ``counted`` count, visit each region: 1 - (1-q)^n."""
    return -torch.expm1(torch.special.xlog1py(n if counted is None else counted, -probs))
