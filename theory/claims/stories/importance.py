"""Importance weights inside the tracker (T14): on the observations, where the level adds variance, or on residuals."""

from __future__ import annotations

import numpy as np

from aria.trackers import EMA
from theory import bounds, limits
from theory.claims.base import Check, Claim
from theory.claims.common import B, F, biased, erring, using
from theory.claims.experiments import Averaged, Final
from theory.claims.foils import WeightedEMA
from theory.regimes import Allocated, Bernoulli, Gaussian, Linear, Regime, Selective

SHARE = 0.4
"""Probability of a visit."""


def _residual() -> list[Claim]:
    slow, share, steep = 0.1, SHARE, 0.2
    line = Regime(Linear(0.02), visits=Bernoulli(share))
    residual = float(bounds.residual_mse(slow, share, 1.0, 0.02, adaptive=False))
    still = float(bounds.residual_mse(slow, share, 1.0, 0.0))
    choosy = Regime(visits=Selective(0.2, share))
    steered = Regime(noise=Gaussian(0.5), visits=Allocated(floor=0.4), level=(1.0, 1.0))  # .2 + .6 m/Σm: slope .3
    return [
        Claim("T14", "line, visits q=.4", line, EMA(slow, importance=True), Final(150, 50_000), (
            Check("mse", "equal", residual), Check("bias", "equal", -0.02 * (1 / slow - 1)),
        ), (
            erring("rate b as visited", float(bounds.asynchronous_mse(slow, share, 1.0, 0.02, adaptive=False))),
            erring("no drift", slow / (2 * share - slow)), biased("lag 1/(bq)", -0.02 / (slow * share)),
            using("b·1.2", EMA(1.2 * slow, importance=True)), using("no weights", EMA(slow)),
        ), float(limits.times_limit(residual, 1.0, 0.02, share))),
        Claim("T14", "steered by its estimates", steered, EMA(steep, importance=True), Averaged(400, 200, 5000), (
            Check("bias", "equal", 0.0),
        ), (
            biased("as without weights", float(bounds.selection_bias(steep, 0.5, 0.3))),
            using("no weights", EMA(steep)),
        )),
        Claim("T14", "stationary, visits q=.4", Regime(visits=Bernoulli(share)), EMA(slow, importance=True),
              Final(150, 50_000), (Check("mse", "equal", still),), (
            erring("F", F), erring("F/q", F / share),
            using("b·1.2", EMA(1.2 * slow, importance=True)), using("no weights", EMA(slow)),
        )),
        Claim("T14", "selective visits", choosy, EMA(slow, importance=True), Final(150, 30_000), (
            Check("mse", "at most", still), Check("bias", "equal", 0.0),
        ), (erring("F", F, "at most"), using("b·3", EMA(3 * slow, importance=True)))),
    ]  # fmt: skip


def _weighted() -> list[Claim]:
    """The foil: its variance grows with the level and equals that of residual weights at the break-even level."""
    level, slope, steps = 2.0, 0.02, 150
    even = float(bounds.weighted_break_even(B, SHARE, 1.0))
    bias = -slope * (1 / B - 1)
    ages = level + slope * (steps - np.arange(steps))
    line = bias**2 + float(bounds.weighted_variance(B, SHARE, 1.0, ages))
    seen, off = Bernoulli(SHARE), using("b·1.2", WeightedEMA(1.2 * B))

    def value(at: float) -> float:
        return float(bounds.weighted_mse(B, SHARE, 1.0, at))

    return [
        Claim("T14 i", "stationary at level 2", Regime(visits=seen, level=level), WeightedEMA(B),
              Final(steps, 30_000), (Check("mse", "equal", value(level)), Check("bias", "equal", 0.0)), (
            erring("no level", value(0.0)), erring("μ²/q", F * (1 + level**2) / SHARE), off,
            using("on residuals", EMA(B, importance=True)),
        )),
        Claim("T14 i", "stationary at break-even", Regime(visits=seen, level=even), WeightedEMA(B),
              Final(steps, 30_000), (Check("mse", "equal", float(bounds.residual_mse(B, SHARE, 1.0, 0.0))),), (
            erring("break-even at s", value(1.0)), off,
        )),
        Claim("T14 i", "line, visits q=.4", Regime(Linear(slope), visits=seen, level=level), WeightedEMA(B),
              Final(steps, 30_000), (Check("mse", "equal", line), Check("bias", "equal", bias)), (
            biased("lag of visits", -slope * (1 / (B * SHARE) - 1)), biased("no drift", 0.0),
            erring("level at the start", bias**2 + value(level)), off,
        )),
    ]  # fmt: skip


CLAIMS: tuple[Claim, ...] = (*_residual(), *_weighted())
