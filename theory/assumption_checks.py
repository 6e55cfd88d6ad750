"""Checks of the theory's assumptions against a log, region by region."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TRIPLES_NEEDED = 30
"""Triples of consecutive visits below which nothing is judged."""
STEPS_NEEDED = TRIPLES_NEEDED + 2
"""Logged steps at which a region must have been visited before its assumptions are judged."""
SIMILAR = 0.03
"""By how much the correlation of neighbouring triples must exceed that of white noise: the excess of AR(1) noise with
coefficient 0.1."""
SPREAD = 0.8
"""Standard error of that excess times the root of the number of triples: 0.55 for visits at every step, up to 0.76 in
simulations of rare visits."""
FALSE_ALARM = 1e-6
"""Probability that one assumption of one region is reported as violated although it holds and the noise is Gaussian."""


def assumption_warnings(
    sums: dict[str, float],
    levels: dict[str, Array],
    variance: float,
    between: float,
    source: str,
    drift: float,
) -> tuple[str, ...]:
    """One line for each assumption that the data contradict, each at a false alarm probability of 1e-6 under Gaussian
    noise; empty if there are too few visits to judge."""
    from scipy.special import ndtri

    found: list[str] = []
    count = float(levels["triples"].sum())
    if count < TRIPLES_NEEDED:
        return ()
    z = -float(ndtri(FALSE_ALARM / 2))
    tails = float(levels["r4"].sum()) / count / between**2 if between > 0 else 3.0
    if tails - 3 > z * math.sqrt(24 * 2 / count) and tails > 4:  # neighbouring triples share visits: half the evidence
        found.append(f"heavy tails or changing noise: kurtosis {tails:.1f}, 3 for Gaussian noise")
    worst = math.sqrt(sums["worst"] / between) if between > 0 else 0.0
    if worst > -float(ndtri(min(FALSE_ALARM / (2 * count), 0.5))):
        found.append(f"a jump or outlier of {worst:.1f} standard deviations at step {sums['worst step']:.0f}")
    excess = (sums["product"] / between - sums["white"]) / sums["follow"] if between > 0 and sums["follow"] else 0.0
    if abs(excess) > max(SIMILAR, z * SPREAD / math.sqrt(sums["follow"] or 1.0)):
        found.append(f"the noise of consecutive visits is correlated, by about {_correlation(excess):.1f}")
    many = levels["triples"] >= 100
    if many.sum() >= 2:
        size = levels["r2"][many] / levels["triples"][many]
        spread = np.sqrt(2 * max(tails - 1, 2.0) / levels["triples"][many]) * size
        low, high = int(np.argmin(size)), int(np.argmax(size))
        cells = float(many.sum())
        if size[high] - size[low] > -float(ndtri(FALSE_ALARM / cells**2)) * math.hypot(spread[low], spread[high]):
            ratio = math.sqrt(size[high] / max(float(size[low]), 1e-300))
            found.append(f"the noise changes over time: its standard deviation changes by a factor of {ratio:.1f}")
    if source == "within" and between > variance * (1.3 + z * math.sqrt(4 / count)):
        ratio = math.sqrt(between / max(variance, 1e-300))
        found.append(f"visits scatter {ratio:.1f} times as much as their samples: samples of a visit are correlated")
    if math.isfinite(drift) and variance > 0 and drift > math.sqrt(variance):
        found.append("the drift per step is larger than the noise: averaging does not help")
    return tuple(found)


def _correlation(excess: float) -> float:
    r"""The :math:`\rho` of AR(1) noise whose neighbouring triples have a correlation that exceeds -2/3 by ``excess``:
    the root of :math:`\rho^2/2 - (5/6+x)\rho + 3x`.

    >>> round(_correlation(0.1173), 2)
    0.5
    """
    middle = 5 / 6 + excess
    return min(max(middle - math.sqrt(max(middle**2 - 6 * excess, 0.0)), -1.0), 1.0)
