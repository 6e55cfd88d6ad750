"""Every linear tracker visited at every step (T1, T4 to T8): the bias is drift times lag, the variance is the noise."""

from __future__ import annotations

from aria.interfaces import Tracker
from aria.trackers import EMA, CertificateGain, Constant, Discounted, DiscountedUCB, Kalman, Window, WindowUCB
from theory import bounds, limits
from theory.bounds import Certified
from theory.claims.base import Check, Claim, Mutant
from theory.claims.common import SETTLED, A, B, D, F, biased, erring, law, spread, using
from theory.claims.experiments import Final, Law
from theory.regimes import EveryStep, Linear, Rademacher, RandomWalk, Regime


def _on_a_line(
    statement: str, tracker: Tracker, profile: Certified, mutants: tuple[Mutant, ...], steps: int = SETTLED
) -> Claim:
    """T1 holds with equality on a line, which is the worst case that is certified as a multiple of the limit."""
    limit = limits.times_limit(bounds.mse(profile, 1.0, D, adaptive=False), 1.0, D)
    checks = law(-D * float(profile.lag), float(profile.noise))
    all_ = (biased("no drift", 0.0), *mutants)
    return Claim(statement, "line", Regime(Linear(D)), tracker, Law(steps), checks, all_, float(limit))


def _lines() -> list[Claim]:
    """Linear drift: bias D·lag and variance s²·noise, of every linear tracker."""
    gain = float(bounds.certificate_gain_rate(1.0, D))
    greedy = 2 ** (1 / 3) * D ** (2 / 3)
    best = float(bounds.ema_best_rate(1.0, D, adaptive=False))
    wrong = float(bounds.kalman_steady(1.0, D).gain)
    young = bounds.corrected_ema_profile(B, 5)
    return [
        _on_a_line("T1, T3-O", EMA(B), bounds.ema_profile(B), (
            biased("lag 1/b", -D / B), spread("b/2", B / 2), using("b·1.1", EMA(1.1 * B)), using("b·0.9", EMA(0.9 * B)),
        )),
        _on_a_line("T4", EMA(best), bounds.ema_profile(best), (
            biased("rate of a walk", -D * (1 / wrong - 1)), spread("b/2", best / 2),
            using("b·1.1", EMA(1.1 * best)), using("b·0.9", EMA(0.9 * best)),
        )),
        _on_a_line("T5", EMA(B), young, (
            spread("b/(2-b)", F), biased("settled lag", -D * A / B),
            spread("one step later", float(bounds.corrected_ema_profile(B, 6).noise)), using("b·1.5", EMA(1.5 * B)),
        ), steps=5),
        _on_a_line("T5", Discounted(A), bounds.corrected_ema_profile(B, SETTLED), (
            spread("1-γ²", 1 - A**2), biased("lag 1/(1-γ)", -D / B), using("(1-γ)·1.1", Discounted(1 - 1.1 * B)),
        )),
        _on_a_line("T5", DiscountedUCB(1.0, D, discount=A), bounds.corrected_ema_profile(B, SETTLED), (
            biased("lag 1/(1-γ)", -D / B), using("(1-γ)·1.1", DiscountedUCB(1.0, D, discount=1 - 1.1 * B)),
        )),
        _on_a_line("T6", WindowUCB(1.0, D, size=12), bounds.window_profile(12), (
            biased("lag W/2", -D * 6), spread("1/(W+1)", 1 / 13), using("W+2", WindowUCB(1.0, D, size=14)),
        ), steps=100),
        _on_a_line("T6", Window(12), bounds.window_profile(12), (
            biased("lag W/2", -D * 6), spread("1/(W+1)", 1 / 13), using("W+2", Window(14)), using("W-2", Window(10)),
        )),
        _on_a_line("T8", CertificateGain(1.0, D), bounds.ema_profile(gain), (
            biased("greedy gain", -D * (1 - greedy) / greedy), spread("b/2", gain / 2),
            using("D·1.1", CertificateGain(1.0, 1.1 * D)), using("σ·1.1", CertificateGain(1.1, D)),
        )),
        _on_a_line("T7", Kalman(1.0, D), bounds.ema_profile(wrong), (
            biased("as the best EMA", -D * (1 / best - 1)),
            spread("K", wrong), using("τ·1.1", Kalman(1.0, 1.1 * D)), using("σ·1.1", Kalman(1.1, D)),
        ), steps=1000),
    ]  # fmt: skip


def _at_rest() -> Claim:
    young = float(bounds.corrected_ema_profile(B, 10).noise)
    return Claim(
        "T1", "stationary", Regime(), EMA(B), Law(10), law(0.0, young), (
            spread("b/(2-b)", F), spread("b/2", B / 2),
            spread("one step later", float(bounds.corrected_ema_profile(B, 11).noise)), using("b·1.5", EMA(1.5 * B)),
            biased("as on a line", -D * A / B),
        ),
    )  # fmt: skip


def _batches() -> list[Claim]:
    regime, n = Regime(Linear(D), visits=EveryStep(batch=4)), 4
    gain = float(bounds.certificate_gain_rate(1.0, D, batch=n))
    claims = []
    for tracker, rate, off in (
        (EMA(B), B, EMA(1.1 * B)),
        (CertificateGain(1.0, D), gain, CertificateGain(1.1, D)),
    ):
        profile = bounds.ema_profile(rate, batch=n)
        value = bounds.mse(profile, 1.0, D, adaptive=False)
        claims.append(
            Claim("T1", "line, batches of 4", regime, tracker, Law(SETTLED),
                  law(-D * float(profile.lag), float(profile.noise)), (
                spread("n ignored", rate / (2 - rate)), spread("n²", rate / (2 - rate) / n**2),
                biased("no drift", 0.0), using("a parameter ·1.1", off),
            ), float(limits.times_limit(value, 1.0, D, batch=n)))
        )  # fmt: skip
    return claims


def _one_bit() -> Claim:
    """T1 by simulation: two-valued noise attains it as normal noise does."""
    value = float(bounds.corrected_ema_mse(B, 1.0, D, 150, adaptive=False))
    return Claim(
        "T1, T3-O", "line, one-bit noise", Regime(Linear(D), Rademacher()), EMA(B), Final(150, 100_000), (
            Check("mse", "equal", value), Check("bias", "equal", -D * float(bounds.corrected_ema_profile(B, 150).lag)),
        ), (
            erring("no drift", F), erring("mse at lag 1/b", (D / B) ** 2 + F), biased("lag 1/b", -D / B),
            erring("b/2", value - F / 2), using("b·1.1", EMA(1.1 * B)),
        ), float(limits.times_limit(value, 1.0, D)),
    )  # fmt: skip


def _plain_mean() -> list[Claim]:
    """T6', for comparison: the mean of all observations, which is a Kalman filter without drift, and a constant."""
    claims, tau = [], 0.05
    for steps in (100, 400):
        profile = bounds.cumulative_profile(steps)
        line = float(bounds.cumulative_mse(steps, 1.0, D, adaptive=False))
        walk = float(bounds.cumulative_mse_random_walk(steps, 1.0, tau))
        grown = float(bounds.cumulative_mse_random_walk(steps // 2, 1.0, tau))
        off = using("forgets a little", Kalman(1.0, 0.02))
        claims += [
            Claim("T6'", f"line, {steps} steps", Regime(Linear(D)), Kalman(1.0, 0.0), Law(steps),
                  law(-D * float(profile.lag), float(profile.noise)), (
                biased("no drift", 0.0), biased("lag t/2", -D * steps / 2),
                biased("settles", -D * float(bounds.cumulative_profile(steps // 2).lag)), off,
            ), line / float(limits.linear_limit(1.0, D))),
            Claim("T6'", f"random walk, {steps} steps", Regime(RandomWalk(tau, gaussian=True)), Kalman(1.0, 0.0),
                  Law(steps), law(0.0, walk), (
                spread("no walk", 1 / steps), spread("settles", grown), spread("lag for Q", walk * 1.5), off,
            )),
        ]  # fmt: skip
    wrong_by = 1 - 100 * D
    null = Claim("T6'", "line, 100 steps", Regime(Linear(D)), Constant(), Final(100, 2), (
        Check("mse", "equal", wrong_by**2), Check("bias", "equal", wrong_by),
    ), (
        biased("moves along", 1.0), using("level 2", Constant(2.0)),
    ), float(limits.times_limit(wrong_by**2, 1.0, D)))  # fmt: skip
    return [*claims, null]


CLAIMS: tuple[Claim, ...] = (*_lines(), _at_rest(), *_batches(), _one_bit(), *_plain_mean())
