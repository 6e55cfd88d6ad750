"""Random walks, for which the Kalman filter is optimal (T2, T7)."""

from __future__ import annotations

from aria.trackers import EMA, Kalman, Window
from theory import bounds
from theory.claims.base import Check, Claim
from theory.claims.common import SETTLED, A, B, F, biased, erring, law, spread, using
from theory.claims.experiments import Final, Law
from theory.regimes import (
    RandomWalk,
    ReflectedWalk,
    Regime,
)


def _walks() -> list[Claim]:
    tau = 0.1
    walk, steady = Regime(RandomWalk(tau, gaussian=True)), bounds.kalman_steady(1.0, tau)
    gain, best = float(steady.gain), float(steady.posterior)
    ema = float(bounds.ema_mse_random_walk(B, 1.0, tau))
    window = float(bounds.mse_random_walk(bounds.window_profile(12), 1.0, tau))
    return [
        Claim("T2", "random walk", walk, EMA(B), Law(SETTLED), law(0.0, ema), (
            spread("missing a²", (tau**2 + B**2) / (B * (2 - B))), spread("τ/2", F + (ema - F) / 4),
            spread("no walk", F), using("b·1.2", EMA(1.2 * B)),
        )),
        Claim("T2", "random walk", walk, Window(12), Law(100), law(0.0, window), (
            spread("τ/2", 1 / 12 + (window - 1 / 12) / 4), spread("lag for Q", 1 / 12 + tau**2 * 5.5),
            using("W+2", Window(14)),
        )),
        Claim("T2", "random walk, one-bit steps", Regime(RandomWalk(tau)), EMA(B), Final(150, 100_000), (
            Check("mse", "equal", ema), Check("bias", "equal", 0.0),
        ), (
            erring("τ/2", F + (ema - F) / 4), erring("missing a²", (tau**2 + B**2) / (B * (2 - B))),
            using("b·0.5", EMA(B / 2)),
        )),
        Claim("T2", "random walk with trend", Regime(RandomWalk(tau, trend=0.03)), EMA(B), Final(150, 100_000), (
            Check("mse", "equal", ema + (0.03 * A / B) ** 2), Check("bias", "equal", -0.03 * A / B),
        ), (erring("no trend", ema), biased("lag 1/b", -0.03 / B), using("b·1.1", EMA(1.1 * B)))),
        Claim("T7", "random walk", walk, Kalman(1.0, tau), Law(SETTLED), law(0.0, best), (
            spread("K/2", best / 2), spread("predicted", float(steady.predicted)),
            spread("τ/2", float(bounds.kalman_steady(1.0, tau / 2).posterior)),
            using("τ·1.5", Kalman(1.0, 1.5 * tau)), using("τ·2", Kalman(1.0, 2 * tau)),
        )),
        Claim("T7", "stationary", Regime(), Kalman(1.0, tau), Law(SETTLED), law(0.0, gain / (2 - gain)), (
            spread("K/2", gain / 2), using("τ·1.1", Kalman(1.0, 1.1 * tau)), using("σ·1.1", Kalman(1.1, tau)),
        )),
        Claim("T2", "reflected walk", Regime(ReflectedWalk(tau, width=0.5)), EMA(B), Final(200, 50_000), (
            Check("mse", "at most", ema),
        ), (erring("no walk", F, "at most"),)),
    ]  # fmt: skip


CLAIMS: tuple[Claim, ...] = (*_walks(),)
