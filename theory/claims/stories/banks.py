"""The bank, which needs neither noise nor drift: its excess error over the best fixed rate (T9)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from aria.trackers import Bank
from theory import bounds, limits
from theory.assumptions import Array
from theory.claims.base import Check, Claim
from theory.claims.common import using, wrong
from theory.claims.experiments import Averaged
from theory.regimes import Decay, Drift, Jumps, Linear, RandomWalk, Regime, Sinusoid, Stationary

RATES = 2.0 ** np.linspace(-8, 0, 401)
"""All rates, about 1 % apart."""
OWN = slice(None, None, 50)
"""Those that the bank has."""
EXCESS = 1.10
WORTH = 0.05
"""Smallest best mean squared error, in units of s², for which the bank loses at most a tenth."""
STEPS, BURN = 1300, 556
"""Errors are averaged over 744 steps, six waves of 124."""


class Cost(NamedTuple):
    """(rates,) exact mean squared errors of each fixed rate."""

    filtering: Array
    prediction: Array


def _line(drift: float) -> Cost:
    now, ahead = (bounds.ema_mse(RATES, 1.0, drift, when=when, adaptive=False) for when in ("now", "next"))
    return Cost(np.asarray(now), np.asarray(ahead))


def _moves(variance: float) -> Cost:
    """Independent moves with any distribution."""
    now = np.asarray(bounds.ema_mse_random_walk(RATES, 1.0, variance**0.5))
    return Cost(now, now + variance)


def _wave(amplitude: float, frequency: float) -> Cost:
    noise = RATES / (2 - RATES)
    bias = np.asarray(bounds.sinusoid_bias(RATES, amplitude, frequency))
    ahead = np.asarray(bounds.sinusoid_drift(amplitude, frequency)) / np.sqrt(
        RATES**2 + 4 * (1 - RATES) * math.sin(frequency / 2) ** 2
    )  # the bias over 1 - b
    return Cost(bias**2 / 2 + noise, ahead**2 / 2 + noise)


def _curve(size: float, ratio: float, steps: int, burn: int) -> Cost:
    t = np.arange(burn, steps + 1.0)
    rate = RATES[:, None]
    gone = 1 - (1 - rate) ** t
    bias = np.asarray(bounds.decay_bias(rate, size, ratio, t, initial=size * (ratio**t - 1)) / gone)
    noise = rate / (2 - rate) * (2 - gone) / gone  # of a corrected average (T1)
    ahead = bias[:, :-1] + size * (1 - ratio) * ratio ** t[:-1]
    return Cost((bias**2 + noise)[:, 1:].mean(1), (ahead**2 + noise[:, :-1]).mean(1))


def _claim(name: str, drift: Drift, cost: Cost, quick: bool, limit: float | None = None) -> Claim:
    """Predictions, by which the bank ranks its rates, against all rates; estimates against the rates it has."""
    ahead, own = float(cost.prediction.min()), float(cost.filtering[OWN].min())
    assert cost.filtering.min() > WORTH
    return Claim("T9", name, Regime(drift), Bank(), Averaged(STEPS, BURN, 300), (
        Check("prediction", "at most", EXCESS * ahead), Check("mse", "at most", EXCESS * own),
    ), (
        wrong("half the best", "prediction", ahead / 2, "at most"), using("rate 1 only", Bank(size=1)),
    ), limit, quick)  # fmt: skip


def _claims() -> list[Claim]:
    frequency = 2 * math.pi / 124
    claims = []
    for drift in (0.02, 0.05, 0.2):
        cost = _line(drift)
        limit = EXCESS * float(limits.times_limit(cost.prediction.min(), 1.0, drift, when="next"))
        claims.append(_claim(f"line, D={drift:g}", Linear(drift), cost, drift == 0.05, limit))
    for tau in (0.1, 0.3):
        walk = RandomWalk(tau, gaussian=True)
        claims.append(_claim(f"random walk, τ={tau:g}", walk, _moves(tau**2), tau == 0.3))
    for size, chance in ((3.0, 0.01), (6.0, 0.02)):
        name = f"jumps of {size:g}, {chance:.0%} of steps"
        claims.append(_claim(name, Jumps(size, chance), _moves(size**2 * chance), size == 3))
    claims.append(_claim("sinusoid", Sinusoid(1.0, frequency), _wave(1.0, frequency), True))
    return [*claims, *_decays(), _at_rest()]


def _decays() -> list[Claim]:
    """Over the whole curve the bank does as well as elsewhere; over its late part alone a fixed rate is better."""
    size, ratio, steps, burn = 20.0, 0.99, 500, 100
    curve = Regime(Decay(size, ratio))
    whole, late = (float(_curve(size, ratio, steps, first).prediction.min()) for first in (1, burn))
    return [
        Claim("T9", "decay", curve, Bank(), Averaged(steps, 1, 600), (
            Check("prediction", "at most", EXCESS * whole),
        ), (wrong("half the best", "prediction", whole / 2, "at most"), using("rate 1 only", Bank(size=1)))),
        Claim("T9", "decay, late", curve, Bank(), Averaged(steps, burn, 600), (
            Check("prediction", "at most", 1.5 * late), Check("prediction", "above", EXCESS * late),
        ), (
            wrong("the promise of others", "prediction", EXCESS * late, "at most"),
            using("forget 0.05", Bank(forget=0.05)),
        )),
    ]  # fmt: skip


def _at_rest() -> Claim:
    """Without drift, the memory of only 1/forget visits costs 1.3 forget s²."""
    t = np.arange(BURN + 1.0, STEPS + 1)
    best = float(np.mean(np.asarray(bounds.corrected_ema_profile(RATES[OWN].min(), t).noise)))
    return Claim("T9", "stationary", Regime(Stationary()), Bank(), Averaged(STEPS, BURN, 300), (
        Check("mse", "at most", best + 1.3 * Bank().forget), Check("mse", "above", best),
    ), (
        wrong("best rate attained", "mse", best, "at most"), wrong("five times", "mse", 5 * best, "above"),
        using("three rates", Bank(size=3)),
    ))  # fmt: skip


CLAIMS: tuple[Claim, ...] = tuple(_claims())
