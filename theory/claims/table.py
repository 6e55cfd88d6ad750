"""The claims. References come from :mod:`theory.bounds`, trackers from :mod:`aria.trackers`; noise has variance 1.

A mutant "b·1.1" and the like is a tracker whose parameter is 10 % off; the others are formulas one could believe in.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import replace

import numpy as np

from aria.interfaces import Tracker
from aria.trackers import EMA, Bank, CertificateGain, Discounted, DiscountedUCB, Kalman, Window, WindowUCB
from theory import bounds, limits
from theory.bounds import Certified
from theory.claims.base import Check, Claim, Experiment, Mutant
from theory.claims.experiments import Averaged, Balance, Beyond, Final, Law
from theory.regimes import (
    Allocated,
    Bernoulli,
    Binomial,
    ClosedLoop,
    Decay,
    EffortCoupled,
    EveryStep,
    Gaussian,
    Heteroscedastic,
    Jump,
    Linear,
    Rademacher,
    RandomWalk,
    ReflectedWalk,
    Regime,
    Selective,
    SignAdversary,
    Sinusoid,
    Sparse,
    StudentT,
    TwoPoint,
)

B = 0.1
"""The rate b of most averages here."""
A = 1 - B
F = B / (2 - B)
"""Their settled variance."""
D = 0.05
"""The drift of most regimes here."""
SETTLED = 400
"""Steps after which nothing is left of the start: (1-b)^400 < 10⁻¹⁸."""


def _law(bias: float, variance: float) -> tuple[Check, ...]:
    """Bias and variance apart, after the mean square that both make."""
    return (
        Check("mse", "equal", bias**2 + variance),
        Check("bias", "equal", bias),
        Check("variance", "equal", variance),
    )


def _bias(name: str, value: float) -> Mutant:
    return Mutant(name, {("bias", "equal"): value})


def _variance(name: str, value: float) -> Mutant:
    return Mutant(name, {("variance", "equal"): value})


def _mse(name: str, value: float, sense: str = "equal") -> Mutant:
    return Mutant(name, {("mse", sense): value})


def _is(name: str, tracker: Tracker) -> Mutant:
    return Mutant(name, tracker=tracker)


def _on_a_line(
    statement: str, tracker: Tracker, profile: Certified, mutants: tuple[Mutant, ...], steps: int = SETTLED
) -> Claim:
    """T1 holds with equality on a line; what is certified, as a multiple of the limit, is its worst case."""
    limit = limits.times_limit(bounds.mse(profile, 1.0, D, adaptive=False), 1.0, D)
    checks = _law(-D * float(profile.lag), float(profile.noise))
    all_ = (_bias("no drift", 0.0), *mutants)
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
            _bias("lag 1/b", -D / B), _variance("b/2", B / 2), _is("b·1.1", EMA(1.1 * B)), _is("b·0.9", EMA(0.9 * B)),
        )),
        _on_a_line("T4", EMA(best), bounds.ema_profile(best), (
            _bias("rate of a walk", -D * (1 / wrong - 1)), _variance("b/2", best / 2),
            _is("b·1.1", EMA(1.1 * best)), _is("b·0.9", EMA(0.9 * best)),
        )),
        _on_a_line("T5", EMA(B), young, (
            _variance("b/(2-b)", F), _bias("settled lag", -D * A / B),
            _variance("one step later", float(bounds.corrected_ema_profile(B, 6).noise)), _is("b·1.1", EMA(1.1 * B)),
        ), steps=5),
        _on_a_line("T5", Discounted(A), bounds.corrected_ema_profile(B, SETTLED), (
            _variance("1-γ²", 1 - A**2), _bias("lag 1/(1-γ)", -D / B), _is("(1-γ)·1.1", Discounted(1 - 1.1 * B)),
        )),
        _on_a_line("T5", DiscountedUCB(1.0, D, discount=A), bounds.corrected_ema_profile(B, SETTLED), (
            _bias("lag 1/(1-γ)", -D / B), _is("(1-γ)·1.1", DiscountedUCB(1.0, D, discount=1 - 1.1 * B)),
        )),
        _on_a_line("T6", WindowUCB(1.0, D, size=12), bounds.window_profile(12), (
            _bias("lag W/2", -D * 6), _variance("1/(W+1)", 1 / 13), _is("W+2", WindowUCB(1.0, D, size=14)),
        ), steps=100),
        _on_a_line("T6", Window(12), bounds.window_profile(12), (
            _bias("lag W/2", -D * 6), _variance("1/(W+1)", 1 / 13), _is("W+2", Window(14)), _is("W-2", Window(10)),
        )),
        _on_a_line("T8", CertificateGain(1.0, D), bounds.ema_profile(gain), (
            _bias("greedy gain", -D * (1 - greedy) / greedy), _variance("b/2", gain / 2),
            _is("D·1.1", CertificateGain(1.0, 1.1 * D)), _is("σ·1.1", CertificateGain(1.1, D)),
        )),
        _on_a_line("T7", Kalman(1.0, D), bounds.ema_profile(wrong), (
            _bias("as the best EMA", -D * (1 / best - 1)),
            _variance("K", wrong), _is("τ·1.1", Kalman(1.0, 1.1 * D)), _is("σ·1.1", Kalman(1.1, D)),
        ), steps=1000),
    ]  # fmt: skip


def _at_rest() -> Claim:
    young = float(bounds.corrected_ema_profile(B, 10).noise)
    return Claim(
        "T1", "stationary", Regime(), EMA(B), Law(10), _law(0.0, young), (
            _variance("b/(2-b)", F), _variance("b/2", B / 2),
            _variance("one step later", float(bounds.corrected_ema_profile(B, 11).noise)), _is("b·1.1", EMA(1.1 * B)),
            _bias("as on a line", -D * A / B),
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
                  _law(-D * float(profile.lag), float(profile.noise)), (
                _variance("n ignored", rate / (2 - rate)), _variance("n²", rate / (2 - rate) / n**2),
                _bias("no drift", 0.0), _is("a parameter ·1.1", off),
            ), float(limits.times_limit(value, 1.0, D, batch=n)))
        )  # fmt: skip
    return claims


def _one_bit() -> Claim:
    """T1 again through the step loop: two-sided noise attains it as normal noise does."""
    value = float(bounds.corrected_ema_mse(B, 1.0, D, 150, adaptive=False))
    return Claim(
        "T1, T3-O", "line, one-bit noise", Regime(Linear(D), Rademacher()), EMA(B), Final(150, 100_000), (
            Check("mse", "equal", value), Check("bias", "equal", -D * float(bounds.corrected_ema_profile(B, 150).lag)),
        ), (
            _mse("no drift", F), _mse("mse at lag 1/b", (D / B) ** 2 + F), _bias("lag 1/b", -D / B),
            _mse("b/2", value - F / 2), _is("b·1.1", EMA(1.1 * B)),
        ), float(limits.times_limit(value, 1.0, D)),
    )  # fmt: skip


def _walks() -> list[Claim]:
    tau = 0.1
    walk, steady = Regime(RandomWalk(tau, gaussian=True)), bounds.kalman_steady(1.0, tau)
    gain, best = float(steady.gain), float(steady.posterior)
    ema = float(bounds.ema_mse_random_walk(B, 1.0, tau))
    window = float(bounds.mse_random_walk(bounds.window_profile(12), 1.0, tau))
    return [
        Claim("T2", "random walk", walk, EMA(B), Law(SETTLED), _law(0.0, ema), (
            _variance("missing a²", (tau**2 + B**2) / (B * (2 - B))), _variance("τ/2", F + (ema - F) / 4),
            _variance("no walk", F), _is("b·1.2", EMA(1.2 * B)),
        )),
        Claim("T2", "random walk", walk, Window(12), Law(100), _law(0.0, window), (
            _variance("τ/2", 1 / 12 + (window - 1 / 12) / 4), _variance("lag for Q", 1 / 12 + tau**2 * 5.5),
            _is("W+2", Window(14)),
        )),
        Claim("T2", "random walk, one-bit steps", Regime(RandomWalk(tau)), EMA(B), Final(150, 100_000), (
            Check("mse", "equal", ema), Check("bias", "equal", 0.0),
        ), (
            _mse("τ/2", F + (ema - F) / 4), _mse("missing a²", (tau**2 + B**2) / (B * (2 - B))),
            _is("b·0.5", EMA(B / 2)),
        )),
        Claim("T2", "random walk with trend", Regime(RandomWalk(tau, trend=0.03)), EMA(B), Final(150, 100_000), (
            Check("mse", "equal", ema + (0.03 * A / B) ** 2), Check("bias", "equal", -0.03 * A / B),
        ), (_mse("no trend", ema), _bias("lag 1/b", -0.03 / B), _is("b·1.1", EMA(1.1 * B)))),
        Claim("T7", "random walk", walk, Kalman(1.0, tau), Law(SETTLED), _law(0.0, best), (
            _variance("K/2", best / 2), _variance("predicted", float(steady.predicted)),
            _variance("τ/2", float(bounds.kalman_steady(1.0, tau / 2).posterior)),
            _is("τ·1.1", Kalman(1.0, 1.1 * tau)), _is("τ·2", Kalman(1.0, 2 * tau)),
        )),
        Claim("T7", "stationary", Regime(), Kalman(1.0, tau), Law(SETTLED), _law(0.0, gain / (2 - gain)), (
            _variance("K/2", gain / 2), _is("τ·1.1", Kalman(1.0, 1.1 * tau)), _is("σ·1.1", Kalman(1.1, tau)),
        )),
        Claim("T2", "reflected walk", Regime(ReflectedWalk(tau, width=0.5)), EMA(B), Final(200, 50_000), (
            Check("mse", "at most", ema),
        ), (_mse("no walk", F, "at most"),)),
    ]  # fmt: skip


def _known_paths() -> list[Claim]:
    period, amplitude = 120, 1.0
    w = 2 * math.pi / period
    phase = cmath.phase(-(1 - cmath.exp(-1j * w)) / (1 - A * cmath.exp(-1j * w)))
    t = 10 * period + round((math.pi / 2 - phase) / w) % period  # where the bias is largest
    turn = math.sin(w * t + phase)
    h, worst = float(bounds.sinusoid_bias(B, amplitude, w)), float(bounds.sinusoid_drift(amplitude, w))
    steps, size, ratio = 20, 5.0, 0.98
    weight = 1 - A**steps
    lost = size * (ratio**steps - 1)  # the corrected average forgets where it started
    decay = float(bounds.decay_bias(B, size, ratio, steps, initial=lost)) / weight
    young = bounds.corrected_ema_profile(B, steps)
    noise = Heteroscedastic(low=0.2, period=50.0)
    scales = np.array([noise.scale(step) for step in range(SETTLED + 25, 0, -1)])
    hetero = float(bounds.heteroscedastic_variance(B, scales**2))
    k, jump = 10, 3.0
    left = -jump * A**k
    return [
        Claim("regimes", "sinusoid", Regime(Sinusoid(amplitude, w)), EMA(B), Law(t), _law(h * turn, F), (
            _bias("small frequency", amplitude * w * A / B * turn), _bias("no drift", 0.0),
            _bias("worst case D·lag", worst * A / B), _is("b·1.1", EMA(1.1 * B)),
        )),
        Claim("regimes", "decay", Regime(Decay(size, ratio)), EMA(B), Law(steps), _law(decay, float(young.noise)), (
            _bias("no drift", 0.0), _bias("worst case D·lag", size * (1 - ratio) * float(young.lag)),
            _bias("uncorrected start", decay * weight), _is("b·1.1", EMA(1.1 * B)),
        )),
        Claim("regimes", "jump, 10 visits later", Regime(Jump(jump, at=200)), EMA(B), Law(199 + k), _law(left, F), (
            _bias("a visit less", left / A), _bias("a visit more", left * A), _bias("no jump", 0.0),
            _is("b·1.1", EMA(1.1 * B)),
        )),
        Claim("regimes", "heteroscedastic", Regime(noise=noise), EMA(B), Law(SETTLED + 25), _law(0.0, hetero), (
            _variance("largest variance", F), _variance("mean variance", F * float((scales[:50] ** 2).mean())),
            _is("b·1.1", EMA(1.1 * B)),
        )),
    ]  # fmt: skip


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
                _mse("oblivious bound", oblivious), _mse("4/3 of the oblivious", 4 / 3 * oblivious),
                _mse("no drift", F), _is("b·1.1", EMA(1.1 * B)), _is("b·0.9", EMA(0.9 * B)),
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
            ), (_mse("half", float(bound) / 2, "at most"),), float(limits.times_limit(bound, 1.0, D)))
        )  # fmt: skip
    claims.append(
        Claim("T3-A", "sign adversary", Regime(SignAdversary(small)), EMA(B), Final(150, 100_000), (
            Check("mse", "at most", worst), Check("mse", "above", oblivious),
        ), (
            _mse("oblivious bound", oblivious, "at most"), _mse("worst case attained", worst, "above"),
            _is("b·2", EMA(2 * B)),
        ), float(limits.times_limit(worst, 1.0, small)))
    )  # fmt: skip
    claims.append(
        Claim("T4", "two-point adversary", Regime(SignAdversary(small), TwoPoint(rate=float(best))), EMA(float(best)),
              Final(400, 10_000), (Check("mse", "equal", float(best)),), (
            _mse("oblivious optimum", float(bounds.ema_best_mse(1.0, small, adaptive=False))),
            _mse("1.1906 s^(4/3) D^(2/3)", bounds.LINE_CONSTANT * small ** (2 / 3)),
            _is("b·1.1", EMA(1.1 * float(best))), _is("b·1.5", EMA(1.5 * float(best))),
        ), float(limits.times_limit(best, 1.0, small)))
    )  # fmt: skip
    return claims


def _rare_visits() -> list[Claim]:
    b, q, drift, steps = 0.2, 0.3, 0.05, 200
    seen = Regime(Linear(drift), visits=Bernoulli(q))
    value = float(bounds.asynchronous_mse(b, q, 1.0, drift, adaptive=False))
    bias, floor = -drift * (1 / (b * q) - 1), b / (2 - b)
    batch, share, slow = 8, 0.05, 0.02
    often = float(bounds.random_visit_rate(batch, share))
    alike = float(bounds.effective_batch(batch, share))
    batches = float(bounds.asynchronous_mse(b, often, 1.0, slow, batch=alike, adaptive=False))
    free = float(bounds.asynchronous_mse(b, often, 1.0, slow, adaptive=False))
    mean = float(bounds.asynchronous_mse(b, often, 1.0, slow, batch=batch * share / often, adaptive=False))
    tau = 0.05
    walk = float(bounds.asynchronous_mse_random_walk(b, q, 1.0, tau))
    claims = [
        Claim("T10", "line, visits q=.3", seen, EMA(b), Final(steps, 100_000), (
            Check("mse", "equal", value), Check("bias", "equal", bias),
        ), (
            _mse("no gap variance", bias**2 + floor), _mse("F/q", floor / q), _mse("no drift", floor),
            _bias("lag 1/(bq)", -drift / (b * q)), _is("b·1.1", EMA(1.1 * b)),
        ), float(limits.times_limit(value, 1.0, drift, q))),
        Claim("T10", "walk, visits q=.3", Regime(RandomWalk(tau), visits=Bernoulli(q)), EMA(b), Final(steps, 100_000), (
            Check("mse", "equal", walk),
        ), (
            _mse("as if always seen", float(bounds.ema_mse_random_walk(b, 1.0, tau))), _mse("F/q", floor / q),
            _is("b·1.5", EMA(1.5 * b)),
        )),
        Claim("T11", "line, batches of 8·5 %", Regime(Linear(slow), visits=Binomial(batch, share)), EMA(b),
              Final(steps, 100_000), (
            Check("mse", "equal", batches), Check("bias", "equal", -slow * (1 / (b * often) - 1)),
        ), (
            _mse("n ignored", free), _mse("mean of n", mean), _bias("lag 1/(bq)", -slow / (b * often)),
            _is("b·1.1", EMA(1.1 * b)),
        ), float(limits.times_limit(batches, 1.0, slow, often, alike))),
    ]  # fmt: skip
    for rate, most, quick in ((0.3, 1.10, True), (0.1, 1.11, False)):
        small = 0.01
        limit = float(limits.asynchronous_linear_limit(1.0, small, rate))
        regime, span = Regime(Linear(small), visits=Bernoulli(rate)), round(120 / rate)
        claims.append(
            Claim("T8", f"line, visits q={rate:.1g}", regime, CertificateGain(1.0, small),
                  Averaged(2 * span, span, 10_000), (Check("mse", "at most", most * limit),), (
                _mse("the limit itself", limit, "at most"), _is("D·4", CertificateGain(1.0, 4 * small)),
                _is("D/4", CertificateGain(1.0, small / 4)),
            ), most, quick)
        )  # fmt: skip
    return claims


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
    slow, share, steep = 0.1, 0.4, 0.2
    line = Regime(Linear(0.02), visits=Bernoulli(share))
    residual = float(bounds.residual_mse(slow, share, 1.0, 0.02, adaptive=False))
    steered = Regime(noise=Gaussian(0.5), visits=Allocated(floor=0.4), level=(1.0, 1.0))  # .2 + .6 m/Σm: d ln q/dm = .3
    return [
        Claim("T12", "selective visits, shocks", shocks, EMA(B), Final(2000, 15_000, cap=25.0), (
            Check("mse", "at most", F / q), Check("mse", "above", F),
        ), (_mse("F", F, "at most"), _is("b·3", EMA(3 * B)))),
        Claim("T13", "selective visits", choosy, EMA(b), Balance(b, 1.0, 600, 300, 20_000), (
            Check("squares", "equal", 1.0), Check("firsts", "equal", 0.0), Check("time mse", "above", floor),
        ), (
            Mutant("F/q", {("squares", "equal"): 1 / q}), Mutant("b/2", {("squares", "equal"): (2 - b) / 2}),
            Mutant("time mean F/q", {("time mse", "above"): floor / q}),
            _is("b·1.1", EMA(1.1 * b)), _is("b·0.9", EMA(0.9 * b)),
        )),
        Claim("T13'", "drift by effort", coupled, EMA(B), Balance(B, 1.0, steps, burn, 10_000), (
            Check("weighted", "at most", bound),
        ), (Mutant("no drift", {("weighted", "at most"): F}), _is("b/4", EMA(B / 4)))),
        Claim("T13'", "closed loop", loop, EMA(B), Balance(B, 0.2, 600, 100, 10_000), (
            Check("weighted", "at most", closed),
        ), (Mutant("F", {("weighted", "at most"): 0.04 * F}), _is("b/20", EMA(B / 20)))),
        Claim("T14", "line, visits q=.4", line, EMA(slow, importance=True), Final(200, 100_000), (
            Check("mse", "equal", residual), Check("bias", "equal", -0.02 * (1 / slow - 1)),
        ), (
            _mse("visit-only rate", float(bounds.asynchronous_mse(slow, share, 1.0, 0.02, adaptive=False))),
            _mse("no drift", slow / (2 * share - slow)), _bias("lag 1/(bq)", -0.02 / (slow * share)),
            _is("b·1.1", EMA(1.1 * slow, importance=True)), _is("no weights", EMA(slow)),
        ), float(limits.times_limit(residual, 1.0, 0.02, share))),
        Claim("T14", "steered by its estimates", steered, EMA(steep, importance=True), Averaged(400, 200, 10_000), (
            Check("bias", "equal", 0.0),
        ), (
            _bias("as without weights", float(bounds.selection_bias(steep, 0.5, 0.3))), _is("no weights", EMA(steep)),
        )),
    ]  # fmt: skip


def _banks() -> list[Claim]:
    """T9: what the bank, knowing nothing, pays over the best rate of all; and over the best of its own."""
    experiment, claims = Averaged(1600, 800, 800), []
    own = [2.0**-i for i in range(9)]
    for name, regime, best, rates, limit in (
        *(
            (
                f"line, D={drift:g}",
                Regime(Linear(drift)),
                bounds.ema_best_mse(1.0, drift, when="next", adaptive=False),
                [float(bounds.ema_mse(rate, 1.0, drift, adaptive=False)) for rate in own],
                1.10 * float(limits.times_limit(
                    bounds.ema_best_mse(1.0, drift, when="next", adaptive=False), 1.0, drift, when="next"
                )),
            )
            for drift in (0.02, 0.05, 0.2)
        ),
        *(
            (
                f"random walk, τ={tau:g}",
                Regime(RandomWalk(tau, gaussian=True)),
                bounds.kalman_steady(1.0, tau).predicted,
                [float(bounds.ema_mse_random_walk(rate, 1.0, tau)) for rate in own],
                None,
            )
            for tau in (0.1, 0.3)
        ),
    ):  # fmt: skip
        claims.append(
            Claim("T9", name, regime, Bank(), experiment, (
                Check("prediction", "at most", 1.10 * float(best)), Check("mse", "at most", 1.10 * min(rates)),
            ), (
                Mutant("0.9 of the best", {("prediction", "at most"): 0.9 * float(best)}),
                _is("two rates", Bank(size=2)), _is("rate 1 only", Bank(size=1)), _is("forget 0.3", Bank(forget=0.3)),
            ), limit, quick=name in ("line, D=0.05", "random walk, τ=0.3"))
        )  # fmt: skip
    return claims


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
    level = 1 / (1 - (1 - fine) ** burn)  # of the bias correction that is left after burn
    uniform = level * float(bounds.radius_uniform(fine, 1.0, 0.0, 0.05, horizon))
    single = level * float(bounds.radius_sub_gaussian(bounds.ema_profile(fine), 1.0, 0.0, 0.05))
    return [
        beyond("T16-1", "stationary, δ=.01", Regime(), EMA(B), rest, Check("misses", "at most", delta),
               other("ln for 2 ln", replace(rest, radius=narrow / 2**0.5)), share("δ/100", delta / 100),
               _is("b·2", EMA(2 * B))),
        beyond("T16-1", "line, δ=.01", Regime(Linear(D)), EMA(B), moving, Check("misses", "at most", delta),
               other("no drift", replace(moving, radius=narrow)), share("δ/100", delta / 100), _is("b/2", EMA(B / 2))),
        beyond("T16-1", "Student t₃, δ=.0001", Regime(noise=StudentT()), EMA(B), Beyond(100, 100_000, tail),
               Check("misses", "above", 1e-4), share("δ·100", 1e-2, "above")),
        Claim("T16-1", "shocks, Chebyshev, δ=.0042", Regime(noise=Sparse(chance=chance)), Window(size),
              Beyond(2 * size, 800_000, shock), (
            Check("misses", "at most", rare), Check("misses", "above", 0.7 * rare),
        ), (share("δ/2", rare / 2), _is("W+1", Window(size + 1)), _is("W-1", Window(size - 1)))),
        beyond("T16-3", "all of 500 steps, δ=.05", Regime(), EMA(fine), Beyond(horizon, 10_000, uniform, burn=burn),
               Check("misses", "at most", 0.05), other("one step's", Beyond(horizon, 10_000, single, burn=burn)),
               _is("b·2", EMA(2 * fine))),
        Claim("T1", "Student t₃, truncated", Regime(noise=StudentT()), EMA(B), Final(150, 100_000, cap=3.0),
              (Check("mse", "at most", F),), (_mse("b/4", B / 4, "at most"), _is("b·2", EMA(2 * B)))),
        beyond("T16-6", "line, selective visits", gap, DiscountedUCB(1.0, 0.02, discount=0.98),
               Beyond(300, 20_000), Check("misses", "at most", 0.05),
               _is("no lag term", DiscountedUCB(1.0, 0.0, discount=0.98)),
               _is("σ/10, D/2", DiscountedUCB(0.1, 0.01, discount=0.98))),
        beyond("T16-6", "line, selective visits", gap, WindowUCB(1.0, 0.02, size=100),
               Beyond(250, 4000), Check("misses", "at most", 0.05),
               _is("no lag term", WindowUCB(1.0, 0.0, size=100)),
               _is("σ/10, D/2", WindowUCB(0.1, 0.01, size=100))),
    ]  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    *_lines(),
    _at_rest(),
    *_batches(),
    _one_bit(),
    *_walks(),
    *_known_paths(),
    *_adversaries(),
    *_rare_visits(),
    *_choosy_visits(),
    *_banks(),
    *_radii(),
)
