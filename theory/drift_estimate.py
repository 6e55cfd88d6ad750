r"""The drift of a region, estimated at the shortest time scale at which it is significant.

The means of two neighbouring blocks of :math:`2^j` visits are a time g apart and differ by D·g plus noise of variance
:math:`s^2v`. Over all pairs :math:`D_j^2 = \sum g^2(\Delta^2 - s^2v)/\sum g^4` is the mean square drift at that time
scale. The smallest blocks at which it differs significantly from 0 are used. This describes the log and guarantees
nothing: no data can bound a drift that has not begun yet.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from theory.assumption_checks import FALSE_ALARM

Array = npt.NDArray[np.float64]

JUMPED, AT_ONCE = 10, 0.7
"""If at least JUMPED pairs of blocks exist and one has more than the share AT_ONCE of all movement, it is a jump."""
CLEAR = 10.0
"""Number of standard errors from which the drift at a block size is used as it is."""


class Drift(NamedTuple):
    """Estimated drift of a region; NaN where it is unknown."""

    size: float = math.nan
    error: float = math.nan
    limit: float = math.nan
    block: int = 0
    course: str = "unknown"
    jump: float = math.nan
    """The step near which most of the movement happened, if it happened at once."""


def drift(levels: dict[str, Array], variance: float, freedom: float) -> Drift:
    """The drift at the smallest block size at which it is significant; ``freedom`` is that of the ``variance``."""
    from scipy.special import fdtri

    known = (levels["pairs"] >= 3) & (levels["gap4"] > 0)
    if not known.any() or not math.isfinite(variance):
        return Drift()
    part = {name: np.where(known, levels[name], 1.0) for name in ("moved", "noise", "gap4", "error", "cross")}
    square = np.where(known, (part["moved"] - variance * part["noise"]) / part["gap4"], 0.0)
    error = np.where(known, variance * np.sqrt(part["error"]) / part["gap4"], np.inf)
    freedoms = 2 * part["noise"] ** 2 / part["error"]  # of a sum of squares with unequal weights (Satterthwaite)
    chance = fdtri(freedoms, max(freedom, 1.0), 1 - FALSE_ALARM)  # a ratio that noise alone does not reach
    least = np.where(known, variance * part["noise"] * (chance - 1) / part["gap4"], np.inf)
    limit, seen = math.sqrt(float(least.min())), square > least
    if not seen.any():
        return Drift(0.0, 0.0, limit, 0, "still")
    z = np.where(seen, square / np.maximum(error, 1e-300), 0.0)
    clear = np.flatnonzero(z >= CLEAR)
    at = int(clear[0]) if clear.size else int(np.argmax(z))
    course = _course(square, known, at)
    if course == "steady" and z[at + 1 : at + 2].max(initial=0) > z[at]:
        at += 1  # for the same reason
    size = math.sqrt(square[at])
    spread = math.sqrt(variance**2 * part["error"][at] + variance * size**2 * part["cross"][at])
    spread += variance * math.sqrt(2 / max(freedom, 1.0)) * part["noise"][at]  # of the variance itself
    at_once = levels["pairs"][at] >= JUMPED and levels["most"][at] > AT_ONCE * levels["moved"][at]
    jump = float(levels["most step"][at]) if at_once else math.nan
    error_of_size = float(spread / part["gap4"][at] / (2 * size))
    return Drift(size, error_of_size, limit, 2**at, "jump" if at_once else course, jump)


def _course(square: Array, known: npt.NDArray[np.bool_], at: int) -> str:
    """A steady drift is the same at all block sizes; that of a random walk falls as one over the block size."""
    last = int(np.flatnonzero(known)[-1])
    if last < at + 2:
        return "steady"
    first = min(at + 1, last - 2)  # the level that has just become significant is more often too high than too low
    fall = square[first + 2] / max(square[first], 1e-300)
    return "wandering" if fall < 0.5 else "steady"  # a walk falls to 1/4
