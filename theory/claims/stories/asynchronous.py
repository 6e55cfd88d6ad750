"""Regions that are not visited at every step, and batches of any size (T8, T10, T11)."""

from __future__ import annotations

from aria.trackers import EMA, CertificateGain
from theory import bounds, limits
from theory.claims.base import Check, Claim
from theory.claims.common import biased, erring, using
from theory.claims.experiments import Averaged, Final, Settled
from theory.regimes import Bernoulli, Binomial, EveryStep, Linear, RandomWalk, Regime


def _rare_visits() -> list[Claim]:
    b, q, drift, steps = 0.2, 0.3, 0.05, 150
    seen = Regime(Linear(drift), visits=Bernoulli(q))
    value = float(bounds.asynchronous_mse(b, q, 1.0, drift, adaptive=False))
    bias, floor = -drift * (1 / (b * q) - 1), b / (2 - b)
    batch, share, slow = 8, 0.15, 0.02
    often = float(bounds.random_visit_rate(batch, share))
    effective = float(bounds.effective_batch(batch, share))
    batches = float(bounds.asynchronous_mse(b, often, 1.0, slow, batch=effective, adaptive=False))
    free = float(bounds.asynchronous_mse(b, often, 1.0, slow, adaptive=False))
    mean = float(bounds.asynchronous_mse(b, often, 1.0, slow, batch=batch * share / often, adaptive=False))
    tau = 0.05
    walk = float(bounds.asynchronous_mse_random_walk(b, q, 1.0, tau))
    claims = [
        Claim("T10", "line, visits q=.3", seen, EMA(b), Final(steps, 50_000), (
            Check("mse", "equal", value), Check("bias", "equal", bias),
        ), (
            erring("no gap variance", bias**2 + floor), erring("F/q", floor / q), erring("no drift", floor),
            biased("lag 1/(bq)", -drift / (b * q)), using("b·1.1", EMA(1.1 * b)),
        ), float(limits.times_limit(value, 1.0, drift, q))),
        Claim("T10", "walk, visits q=.3", Regime(RandomWalk(tau), visits=Bernoulli(q)), EMA(b), Final(steps, 50_000), (
            Check("mse", "equal", walk),
        ), (
            erring("as if always seen", float(bounds.ema_mse_random_walk(b, 1.0, tau))), erring("F/q", floor / q),
            using("b·1.5", EMA(1.5 * b)),
        )),
        Claim("T11", "line, batches of 8·15 %", Regime(Linear(slow), visits=Binomial(batch, share)), EMA(b),
              Final(80, 40_000), (
            Check("mse", "equal", batches), Check("bias", "equal", -slow * (1 / (b * often) - 1)),
        ), (
            erring("n ignored", free), erring("mean of n", mean), biased("lag 1/(bq)", -slow / (b * often)),
            using("b·1.2", EMA(1.2 * b)),
        ), float(limits.times_limit(batches, 1.0, slow, often, effective))),
    ]  # fmt: skip
    return claims


def _near_the_limit() -> list[Claim]:
    """T18: no linear tracker is below the limit for its visits, and trackers set for the drift are not far above it.

    The line is the worst path of both, so their error on it is their worst case.
    """
    drift, claims = 0.01, []
    for q, most_ema, most_gain, replicas, quick in (
        (1.0, 1.10, 1.10, 12_000, True),
        (0.3, 1.13, 1.10, 4000, True),
        (0.1, 1.18, 1.11, 2500, True),
        (0.02, 1.33, 1.28, 500, False),
    ):
        limit = float(limits.asynchronous_linear_limit(1.0, drift, q))
        rate = float(bounds.asynchronous_best_rate(q, 1.0, drift, adaptive=False))
        value = float(bounds.asynchronous_best_mse(q, 1.0, drift, adaptive=False))
        regime = Regime(Linear(drift), visits=Bernoulli(q) if q < 1 else EveryStep())
        span = round(120 / q)
        loose = erring("the limit itself", limit, "at most")
        claims += [
            Claim("T10, T18", f"line, visits q={q:g}", regime, EMA(rate), Settled(150_000), (
                Check("mse", "equal", value), Check("mse", "above", limit), Check("mse", "at most", most_ema * limit),
            ), (
                loose, using("b·1.5", EMA(min(1.5 * rate, 1.0))), using("b/1.5", EMA(rate / 1.5)),
            ), value / limit, quick),
            Claim("T8, T18", f"line, visits q={q:g}", regime, CertificateGain(1.0, drift),
                  Averaged(2 * span, span, replicas), (
                Check("mse", "above", limit), Check("mse", "at most", most_gain * limit),
            ), (
                loose, using("D·10", CertificateGain(1.0, 10 * drift)), using("D/4", CertificateGain(1.0, drift / 4)),
            ), most_gain, quick),
        ]  # fmt: skip
    return claims


CLAIMS: tuple[Claim, ...] = (*_rare_visits(), *_near_the_limit())
