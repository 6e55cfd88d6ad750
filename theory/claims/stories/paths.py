"""Paths fixed in advance: waves, jumps, decay, noise of changing size, and the cost of their length."""

from __future__ import annotations

import cmath
import math

import numpy as np

from aria.trackers import EMA
from theory import bounds
from theory.claims.base import Check, Claim
from theory.claims.common import SETTLED, A, B, D, F, biased, erring, law, spread, using, wrong
from theory.claims.experiments import Averaged, Law
from theory.regimes import Decay, Gaussian, Heteroscedastic, Jump, Linear, Regime, Sinusoid


def _known_paths() -> list[Claim]:
    period, amplitude = 120, 1.0
    w = 2 * math.pi / period
    phase = cmath.phase(-(1 - cmath.exp(-1j * w)) / (1 - A * cmath.exp(-1j * w)))
    t = 10 * period + round((math.pi / 2 - phase) / w) % period  # where the bias is largest
    turn = math.sin(w * t + phase)
    h, worst = float(bounds.sinusoid_bias(B, amplitude, w)), float(bounds.sinusoid_drift(amplitude, w))
    steps, size, ratio = 20, 5.0, 0.98
    weight = 1 - A**steps
    lost = size * (ratio**steps - 1)  # the bias-corrected average forgets where it started
    decay = float(bounds.decay_bias(B, size, ratio, steps, initial=lost)) / weight
    young = bounds.corrected_ema_profile(B, steps)
    noise = Heteroscedastic(low=0.2, period=50.0)
    scales = np.array([noise.scale(step) for step in range(SETTLED + 25, 0, -1)])
    hetero = float(bounds.heteroscedastic_variance(B, scales**2))
    k, jump = 10, 3.0
    left = -jump * A**k
    return [
        Claim("regimes", "sinusoid", Regime(Sinusoid(amplitude, w)), EMA(B), Law(t), law(h * turn, F), (
            biased("small frequency", amplitude * w * A / B * turn), biased("no drift", 0.0),
            biased("worst case D·lag", worst * A / B), using("b·1.1", EMA(1.1 * B)),
        )),
        Claim("regimes", "decay", Regime(Decay(size, ratio)), EMA(B), Law(steps), law(decay, float(young.noise)), (
            biased("no drift", 0.0), biased("worst case D·lag", size * (1 - ratio) * float(young.lag)),
            biased("uncorrected start", decay * weight), using("b·1.1", EMA(1.1 * B)),
        )),
        Claim("regimes", "jump, 10 visits later", Regime(Jump(jump, at=200)), EMA(B), Law(199 + k), law(left, F), (
            biased("a visit less", left / A), biased("a visit more", left * A), biased("no jump", 0.0),
            using("b·1.1", EMA(1.1 * B)),
        )),
        Claim("regimes", "heteroscedastic", Regime(noise=noise), EMA(B), Law(SETTLED + 25), law(0.0, hetero), (
            spread("largest variance", F), spread("mean variance", F * float((scales[:50] ** 2).mean())),
            using("b·1.1", EMA(1.1 * B)),
        )),
    ]  # fmt: skip


def _path_length() -> list[Claim]:
    """PATH-1: the cost of drift is bounded by the total path length, for any single steps."""
    gain, jump, span, size, ratio, steps = A / B, 3.0, 400, 5.0, 0.98, 1000
    went = size * (1 - ratio**steps) / steps  # mean |d|, l1
    squares = (size * (1 - ratio)) ** 2 * (1 - ratio ** (2 * steps)) / (1 - ratio**2) / steps  # mean d², l2
    bound = float(bounds.path_mse(B, 0.0, squares, adaptive=False))
    quiet, curve = Gaussian(0.0), Regime(Decay(size, ratio), Gaussian(0.0))
    line = float(bounds.path_mse(B, 1.0, D**2, adaptive=False))
    total = -gain * jump / span
    return [
        Claim("PATH-1, l1", "jump, sum of errors", Regime(Jump(jump, at=200), Gaussian(0.1)), EMA(B),
              Averaged(199 + span, 199, 2000), (Check("bias", "equal", total),), (
            biased("gain 1/b", total / A), biased("gain a²/b", total * A), using("b·1.1", EMA(1.1 * B)),
        )),
        Claim("PATH-1, l1", "decay, sum of errors", curve, EMA(B), Averaged(steps, 0, 2), (
            Check("bias", "at most", gain * went),
        ), (wrong("gain a/(b(2-b))", "bias", gain * went / (2 - B), "at most"), using("b·0.8", EMA(0.8 * B)))),
        Claim("PATH-1, l2", "line, sum of squares", Regime(Linear(D)), EMA(B), Averaged(800, 400, 4000), (
            Check("mse", "equal", line),
        ), (
            erring("gain 1/b", (D / B) ** 2 + F), erring("l1 for l2", gain * D**2 + F), using("b·1.1", EMA(1.1 * B)),
        )),
        Claim("PATH-1, l2", "decay, sum of squares", curve, EMA(B), Averaged(steps, 0, 2), (
            Check("mse", "at most", bound),
        ), (erring("half the gain", bound / 4, "at most"), using("b/2", EMA(B / 2)))),
        Claim("PATH-1, l2", "slow decay, sum of squares", Regime(Decay(size, 0.998), quiet), EMA(B),
              Averaged(steps, 0, 2), (
            Check("mse", "at most", float(bounds.path_mse(
                B, 0.0, (size * 0.002) ** 2 * (1 - 0.998 ** (2 * steps)) / (1 - 0.998**2) / steps, adaptive=False
            ))),
        ), (using("b·0.95", EMA(0.95 * B)),)),
    ]  # fmt: skip


CLAIMS: tuple[Claim, ...] = (*_known_paths(), *_path_length())
