"""Visits that depend on the errors, and drift that depends on visits (T12, T13)."""

from __future__ import annotations

from aria.trackers import EMA
from theory import bounds
from theory.claims.base import Check, Claim, Mutant
from theory.claims.common import B, F, erring, using
from theory.claims.experiments import Balance, Final
from theory.regimes import (
    ClosedLoop,
    EffortCoupled,
    Gaussian,
    Regime,
    Selective,
    Sparse,
)


def _choosy_visits() -> list[Claim]:
    q, b, drift = 0.1, 0.3, 0.05
    floor = b / (2 - b)
    shocks = Regime(noise=Sparse(chance=0.001), visits=Selective(F**0.5, q))
    choosy = Regime(visits=Selective(floor**0.5, q))
    coupled = Regime(EffortCoupled(drift), visits=Selective(F**0.5, q))
    steps, burn = 1200, 400
    bound = float(bounds.coupled_drift_mse(B, 1.0, drift, effort=q * (steps - burn), initial=1.0))
    loop = Regime(ClosedLoop(0.02), Gaussian(0.2), Selective(0.2 * F**0.5, q), level=4.0)
    closed = float(bounds.closed_loop_mse(B, 0.2, 4.0, 0.02, effort=q * 500, initial=1.0))
    return [
        Claim("T12", "selective visits, shocks", shocks, EMA(B), Final(2000, 12_000, cap=25.0), (
            Check("mse", "at most", F / q), Check("mse", "above", F),
        ), (erring("F", F, "at most"),)),
        Claim("T13", "selective visits", choosy, EMA(b), Balance(b, 1.0, 600, 300, 12_000), (
            Check("squares", "equal", 1.0), Check("firsts", "equal", 0.0), Check("time mse", "above", floor),
        ), (
            Mutant("F/q", {("squares", "equal"): 1 / q}), Mutant("b/2", {("squares", "equal"): (2 - b) / 2}),
            Mutant("time mean F/q", {("time mse", "above"): floor / q}),
            using("b·1.1", EMA(1.1 * b)), using("b·0.9", EMA(0.9 * b)),
        )),
        Claim("T13'", "drift by effort", coupled, EMA(B), Balance(B, 1.0, steps, burn, 6000), (
            Check("weighted", "at most", bound),
        ), (Mutant("no drift", {("weighted", "at most"): F}), using("b/4", EMA(B / 4)))),
        Claim("T13'", "closed loop", loop, EMA(B), Balance(B, 0.2, 600, 100, 10_000), (
            Check("weighted", "at most", closed),
        ), (Mutant("F", {("weighted", "at most"): 0.04 * F}), using("b/20", EMA(B / 20)))),
    ]  # fmt: skip


CLAIMS: tuple[Claim, ...] = (*_choosy_visits(),)
