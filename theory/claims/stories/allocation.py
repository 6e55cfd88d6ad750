"""The value of an allocation and the cost of errors in its estimates, for shipped allocators and sampler (T20-T24).

The truth of a region is its level; an observation Y of it has normal noise, so its magnitude is m² = level² + s².
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aria import Pool, Sampler
from aria.allocators import Neyman, Proportional, Softmax, TopFraction, Uniform
from aria.allocators import Pool as ByMass
from aria.interfaces import Allocator, Estimate, Partition, Tracker
from aria.partitioners import Labels
from aria.trackers import EMA
from theory import bounds
from theory.assumptions import Array
from theory.claims.base import Check, Claim, Experiment, Trial
from theory.claims.common import using, wrong
from theory.regimes import Allocated, Gaussian, Linear, Regime
from theory.simulate import simulate
from theory.verdict import Interval, mean_interval

SIZES = (1, 2, 2, 5)
"""Conditions in each region of the pool."""
MASS = np.array(SIZES) / sum(SIZES)
LEVELS = (4.0, 1.0, 0.5, 2.0)
SIGMA = 1.5
MAGNITUDE = np.sqrt(np.square(LEVELS) + SIGMA**2)
FLOOR = 0.2


@functools.cache
def _partition() -> Partition:
    names = [name for name, size in enumerate(SIZES) for _ in range(size)]
    return Labels("region").fit(Pool(columns={"region": names}))


def _sampler(allocator: Allocator, estimates: Tensor, floor: float, correction: str = "importance") -> Sampler:
    """A sampler whose tracker has observed each region once, so that its estimates are those observations, (K,)."""
    sampler = Sampler(_partition(), EMA(rate=1.0), allocator, floor=floor, correction=correction, stratified=False)
    sampler.observe(torch.arange(len(estimates)), estimates)
    return sampler


def _surely(value: float) -> Interval:
    """An interval for a deterministic number; a sampler stores signals as float32."""
    return Interval(value, value - 1e-6, value + 1e-6)


def _floored(q: Array, floor: float) -> Array:
    return np.asarray((1 - floor) * q / q.sum(-1, keepdims=True) + floor * MASS)


# ----------------------------------------------------------------------------------------------- T20, T21, T22: moments


@dataclass(frozen=True)
class Reweighted(Experiment):
    """``mean`` and ``square`` of Z = (p/q)Y, drawn by the sampler with the given ``estimates``."""

    estimates: tuple[float, ...]
    draws: int = 400_000
    floor: float = FLOOR
    correction: str = "importance"

    def measure(self, subject: Allocator, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        sampler = _sampler(subject, torch.tensor(self.estimates, dtype=torch.float64), self.floor, self.correction)
        sampler.seed = trial.seed
        draw = sampler.draw(trial.count(self.draws))
        noise = torch.randn(len(draw.region), generator=torch.Generator().manual_seed(trial.seed), dtype=torch.float64)
        y = torch.tensor(regime.levels, dtype=torch.float64)[draw.region] + regime.sigma * noise
        z = draw.weight.double() * y
        return {"mean": mean_interval(z, trial.alarm), "square": mean_interval(z**2, trial.alarm)}


SQUARES = tuple(float(m) for m in MAGNITUDE**2)
GOAL = float((MASS * LEVELS).sum())
BEST = float(bounds.best_second_moment(MASS, MAGNITUDE))


def _moments() -> list[Claim]:
    """T20: unbiased with any floor. T21: the second moment of every allocation, and the best one."""
    regime, claims = Regime(noise=Gaussian(SIGMA), level=LEVELS), []
    rules: tuple[tuple[str, Allocator, Array, tuple[float, ...]], ...] = (
        ("T21", Neyman(), MASS * MAGNITUDE, SQUARES),
        ("T20, T21", Proportional(), MASS * LEVELS, LEVELS),
        ("T20, T21", Softmax(scale=2.0), MASS * np.exp(np.array(LEVELS) / 2), LEVELS),
        ("T20, T21", Uniform(), np.ones(4), LEVELS),
        ("T20, T21", ByMass(), MASS, LEVELS),
    )
    for statement, rule, weights, estimates in rules:
        for floor in (0.0, FLOOR) if statement == "T21" else (FLOOR,):
            q = _floored(weights, floor)
            square = BEST * (1 + float(bounds.allocation_loss(MASS, q, MAGNITUDE)))
            drawn = float((q * LEVELS).sum())
            others = [wrong("no weights", "mean", drawn)] if abs(drawn - GOAL) > 0.05 else []
            claims.append(
                Claim(statement, f"four regions, floor {floor:g}", regime, rule, Reweighted(estimates, floor=floor), (
                    Check("square", "equal", square), Check("mean", "equal", GOAL),
                ), (
                    wrong("variance for square", "square", square - GOAL**2), *others,
                    using("the square of it", Proportional(power=3.0)),
                ))
            )  # fmt: skip
    blind = _floored(np.array([1.0, 0, 0, 0]), 0.0)
    bias = float(bounds.importance_bias(MASS, blind, LEVELS))
    claims.append(
        Claim("T20", "the worst region only, no floor", regime, TopFraction(0.25), Reweighted(LEVELS, floor=0.0), (
            Check("mean", "equal", GOAL + bias),
        ), (wrong("unbiased", "mean", GOAL), using("all regions", Proportional())))
    )  # fmt: skip
    return claims


def _misled() -> list[Claim]:
    """T22: estimates of m off by a factor 1 ± ε, half of the weight p·m up and half of it down."""
    error = 0.4
    # Magnitudes that put half of p·m on the first region: 1·m₀ = 2 + 2 + 5 at m = 1.
    level, wrongly = (9.0, 1.0, 1.0, 1.0), np.array([1 + error, *[1 - error] * 3])
    squares = tuple(float(x) for x in (np.array(level) * wrongly) ** 2)
    regime, still = Regime(noise=Gaussian(0.0), level=level), float(bounds.best_second_moment(MASS, level))
    factor, mixed = float(bounds.misallocation_factor(error)), float(bounds.misallocation_factor(error, FLOOR))
    lost = Regime(noise=Gaussian(0.0), level=(0.0, 1.0, 1.0, 1.0))
    most = float(bounds.floor_second_moment(MASS, lost.levels, FLOOR))
    return [
        Claim("T22", "m off by 1±.4", regime, Neyman(), Reweighted(squares, floor=0.0), (
            Check("square", "equal", still * factor),
        ), (
            wrong("(1+ε)/(1-ε)", "square", still * (1 + error) / (1 - error)), wrong("no error", "square", still),
            using("not the root", Proportional()),
        )),
        Claim("T22", "m off by 1±.4, floor .2", regime, Neyman(), Reweighted(squares), (
            Check("square", "at most", still * mixed),
        ), (wrong("no error", "square", still, "at most"), using("one region only", TopFraction(0.25)))),
        Claim("T22", "all but the floor on nothing", lost, TopFraction(0.25), Reweighted((1.0, 0.0, 0.0, 0.0)), (
            Check("square", "equal", most),
        ), (
            wrong("1/α²", "square", most / FLOOR), wrong("the best", "square", float(
                bounds.best_second_moment(MASS, lost.levels)
            )), using("by mass", ByMass()),
        )),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------- T23: how far it can move


Bound = Callable[[Array, Array], Array]
"""Largest shift (N,) of an allocation between two estimates, (N, K) each, without a floor."""


@dataclass(frozen=True, eq=False)
class Moved(Experiment):
    """Total variation between the sampler's allocations for two estimates, in units of its ``bound``.

    ``sharp`` for the pair given, ``largest`` over random pairs near and far.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    bound: Bound
    weight: tuple[float, ...]
    """Divisor of the estimates: the base measure, for rules that multiply by it."""
    relative: float | None = None
    """Largest relative change of the random pairs; None lets them change in any way."""
    pairs: int = 20_000

    def measure(self, subject: Allocator, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        weight, pair = np.array(self.weight), np.array([self.first, self.second])
        two = [_sampler(subject, torch.tensor(m / weight), FLOOR).probs().numpy() for m in pair]
        sharp = float(bounds.total_variation(*two)) / float((1 - FLOOR) * self.bound(pair[:1], pair[1:])[0])
        choose = np.random.default_rng(trial.seed)
        first = choose.exponential(size=(trial.count(self.pairs), len(weight)))
        reach = choose.uniform(size=(len(first), 1)) if self.relative is None else self.relative
        second = first * (1 + reach * choose.uniform(-1, 1, first.shape))
        a, b = (self._probs(subject, m / weight) for m in (first, second))
        ratio = bounds.total_variation(a, b) / ((1 - FLOOR) * self.bound(first, second))
        return {"sharp": _surely(sharp), "largest": _surely(float(np.max(ratio)))}

    def _probs(self, allocator: Allocator, value: Array) -> Array:
        """(N, K) probabilities as the sampler computes them, one row for each estimate."""
        estimate = torch.tensor(value)
        return _floored(allocator(Estimate(estimate, torch.zeros_like(estimate)), torch.tensor(MASS)).numpy(), FLOOR)


def _by_total(first: Array, second: Array) -> Array:
    change = np.abs(first - second).sum(-1)
    return np.asarray(bounds.proportional_shift(change, first.sum(-1), second.sum(-1)))


def _by_factor(first: Array, second: Array) -> Array:
    """The bound if every region changed by the largest relative change."""
    return np.asarray(bounds.relative_shift(np.abs(second / first - 1).max(-1)))


def _by_largest(first: Array, second: Array) -> Array:
    return np.asarray(bounds.softmax_shift(np.abs(first - second).max(-1), temperature=1.0))


def _balanced(odds: float) -> Array:
    """(4,) estimates at which changing the odds of the first one by ``odds``² moves a proportional rule most."""
    return np.array([1.0, *[odds / 3] * 3])


def _shifts() -> list[Claim]:
    regime, mass, equal = Regime(level=LEVELS), tuple(float(p) for p in MASS), (1.0,) * 4
    up, eps, heat = np.array([1, -1, -1, -1]), 0.5, 0.7
    grown = Moved((0.0, 1.0, 1.0, 2.0), (3.0, 1.0, 1.0, 2.0), _by_total, mass)
    low = _balanced(((1 + eps) / (1 - eps)) ** 0.5)
    scaled = Moved(tuple(low), tuple(low * (1 + eps * up)), _by_factor, mass, relative=eps)
    cold = 9 + np.log(_balanced(float(np.exp(heat))))
    heated = Moved(tuple(cold), tuple(cold + heat * up), _by_largest, equal)
    sharp = (Check("sharp", "equal", 1.0), Check("largest", "at most", 1.0))
    half, squared = wrong("half the bound", "largest", 0.5, "at most"), using("its square", Proportional(power=2.0))
    warm, cool = Softmax(scale=1.0, base=0.0), Softmax(temperature=0.5, scale=1.0, base=0.0)
    by_half = float(bounds.relative_shift(eps)) / (eps / 2)
    linear = float(np.tanh(heat / 2)) / (heat / 2)
    return [
        Claim("T23", "one region grows from 0", regime, Proportional(), grown, sharp, (
            wrong("over the smaller total", "sharp", 4 / 7), half, squared,
        )),
        Claim("T23", "all change by 1±.5", regime, Proportional(), scaled, sharp, (
            wrong("ε/2", "sharp", by_half), half, squared,
        )),
        Claim("T23", "one up, others down", regime, warm, heated, sharp, (
            wrong("linear bound", "sharp", linear), half, using("half as warm", cool),
        )),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- T24: regret


@dataclass(frozen=True)
class Regret(Experiment):
    """Utility lost at the next step relative to the oracle with the same floor; the utility is the truth itself.

    ``regret``, the ``shift`` in total variation, and the ``largest`` regret of all replicas in units of the range of
    the truth times the shift.
    """

    steps: int
    replicas: int

    def measure(self, subject: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        visits, drift = regime.visits, regime.drift
        assert isinstance(visits, Allocated) and isinstance(drift, Linear)
        replicas = trial.count(self.replicas)
        found = simulate(subject, regime, steps=self.steps, replicas=replicas, seed=trial.seed)
        truth = torch.tensor(regime.levels, dtype=torch.float64) + drift.slope * self.steps  # (K,)
        mass = torch.full_like(truth, 1 / len(truth))
        own, oracle = (  # (R, K); the oracle's one row
            torch.lerp(weights / weights.sum(-1, keepdim=True), mass, visits.floor)
            for weights in (
                visits.allocator(Estimate(m, torch.zeros_like(m)), mass)
                for m in (found["filtering"] + truth, truth[None])
            )
        )
        regret, shift = ((oracle - own) * truth).sum(-1), (oracle - own).abs().sum(-1) / 2
        largest = float((regret / ((truth.max() - truth.min()) * shift)).max())
        return {
            "shift": mean_interval(shift, trial.alarm),
            "regret": mean_interval(regret, trial.alarm),
            "largest": _surely(largest),
        }


@dataclass(frozen=True)
class Floored(Experiment):
    """``cost`` of the sampler's floor in utility; the utility is the truth, which is given to the allocator."""

    def measure(self, subject: Allocator, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        truth = torch.tensor(regime.levels, dtype=torch.float64)
        free, floored = (_sampler(subject, truth, floor).probs() for floor in (0.0, FLOOR))
        return {"cost": _surely(float(((free - floored) * truth).sum()))}


def _regrets() -> list[Claim]:
    """T24 in a closed loop: the estimates steer the visits from which they are computed."""
    rate, sigma, slope, steps, floor, claims = 0.3, 0.3, -0.005, 150, 0.5, []
    for levels, sense in (((2.0, 3.0, 5.0, 9.0), "at most"), ((2.0, 9.0), "equal")):
        mass = (1 / len(levels),) * len(levels)
        visits = Allocated(Proportional(), batch=2, floor=floor, mass=mass)
        truth = np.array(levels) + slope * steps
        # For any allocator, with only the draws of each region that the floor guarantees.
        error = float(bounds.asynchronous_mse(rate, visits.least, sigma, abs(slope)))
        shift = (1 - floor) * float(bounds.expected_shift([error] * len(levels), float(truth.sum())))
        bound = float(bounds.allocation_regret(truth.max() - truth.min(), shift))
        claims.append(
            Claim("T24", f"closed loop, {len(levels)} regions", Regime(Linear(slope), Gaussian(sigma), visits, levels),
                  EMA(rate), Regret(steps, 5000), (
                Check("shift", "at most", shift), Check("regret", "at most", bound), Check("largest", sense, 1.0),
            ), (
                wrong("a tenth", "shift", shift / 10, "at most"), wrong("half the range", "largest", 0.5, sense),
            ))
        )  # fmt: skip
    claims.append(
        Claim("T24", "what the floor costs", Regime(level=LEVELS), TopFraction(0.25), Floored(), (
            Check("cost", "equal", float(bounds.floor_cost(LEVELS, FLOOR, MASS))),
        ), (
            wrong("regions alike", "cost", float(bounds.floor_cost(LEVELS, FLOOR))), using("by mass", ByMass()),
        ))
    )  # fmt: skip
    return claims


CLAIMS: tuple[Claim, ...] = (*_moments(), *_misled(), *_shifts(), *_regrets())
