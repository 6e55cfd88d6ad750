"""The limit: two paths that no tracker can distinguish in time (T15, T18), and weights that attain it (T15-lin)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aria.interfaces import Tracker
from aria.trackers import EMA, Bank, CertificateGain, Discounted, DiscountedUCB, Kalman, Window, WindowUCB
from theory import bounds, limits
from theory.claims.base import Check, Claim
from theory.claims.common import SETTLED, D, biased, erring, law, spread, using
from theory.claims.experiments import Final, Law
from theory.claims.foils import BayesRule, Triangular
from theory.regimes import Bernoulli, EveryStep, Linear, Path, Regime

BEST = float(bounds.ema_best_rate(1.0, D, adaptive=False))
SIZE = int(bounds.window_best_size(1.0, D, adaptive=False))
LIMIT = float(limits.linear_limit(1.0, D))


@dataclass(frozen=True)
class Ramp(Path):
    """Constant, then a steady rise to the end: ``slope`` (``width`` - age)_+ at step ``last`` - age.

    Trackers that treat y as -y have the same error on the mirrored path, so one of the two is enough.
    """

    slope: float
    width: float
    last: int

    def _place(self, step: int) -> float:
        return self.slope * max(self.width - (self.last - step), 0.0)

    def move(self, step: int) -> float:
        return self._place(step) - self._place(step - 1)

    def bound(self, level: float = 0.0) -> float:
        return abs(self.slope)


def _two_points(slope: float, rate: float) -> tuple[float, float]:
    """Width of the hardest ramp and the Bayes risk of its two signs, that of :class:`BayesRule`, noise of variance 1.

    With visits of probability ``rate`` the mean evidence is used for random visits: the risk is convex in it.
    """
    z, weight = np.polynomial.hermite_e.hermegauss(120)
    weight = weight / weight.sum()

    def risk(width: float) -> float:
        path = slope * np.maximum(width - np.arange(math.ceil(width)), 0.0)
        v = rate * float((path**2).sum())
        return float((slope * width) ** 2 * (weight * (1 - np.tanh(v + math.sqrt(v) * z))).sum())

    width = max((float(h) for h in np.geomspace(1, 8 * slope ** (-2 / 3), 300)), key=risk)
    return width, risk(width)


def _attained() -> list[Claim]:
    width, h = float(limits.linear_limit_width(1.0, D)), _two_points(D, 1.0)[0]
    profile, best = bounds.triangular_profile(width), Triangular(width)
    lag, noise = float(profile.lag), float(profile.noise)
    off = (
        erring("best EMA", float(bounds.ema_best_mse(1.0, D, adaptive=False))), spread("1/width", 1 / width),
        biased("no drift", 0.0), using("EMA", EMA(BEST)), using("width·1.1", Triangular(1.1 * width)),
    )  # fmt: skip
    bound = float(limits.minimax_lower_bound(1.0, D, prior="two"))
    return [
        Claim("T15-lin", "line", Regime(Linear(D)), best, Law(100), law(-D * lag, noise), off, 1.0),
        Claim("T15-lin", "hardest ramp", Regime(Ramp(D, width, 100)), best, Law(100), (
            Check("mse", "equal", LIMIT), *law(-D * lag, noise)[1:],
        ), off, 1.0),
        Claim("T15", "hardest ramp", Regime(Ramp(D, h, 40)), BayesRule(h, D), Final(40, 200_000), (
            Check("mse", "equal", bound),
        ), (
            erring("elementary", float(limits.minimax_lower_bound(1.0, D, prior="elementary"))),
            erring("best linear", LIMIT), using("σ·2", BayesRule(h, D, sigma=2.0)), using("EMA", EMA(BEST)),
        )),
    ]  # fmt: skip


def _never_beaten() -> list[Claim]:
    """Shipped trackers at their best settings on the hardest paths for all trackers of their kind."""
    width = float(limits.linear_limit_width(1.0, D))
    walk = float(bounds.kalman_steady(1.0, D).gain)
    gain = float(bounds.certificate_gain_rate(1.0, D))
    linear: tuple[tuple[Tracker, bounds.Profile], ...] = (
        (EMA(BEST), bounds.ema_profile(BEST)),
        (Window(SIZE), bounds.window_profile(SIZE)),
        (Discounted(1 - BEST), bounds.ema_profile(BEST)),
        (DiscountedUCB(1.0, D, discount=1 - BEST), bounds.ema_profile(BEST)),
        (WindowUCB(1.0, D, size=SIZE), bounds.window_profile(SIZE)),
        (CertificateGain(1.0, D), bounds.ema_profile(gain)),
        (Kalman(1.0, D), bounds.ema_profile(walk)),
    )
    ramp = Regime(Ramp(D, width, SETTLED))
    claims = [
        Claim("T15-lin", "hardest ramp", ramp, tracker, Law(SETTLED), (Check("mse", "above", LIMIT),), (
            erring("twice", 2 * LIMIT, "above"), using("the best weights", Triangular(width)),
        ), float(limits.times_limit(bounds.mse(profile, 1.0, D, adaptive=False), 1.0, D)))
        for tracker, profile in linear
    ]  # fmt: skip
    small = 0.01
    for statement, slope, q, steps, informed in (("T15", D, 1.0, SETTLED, True), ("T18", small, 0.1, 600, False)):
        h, bound = _two_points(slope, q)
        visits = Bernoulli(q) if q < 1 else EveryStep()
        rate = float(bounds.asynchronous_best_rate(q, 1.0, slope, adaptive=False))
        extra = (using("Bayes rule", BayesRule(h, slope)),) if informed else ()
        for tracker, replicas in ((EMA(rate), 20_000), (CertificateGain(1.0, slope), 20_000), (Bank(), 8000)):
            claims.append(
                Claim(statement, f"hardest ramp, q={q:g}" if q < 1 else "hardest ramp of all",
                      Regime(Ramp(slope, h, steps), visits=visits), tracker, Final(steps, replicas),
                      (Check("mse", "above", bound),), (erring("three times", 3 * bound, "above"), *extra))
            )  # fmt: skip
    return claims


def _small_drift() -> list[Claim]:
    """The EMA with the rate of T4 is 8 % above the best linear tracker for small drift, and never more than 10 %."""
    claims = []
    for drift in (0.003, 0.03, 0.3):
        best = float(bounds.ema_best_rate(1.0, drift, adaptive=False))
        limit, profile = float(limits.linear_limit(1.0, drift)), bounds.ema_profile(best)
        value = float(bounds.ema_best_mse(1.0, drift, adaptive=False))
        checks = (*law(-drift * float(profile.lag), float(profile.noise)), Check("mse", "at most", 1.10 * limit))
        claims.append(
            Claim("T4, T15-lin", f"line, D={drift:g}", Regime(Linear(drift)), EMA(best),
                  Law(round(40 / best)), checks, (
                erring("the limit itself", limit, "at most"), erring("the limit attained", limit),
                using("b·1.5", EMA(min(1.5 * best, 1.0))), using("b/1.5", EMA(best / 1.5)),
            ), value / limit)
        )  # fmt: skip
    return claims


CLAIMS: tuple[Claim, ...] = (*_attained(), *_never_beaten(), *_small_drift())
