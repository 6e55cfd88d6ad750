"""How claims are measured: by exact samples where the distribution is known, by simulation elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aria.interfaces import Tracker
from aria.trackers import EMA
from theory import exact_samples
from theory.claims.base import Experiment, Trial
from theory.claims.probes import Radius
from theory.regimes import Gaussian, Linear, Regime
from theory.simulate import Errors, simulate
from theory.verdict import (
    Interval,
    mean_interval,
    proportion_interval,
    quantile_interval,
    truncated_interval,
    variance_interval,
)


@dataclass(frozen=True)
class Law(Experiment):
    """``mse``, ``bias`` and ``variance`` of a final error that is normal, from exact samples."""

    steps: int
    replicas: int = 500_000

    def measure(self, subject: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        errors = exact_samples.synchronous(
            subject, regime, steps=self.steps, replicas=trial.count(self.replicas), seed=trial.seed
        )
        return {
            "mse": mean_interval(errors**2, trial.alarm),
            "bias": mean_interval(errors, trial.alarm),
            "variance": variance_interval(errors, trial.alarm),
        }


@dataclass(frozen=True)
class Settled(Experiment):
    """``mse`` and ``bias`` of a settled EMA on a line with random visits, from exact samples."""

    replicas: int

    def measure(self, subject: EMA, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        assert isinstance(regime.drift, Linear) and isinstance(regime.noise, Gaussian)
        errors = exact_samples.asynchronous(
            subject.rate, regime.drift.slope, regime.sigma, regime.least,
            replicas=trial.count(self.replicas), seed=trial.seed,
        )  # fmt: skip
        return {"mse": mean_interval(errors**2, trial.alarm), "bias": mean_interval(errors, trial.alarm)}


@dataclass(frozen=True)
class Final(Experiment):
    """``mse`` and ``bias`` of the last simulated step, over independent replicas; with ``cap`` a truncated mse."""

    steps: int
    replicas: int
    cap: float | None = None

    def measure(self, subject: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        found = simulate(subject, regime, steps=self.steps, replicas=trial.count(self.replicas), seed=trial.seed)
        errors = found["filtering"]
        if self.cap is not None:  # heavy tails: truncation only makes the mean smaller
            return {"mse": truncated_interval(errors**2, self.cap, trial.alarm)}
        return {"mse": mean_interval(errors**2, trial.alarm), "bias": mean_interval(errors, trial.alarm)}


@dataclass(frozen=True)
class Averaged(Experiment):
    """``mse``, the mse of the ``prediction``, and ``bias``, averaged over replicas and the steps after ``burn``."""

    steps: int
    burn: int
    replicas: int

    def measure(self, subject: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        found = _sums(subject, regime, self.steps, self.burn, trial.count(self.replicas), "sums", trial)
        span = self.steps - self.burn
        return {
            "mse": mean_interval(found["sum e²"] / span, trial.alarm),
            "prediction": mean_interval(found["sum p²"] / span, trial.alarm),
            "bias": mean_interval(found["sum e"] / span, trial.alarm),
        }


@dataclass(frozen=True)
class Balance(Experiment):
    r"""Both sides of T13 for an EMA of ``rate`` b in noise of standard deviation ``sigma``, settled after ``burn``.

    ``squares`` is :math:`\kappa\sum q e^2 + e_T^2 - e_0^2` over :math:`b^2s^2\sum q`; ``firsts`` is
    :math:`b\sum q e + e_T - e_0` per step, and ``weighted`` the visit-weighted mean squared error.
    """

    rate: float
    sigma: float
    steps: int
    burn: int
    replicas: int

    def measure(self, subject: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        found = _sums(subject, regime, self.steps, self.burn, trial.count(self.replicas), "weighted", trial)
        b, kappa = self.rate, self.rate * (2 - self.rate)
        first, last, effort = found["start"], found["filtering"], found["sum q"]
        noise = b**2 * self.sigma**2 * effort
        excess = kappa * found["sum q e²"] + last**2 - first**2 - noise  # mean 0 by T13, replica by replica
        firsts = b * found["sum q e"] + last - first
        scale = float(noise.mean())
        off = mean_interval(excess, trial.alarm).over(scale)
        weighted = float(found["sum q e²"].mean()) / float(effort.mean())
        spread = mean_interval(found["sum q e²"] - weighted * effort, trial.alarm).over(float(effort.mean()))
        return {
            "squares": Interval(*(1 + end for end in off)),
            "firsts": mean_interval(firsts, trial.alarm).over(self.steps - self.burn),
            "weighted": Interval(*(weighted + end for end in spread)),
            "time mse": mean_interval(last**2, trial.alarm),
        }


@dataclass(frozen=True)
class Beyond(Experiment):
    """``misses``: share of replicas whose last error exceeds ``radius``, or if it is None the tracker's own radius.

    The tracker's own radius is ``times`` its standard error. With ``burn``, the largest error after that many steps is
    used instead of the last one.
    """

    steps: int
    replicas: int
    radius: float | None = None
    drawn: bool = False
    """Whether to use exact samples of the last error."""
    burn: int | None = None
    times: float = 1.0

    def measure(self, subject: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        replicas = trial.count(self.replicas)
        if self.radius is None:
            found = _sums(Radius(subject), regime, self.steps, 0, replicas, "certificate", trial)
            beyond = found["filtering"].abs() > self.times * found["start weight"]
        elif self.drawn:
            errors = exact_samples.synchronous(subject, regime, steps=self.steps, replicas=replicas, seed=trial.seed)
            beyond = errors.abs() > self.radius
        elif self.burn is not None:
            beyond = _sums(subject, regime, self.steps, self.burn, replicas, "peak", trial)["peak"] > self.radius
        else:
            beyond = _sums(subject, regime, self.steps, 0, replicas, "sample", trial)["filtering"].abs() > self.radius
        return {"misses": proportion_interval(int(beyond.sum()), beyond.numel(), trial.alarm)}


@dataclass(frozen=True)
class Quantile(Experiment):
    """``quantile`` that the size of the last error, or the tracker's ``lag``, exceeds with probability ``delta``."""

    steps: int
    replicas: int
    delta: float
    lag: bool = False

    def measure(self, subject: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        kind, name = ("certificate", "lag") if self.lag else ("sample", "filtering")
        sample = _sums(subject, regime, self.steps, 0, trial.count(self.replicas), kind, trial)[name].abs()
        found = {"quantile": quantile_interval(sample, 1 - self.delta, trial.alarm)}
        return found | {"mean": mean_interval(sample, trial.alarm)}


def _sums(tracker: Tracker, regime: Regime, steps: int, burn: int, replicas: int, kind: str, trial: Trial) -> Errors:
    return simulate(
        tracker, regime, steps=steps, burn=burn, replicas=replicas, record=("sample", kind), seed=trial.seed
    )
