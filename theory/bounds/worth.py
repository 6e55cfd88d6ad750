r"""What an allocation of effort is worth (T25 to T28): how much of the discrepancy it can remove, and when it cannot.

K regions have the shares m (``mass``) of the goal :math:`J = \sum_k m_kL_k`. Effort teaches along learning curves
:math:`L_k = L^0_k (n_k/n^0_k)^{-\alpha_k}`: ``discrepancy`` :math:`L^0` was measured after effort was spent as
``allocation`` :math:`q^0` says (by default the mass), and ``exponent`` is α. Effort also teaches other regions:
:math:`n = (1-\tau)q + \tau m`, with ``transfer`` τ in [0, 1). Discrepancies are what training can still remove: a part
that stays, whatever is trained, must be subtracted first. Arrays are (..., K).

All rules are covered, also those that change during training: with these curves only the total effort of each region
matters, so no rule leaves less than :func:`best_effort`.
"""

from __future__ import annotations

import numpy as np

from theory import assumptions
from theory.assumptions import Array, Number, Values, plain

STEPS = 200
"""Bisections, or iterations of a contraction, until float64 does not change any more."""


def best_effort(
    mass: Values,
    discrepancy: Values,
    exponent: Values = 0.5,
    allocation: Values | None = None,
    transfer: Values = 0.0,
) -> Array:
    r"""The allocation that leaves the least (T25, T27): effort where the marginal value is largest, as water fills.

    With one exponent and without transfer :math:`q^* \propto (m_kc_k)^{1/(1+\alpha)}`, where
    :math:`c_k = L^0_k(q^0_k)^\alpha`; in general :math:`n_k = \max(\tau m_k, \cdot)` with equal
    :math:`m_k\alpha_kL_k/n_k` wherever q > 0.

    >>> best_effort([0.5, 0.5], discrepancy=[1.0, 8.0]).round(3)
    array([0.2, 0.8])
    >>> best_effort([0.5, 0.5], discrepancy=[1.0, 8.0], transfer=0.5)
    array([0., 1.])
    """
    m, level, a, start, tau = _checked(mass, discrepancy, exponent, allocation, transfer)
    n = _water(m, level, a, start, tau)
    return np.asarray(np.maximum(n - tau * m, 0.0) / (1 - tau))


def effort_left(
    mass: Values,
    discrepancy: Values,
    spent: Values,
    exponent: Values = 0.5,
    allocation: Values | None = None,
    transfer: Values = 0.0,
) -> Number:
    r"""What is left if the same total effort is spent as ``spent`` q says instead, over what was left (T25):
    :math:`\sum_k m_kL^0_k(n_k/n^0_k)^{-\alpha_k} \big/ \sum_k m_kL^0_k`.

    inf where a region that matters gets nothing.

    >>> round(effort_left([0.5, 0.5], [1.0, 8.0], spent=[0.2, 0.8]), 4)
    0.8784
    """
    m, level, a, start, tau = _checked(mass, discrepancy, exponent, allocation, transfer)
    n = (1 - tau) * assumptions.distribution("spent", spent) + tau * m
    return plain(_left(m, level, a, start, n))


def worth(
    mass: Values,
    discrepancy: Values,
    exponent: Values = 0.5,
    allocation: Values | None = None,
    transfer: Values = 0.0,
) -> Number:
    r"""The most that any rule can gain on ``allocation`` with the same effort, as a share of J (T25, T27).

    Without transfer and from the mass itself, :math:`1 - E[L^{1/(1+\alpha)}]^{1+\alpha}/E[L]` over the mass. Transfer
    makes it smaller.

    >>> round(worth([0.5, 0.5], discrepancy=[1.0, 8.0]), 4), worth([0.5, 0.5], discrepancy=[2.0, 2.0])
    (0.1216, 0.0)
    >>> round(worth([0.5, 0.5], discrepancy=[1.0, 8.0], transfer=0.9), 4)
    0.0354
    """
    m, level, a, start, tau = _checked(mass, discrepancy, exponent, allocation, transfer)
    return plain(np.maximum(1 - _left(m, level, a, start, _water(m, level, a, start, tau)), 0.0))


def worth_of_spread(spread: Values, exponent: Values = 0.5) -> Number:
    r"""The same if log L is normal over the mass with standard deviation ``spread`` (T25):
    :math:`1 - e^{-\frac{\alpha}{1+\alpha}\sigma^2/2}`.

    >>> [round(worth_of_spread(s), 3) for s in (0.1, 0.3, 0.6, 0.9, 1.3)]
    [0.002, 0.015, 0.058, 0.126, 0.245]
    """
    s, a = assumptions.non_negative("spread", spread), assumptions.positive("exponent", exponent)
    return plain(-np.expm1(-a / (1 + a) * s**2 / 2))


def worth_ceiling(mass: Values, discrepancy: Values) -> Number:
    r"""What no rule can gain on ``q = m`` whatever the exponent and the transfer (T25):
    :math:`1 - e^{E\log L}/E[L]` over the mass, the limit for :math:`\alpha \to \infty`.

    1 if some region that matters has no discrepancy left.

    >>> round(worth_ceiling([0.5, 0.5], discrepancy=[1.0, 4.0]), 4)
    0.2
    """
    m, level = assumptions.distribution("mass", mass), assumptions.non_negative("discrepancy", discrepancy)
    with np.errstate(divide="ignore"):
        logs = np.where(m > 0, m * np.log(np.where(m > 0, level, 1.0)), 0.0).sum(-1)
    return plain(1 - np.exp(logs) / assumptions.positive("the mean discrepancy", (m * level).sum(-1)))


# ------------------------------------------------------------------------ T26, T27: where the proportional rule settles


def settled_effort(
    mass: Values,
    discrepancy: Values,
    exponent: Values = 0.5,
    allocation: Values | None = None,
    transfer: Values = 0.0,
    power: Values = 1.0,
) -> Array:
    r"""Where the rule :math:`q \propto m L^p` settles, asked again and again while it trains (T26, T27).

    With p = 1 and no transfer this is :func:`best_effort`, for any exponent: the rule need not know it. In general
    :math:`q \propto (mc^p)^{1/(1+p\alpha)}`; transfer flattens it, though the optimum is then steeper.

    >>> settled_effort([0.5, 0.5], discrepancy=[1.0, 8.0]).round(3)
    array([0.2, 0.8])
    """
    m, level, a, start, tau = _checked(mass, discrepancy, exponent, allocation, transfer)
    p = assumptions.non_negative("power", power)[..., None]
    with np.errstate(divide="ignore"):
        fixed = np.log(m) + p * (np.log(level) + a * np.log(start))
        q = np.broadcast_to(m, np.broadcast_shapes(fixed.shape, tau.shape)).copy()
        for _ in range(STEPS):
            n = (1 - tau) * q + tau * m
            wanted = _normal(fixed - p * a * np.log(np.where(n > 0, n, 1.0)))
            q = _normal(np.log(q) + (np.log(wanted) - np.log(np.where(q > 0, q, 1.0))) / (1 + p * a))
    return np.asarray(q)


# ----------------------------------------------------------------------------------------------- the price of a mistake


def gate_loss(gate: Values, exponent: Values = 0.5) -> Number:
    r"""The most that q = (1−γ)·static + γ·adaptive can lose on the static rule, as a share of J (T25):
    :math:`(1-\gamma)^{-\alpha} - 1`.

    Whatever the adaptive rule does, since every region keeps 1−γ of its effort. Sharp if it spends all of γ where
    nothing matters. ``gate`` is γ.

    >>> round(gate_loss(0.19), 4)
    0.1111
    """
    g, a = assumptions.unit_but_one("gate", gate), assumptions.positive("exponent", exponent)
    return plain(np.expm1(-a * np.log1p(-g)))


def gated_gain(gate: Values, adaptive_gain: Values) -> Number:
    r"""The least that the gated rule gains (T25): γ times ``adaptive_gain``, what the adaptive rule gains alone.

    What is left is convex in the effort. A loss, below 0, is at most that share of it as well.

    >>> gated_gain(0.5, 0.2)
    0.1
    """
    return plain(assumptions.closed_unit("gate", gate) * assumptions.finite("adaptive_gain", adaptive_gain))


def merged(mass: Values, discrepancy: Values, groups: Values) -> tuple[Array, Array]:
    """Shares and mean discrepancies of ``groups`` (K,), numbers from 0, of regions (T25).

    A coarser partition can gain at most what :func:`worth` says of its groups, which is never more: what regions of
    one group differ by is lost. In spreads, σ² = σ² between groups + mean σ² within.

    >>> merged([0.25, 0.25, 0.5], [1.0, 3.0, 5.0], groups=[0, 0, 1])
    (array([0.5, 0.5]), array([2., 5.]))
    """
    m, level = assumptions.distribution("mass", mass), assumptions.non_negative("discrepancy", discrepancy)
    group = assumptions.whole("groups", groups).astype(np.int64)
    shares: Array = np.bincount(group, m).astype(np.float64)
    sums: Array = np.bincount(group, m * level).astype(np.float64)
    return shares, np.where(shares > 0, sums / np.where(shares > 0, shares, 1.0), 0.0)


# ------------------------------------------------------------------------------------------- T28: credit along sampling


def coherence(gap: Values, single: Values) -> Number:
    r"""How much errors of several sampling steps compound (T28): :math:`\kappa = G/\sum_i g_i`, from 0 to their number.

    ``gap`` G is the squared difference of student's and teacher's pictures, ``single`` (..., n) are those if the
    student makes only step i and the teacher all others. If the teacher's steps are linear, 1 means that the errors of
    different steps are uncorrelated, n that they all point the same way, and below 1 that they cancel.

    >>> coherence(0.18, single=[0.02, 0.04])
    3.0
    """
    total = assumptions.non_negative("single", single).sum(-1)
    return plain(assumptions.non_negative("gap", gap) / assumptions.positive("the sum of single", total))


def coherent_gap(single: Values) -> Number:
    r"""The largest gap that steps with these single-step gaps can have together (T28): :math:`(\sum_i\sqrt{g_i})^2`.

    For linear steps of the teacher; attained if all errors point the same way.

    >>> coherent_gap([1.0, 4.0])
    9.0
    """
    return plain(np.sqrt(assumptions.non_negative("single", single)).sum(-1) ** 2)


# -------------------------------------------------------------------------------------------------------------- solvers


def _checked(
    mass: Values, discrepancy: Values, exponent: Values, allocation: Values | None, transfer: Values
) -> tuple[Array, Array, Array, Array, Array]:
    """Mass, discrepancy, exponent, effort under the allocation, and transfer, which broadcast as (..., K)."""
    m, level = assumptions.distribution("mass", mass), assumptions.non_negative("discrepancy", discrepancy)
    assumptions.positive("the mean discrepancy", (m * level).sum(-1))
    a = assumptions.positive("exponent", exponent)
    tau = assumptions.unit_but_one("transfer", transfer)[..., None]
    q = m if allocation is None else assumptions.distribution("allocation", allocation)
    start = (1 - tau) * q + tau * m
    if bool(np.any((start == 0) & (m * level > 0))):
        raise ValueError("allocation must be positive where there is discrepancy: it was measured there")
    return m, level, a, start, tau


def _water(m: Array, level: Array, a: Array, start: Array, tau: Array) -> Array:
    """(..., K) the efforts n ≥ τm of sum one that leave the least, by bisection on their common marginal value."""
    with np.errstate(divide="ignore"):
        value = np.log(m * level * a) - np.log(np.where(start > 0, start, 1.0))  # marginal value at n = n⁰
        own = value + (1 + a) * np.log(np.where(start > 0, start, 1.0))  # and at n = 1
    high, low = value.max(-1, keepdims=True), own.max(-1, keepdims=True)

    def efforts(price: Array) -> Array:
        return np.maximum(start * np.exp((value - price) / (1 + a)), tau * m)

    for _ in range(STEPS):
        middle = (low + high) / 2
        more = efforts(middle).sum(-1, keepdims=True) > 1
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    n = efforts((low + high) / 2)
    return np.asarray(n / n.sum(-1, keepdims=True))


def _left(m: Array, level: Array, a: Array, start: Array, n: Array) -> Array:
    weight = m * level
    counts = weight > 0
    with np.errstate(divide="ignore"):
        ratio = np.where(counts, n / np.where(start > 0, start, 1.0), 1.0)
        return np.asarray((weight * ratio**-a).sum(-1) / weight.sum(-1))


def _normal(logs: Array) -> Array:
    """exp of ``logs``, scaled to a sum of one."""
    shares = np.exp(logs - logs.max(-1, keepdims=True))
    return np.asarray(shares / shares.sum(-1, keepdims=True))
