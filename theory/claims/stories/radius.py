"""Errors with high probability (T16)."""

from __future__ import annotations

import math
from dataclasses import replace

from aria.interfaces import Tracker
from aria.trackers import EMA, DiscountedUCB, Window, WindowUCB
from theory import bounds
from theory.claims.base import Check, Claim, Experiment, Mutant
from theory.claims.common import SETTLED, A, B, D, F, erring, using, wrong
from theory.claims.experiments import Beyond, Final, Quantile
from theory.regimes import Bernoulli, Linear, Regime, Selective, Sparse, StudentT


def _radii() -> list[Claim]:
    delta = 0.01
    profile = bounds.ema_profile(B)
    wide = float(bounds.radius_sub_gaussian(profile, 1.0, D, delta))
    tail = float(bounds.radius_sub_gaussian(profile, 1.0, 0.0, 1e-4))
    gap = Regime(Linear(0.02), visits=Selective(0.5, 0.2))

    def beyond(
        statement: str,
        name: str,
        regime: Regime,
        tracker: Tracker,
        experiment: Experiment,
        check: Check,
        *mutants: Mutant,
    ) -> Claim:
        return Claim(statement, name, regime, tracker, experiment, (check,), mutants)

    def other(name: str, experiment: Experiment) -> Mutant:
        return Mutant(name, experiment=experiment)

    def share(name: str, value: float, sense: str = "at most") -> Mutant:
        return Mutant(name, {("misses", sense): value})

    narrow = float(bounds.radius_sub_gaussian(profile, 1.0, 0.0, delta))
    rest = Beyond(SETTLED, 500_000, narrow, drawn=True)
    moving = Beyond(SETTLED, 500_000, wide, drawn=True)
    chance, size = 0.002, 2
    rare = 1.05 * size * chance  # one shock among the last two is just beyond the radius
    shock = float(bounds.radius_chebyshev(bounds.window_profile(size), 1.0, 0.0, rare))
    fine, horizon, burn = 0.05, 500, 200
    level = 1 / (1 - (1 - fine) ** burn)  # bias correction that remains after burn
    uniform = level * float(bounds.radius_uniform(fine, 1.0, 0.0, 0.05, horizon))
    single = level * float(bounds.radius_sub_gaussian(bounds.ema_profile(fine), 1.0, 0.0, 0.05))
    return [
        beyond("T16-1", "stationary, δ=.01", Regime(), EMA(B), rest, Check("misses", "at most", delta),
               other("ln for 2 ln", replace(rest, radius=narrow / 2**0.5)), share("δ/100", delta / 100),
               using("b·2", EMA(2 * B))),
        beyond("T16-1", "line, δ=.01", Regime(Linear(D)), EMA(B), moving, Check("misses", "at most", delta),
               other("no drift", replace(moving, radius=narrow)), share("δ/100", delta / 100),
               using("b/2", EMA(B / 2))),
        beyond("T16-1", "Student t₃, δ=.0001", Regime(noise=StudentT()), EMA(B), Beyond(60, 120_000, tail),
               Check("misses", "above", 1e-4), share("δ·100", 1e-2, "above")),
        Claim("T16-1", "shocks, Chebyshev, δ=.0042", Regime(noise=Sparse(chance=chance)), Window(size),
              Beyond(2 * size, 500_000, shock), (
            Check("misses", "at most", rare), Check("misses", "above", 0.7 * rare),
        ), (share("δ/2", rare / 2), using("W-1", Window(size - 1)))),
        beyond("T16-3", "all of 500 steps, δ=.05", Regime(), EMA(fine), Beyond(horizon, 10_000, uniform, burn=burn),
               Check("misses", "at most", 0.05), other("one step's", Beyond(horizon, 10_000, single, burn=burn)),
               using("b·2", EMA(2 * fine))),
        Claim("T1", "Student t₃, truncated", Regime(noise=StudentT()), EMA(B), Final(100, 40_000, cap=3.0),
              (Check("mse", "at most", F),), (erring("b/4", B / 4, "at most"), using("b·2", EMA(2 * B)))),
        beyond("T16-6", "line, selective visits", gap, DiscountedUCB(1.0, 0.02, discount=0.98),
               Beyond(300, 10_000), Check("misses", "at most", 0.05),
               using("no lag term", DiscountedUCB(1.0, 0.0, discount=0.98)),
               using("σ/10, D/2", DiscountedUCB(0.1, 0.01, discount=0.98))),
        beyond("T16-6", "line, selective visits", gap, WindowUCB(1.0, 0.02, size=80),
               Beyond(160, 2000), Check("misses", "at most", 0.05),
               using("no lag term", WindowUCB(1.0, 0.0, size=80)),
               using("σ/10, D/2", WindowUCB(0.1, 0.01, size=80))),
    ]  # fmt: skip


def _bernstein() -> Claim:
    """T16-2: for noise that is mostly small the radius is far below Hoeffding's, and the size term is needed."""
    rate, chance, delta = 0.05, 0.005, 0.004
    size, profile = chance**-0.5, bounds.ema_profile(rate)
    radius = float(bounds.radius_bernstein(profile, 1.0, size, 0.0, delta, largest_weight=rate))
    normal = float(bounds.radius_sub_gaussian(profile, 1.0, 0.0, delta))
    hoeffding = float(bounds.radius_bounded(profile, 2 * size, 0.0, delta))
    quantile = Quantile(120, 60_000, delta)
    return Claim("T16-2", "shocks, δ=.004", Regime(noise=Sparse(chance=chance)), EMA(rate), quantile, (
        Check("quantile", "at most", radius), Check("quantile", "above", normal),
    ), (
        wrong("no size term", "quantile", normal, "at most"),
        wrong("Hoeffding attained", "quantile", hoeffding, "above"),
        using("b·8", EMA(8 * rate)),
    ))  # fmt: skip


def _selective() -> list[Claim]:
    """T16-4: large errors persist without visits, so a radius for a fixed number of visits is not enough."""
    rate, delta, steps = 0.3, 0.01, 300
    tracker, seen = EMA(rate, sigma=1.0), Regime(visits=Selective(1.3, 0.02))
    fixed = Beyond(steps, 12_000, times=(2 * math.log(2 / delta)) ** 0.5)
    union = replace(fixed, times=(2 * math.log(2 * steps / delta)) ** 0.5)
    return [
        Claim("T16-4", "selective visits, one clock", seen, tracker, fixed, (Check("misses", "above", delta),), (
            Mutant("union over the visits", experiment=union), using("σ·2", EMA(rate, sigma=2.0)),
        )),
        Claim("T16-4", "selective visits, union", seen, tracker, union, (Check("misses", "at most", delta),), (
            Mutant("one clock", experiment=fixed), using("σ/2", EMA(rate, sigma=0.5)),
        )),
    ]  # fmt: skip


def _lag() -> Claim:
    """T16-5: the age of information under random visits."""
    q, delta = 0.2, 0.01
    bound, mean = float(bounds.lag_quantile(B, q, delta)), 1 / (B * q) - 1
    lag = Quantile(600, 15_000, delta, lag=True)
    return Claim("T16-5", "visits q=.2, δ=.01", Regime(visits=Bernoulli(q)), EMA(B), lag, (
        Check("quantile", "at most", bound), Check("mean", "equal", mean),
    ), (
        wrong("lag as always seen", "quantile", A / B, "at most"), wrong("mean lag", "quantile", mean, "at most"),
        wrong("lag 1/(bq)", "mean", 1 / (B * q)), wrong("a/b visits", "mean", A / B / q),
        using("b/1.5", EMA(B / 1.5)),
    ))  # fmt: skip


CLAIMS: tuple[Claim, ...] = (*_radii(), _bernstein(), *_selective(), _lag())
