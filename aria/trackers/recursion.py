r"""The recursion every linear tracker shares.

On a visit with gain :math:`r` (0 where a region was not visited) and batch mean :math:`\bar y` of
:math:`n` observations

.. math:: m \leftarrow m + r(\bar y - m), \qquad
          lag \leftarrow (1-r)(lag + 1), \qquad
          noise \leftarrow (1-r)^2\,noise + r^2/n .

The last two are the certificate (:class:`aria.interfaces.Certificate`). It is exact for any gains that do not look at
the noise, with equality for linear drift and homoscedastic noise. The first gain of every tracker here is 1, so no
initial value survives and the certificate's ``start`` is 1 before the first visit and 0 after it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aria.interfaces import Certificate, Device, Estimate, RegionStats, State


def init(shape: tuple[int, ...], device: Device = None) -> State:
    """Memory of the recursion before any observation, which ``noise = 0`` marks: afterwards it is positive."""
    zeros = torch.zeros(shape, dtype=torch.float64, device=device)
    return {"value": zeros, "square": zeros.clone(), "lag": zeros.clone(), "noise": zeros.clone()}


def seen(stats: RegionStats) -> Tensor:
    """(..., K) 1 where the step holds an observation, 0 elsewhere."""
    return stats.n.clamp(max=1)


def unseen(state: State) -> Tensor:
    """(..., K) 1 where there was no observation yet, 0 elsewhere."""
    return 1 - state["noise"].sign()


def update(state: State, stats: RegionStats, gain: Tensor) -> State:
    """One step of the recursion; ``gain`` is (..., K) and 0 where ``n = 0``, 1 at a region's first visit."""
    keep = torch.rsub(gain, 1)
    each = gain / stats.n.clamp(min=1)  # (..., K) weight of one observation
    return {
        "value": (keep * state["value"]).addcmul_(each, stats.total),
        "square": (keep * state["square"]).addcmul_(each, stats.square),
        "lag": torch.addcmul(keep, keep, state["lag"]),
        "noise": keep.square_().mul_(state["noise"]).addcmul_(gain, each),
    }


def certificate(state: State) -> Certificate:
    """The certificate the recursion carries."""
    return Certificate(unseen(state), state["lag"], state["noise"])


def estimate(state: State, sigma: float | None) -> Estimate:
    r"""Value and standard error :math:`s\sqrt{noise}`.

    With :math:`s` unknown, :math:`s^2` is read from the data as the weighted sample variance plus
    :math:`(noise\,m)^2`: a region seen once is trusted to within its own size, and that prior fades as the
    weight spreads over more observations.
    """
    value, noise = state["value"], state["noise"]
    if sigma is None:
        prior = noise * value
        variance = torch.addcmul(state["square"], value, value, value=-1).addcmul_(prior, prior)
        return Estimate(value, root_or_inf(variance.mul_(noise), evidence=noise))
    return Estimate(value, root_or_inf(sigma**2 * noise, evidence=noise))


def root_or_inf(variance: Tensor, evidence: Tensor) -> Tensor:
    """(..., K) square root of ``variance``, which is used up, and ``inf`` where the ``evidence`` is 0 and not positive.

    As x·x^(-1/2): on a CPU the reciprocal root takes a fraction of the time of the root.
    """
    root = variance.clamp_(min=1e-300).rsqrt()
    return root.mul_(variance).div_(torch.sign(evidence, out=variance))
