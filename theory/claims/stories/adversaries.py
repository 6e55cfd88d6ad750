"""Drift that depends on the error and increases it (T1-A, T3-A, T4)."""

from __future__ import annotations

from aria.trackers import EMA, CertificateGain, Discounted, Kalman, Window
from theory import bounds, limits
from theory.claims.base import Check, Claim
from theory.claims.common import SETTLED, A, B, D, F, erring, using
from theory.claims.experiments import Final
from theory.regimes import (
    Regime,
    SignAdversary,
    TwoPoint,
)


def _adversaries() -> list[Claim]:
    claims = []
    steps, small = 200, 0.01
    for drift, sense in ((D, "two-point adversary"), (small, "two-point adversary, D=.01")):
        worst = float(bounds.corrected_ema_mse_recursion(B, 1.0, drift, steps))
        oblivious = float(bounds.ema_mse(B, 1.0, drift, adaptive=False))
        claims.append(
            Claim("T3-A", sense, Regime(SignAdversary(drift), TwoPoint(rate=B)), EMA(B), Final(steps, 2000), (
                Check("mse", "equal", worst), Check("mse", "above", oblivious),
            ), (
                erring("oblivious bound", oblivious), erring("4/3 of the oblivious", 4 / 3 * oblivious),
                erring("no drift", F), using("b·1.1", EMA(1.1 * B)), using("b·0.9", EMA(0.9 * B)),
            ), float(limits.times_limit(worst, 1.0, drift)))
        )  # fmt: skip
    worst, oblivious = float(bounds.ema_mse(B, 1.0, small)), float(bounds.ema_mse(B, 1.0, small, adaptive=False))
    best = bounds.ema_best_rate(1.0, small)
    window = bounds.window_profile(12)
    gain, kalman = float(bounds.certificate_gain_rate(1.0, D)), float(bounds.kalman_steady(1.0, D).gain)
    for statement, tracker, bound in (
        ("T1-A", Window(12), bounds.mse(window, 1.0, D)),
        ("T3-A", Discounted(A), bounds.ema_mse(B, 1.0, D)),
        ("T3-A, T8", CertificateGain(1.0, D), bounds.ema_mse(gain, 1.0, D)),
        ("T3-A, T7", Kalman(1.0, D), bounds.ema_mse(kalman, 1.0, D)),
    ):
        claims.append(
            Claim(statement, "sign adversary, D=.05", Regime(SignAdversary(D)), tracker, Final(SETTLED, 10_000), (
                Check("mse", "at most", float(bound)),
            ), (erring("half", float(bound) / 2, "at most"),), float(limits.times_limit(bound, 1.0, D)))
        )  # fmt: skip
    claims.append(
        Claim("T3-A", "sign adversary", Regime(SignAdversary(small)), EMA(B), Final(150, 100_000), (
            Check("mse", "at most", worst), Check("mse", "above", oblivious),
        ), (
            erring("oblivious bound", oblivious, "at most"), erring("worst case attained", worst, "above"),
            using("b·2", EMA(2 * B)),
        ), float(limits.times_limit(worst, 1.0, small)))
    )  # fmt: skip
    claims.append(
        Claim("T4", "two-point adversary", Regime(SignAdversary(small), TwoPoint(rate=float(best))), EMA(float(best)),
              Final(400, 10_000), (Check("mse", "equal", float(best)),), (
            erring("oblivious optimum", float(bounds.ema_best_mse(1.0, small, adaptive=False))),
            erring("1.1906 s^(4/3) D^(2/3)", bounds.LINE_CONSTANT * small ** (2 / 3)),
            using("b·1.5", EMA(1.5 * float(best))),
        ), float(limits.times_limit(best, 1.0, small)))
    )  # fmt: skip
    return claims


CLAIMS: tuple[Claim, ...] = (*_adversaries(),)
