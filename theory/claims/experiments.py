"""How claims are measured: laws drawn at once where they are known, steps of the simulator elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from aria.interfaces import Certificate, Device, Estimate, RegionStats, State, Tracker
from theory import endpoint
from theory.claims.base import Experiment, Trial
from theory.regimes import Regime
from theory.simulate import Errors, simulate
from theory.verdict import Interval, mean_interval, proportion_interval, truncated_interval, variance_interval


def _count(replicas: int, trial: Trial) -> int:
    return round(replicas * trial.scale)


@dataclass(frozen=True)
class Law(Experiment):
    """``mse``, and ``bias`` and ``variance`` apart, where the final error is normal and its law drawn at once."""

    steps: int
    replicas: int = 500_000

    def measure(self, tracker: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        errors = endpoint.synchronous(
            tracker, regime, steps=self.steps, replicas=_count(self.replicas, trial), seed=trial.seed
        )
        return {
            "mse": mean_interval(errors**2, trial.alarm),
            "bias": mean_interval(errors, trial.alarm),
            "variance": variance_interval(errors, trial.alarm),
        }


@dataclass(frozen=True)
class Final(Experiment):
    """``mse`` and ``bias`` of the simulator's last step, over independent replicas; with ``cap`` a truncated mse."""

    steps: int
    replicas: int
    cap: float | None = None

    def measure(self, tracker: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        found = simulate(tracker, regime, steps=self.steps, replicas=_count(self.replicas, trial), seed=trial.seed)
        errors = found["filtering"]
        if self.cap is not None:  # heavy tails: what is cut off only makes the mean smaller
            return {"mse": truncated_interval(errors**2, self.cap, trial.alarm)}
        return {"mse": mean_interval(errors**2, trial.alarm), "bias": mean_interval(errors, trial.alarm)}


@dataclass(frozen=True)
class Averaged(Experiment):
    """``mse``, that of ``prediction``, and ``bias``, averaged over replicas and the steps after ``burn``."""

    steps: int
    burn: int
    replicas: int

    def measure(self, tracker: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        found = _sums(tracker, regime, self.steps, self.burn, _count(self.replicas, trial), "sums", trial)
        span = self.steps - self.burn
        return {
            "mse": mean_interval(found["sum e²"] / span, trial.alarm),
            "prediction": mean_interval(found["sum p²"] / span, trial.alarm),
            "bias": mean_interval(found["sum e"] / span, trial.alarm),
        }


@dataclass(frozen=True)
class Balance(Experiment):
    r"""Both sides of T13 for an EMA of ``rate`` b in noise of deviation ``sigma``, its gain settled after ``burn``.

    ``squares`` is :math:`\kappa\sum q e^2 + e_T^2 - e_0^2` over :math:`b^2s^2\sum q`; ``firsts`` is
    :math:`b\sum q e + e_T - e_0` a step, and ``weighted`` the visit-weighted mean square error.
    """

    rate: float
    sigma: float
    steps: int
    burn: int
    replicas: int

    def measure(self, tracker: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        found = _sums(tracker, regime, self.steps, self.burn, _count(self.replicas, trial), "weighted", trial)
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
    """``misses``: how often the last error is beyond ``radius``, or beyond the tracker's own radius if that is None.

    With ``burn`` the largest of all errors after so many steps, in place of the last.
    """

    steps: int
    replicas: int
    radius: float | None = None
    drawn: bool = False
    """Whether the law of the last error is known and drawn at once."""
    burn: int | None = None

    def measure(self, tracker: Tracker, regime: Regime, trial: Trial) -> Mapping[str, Interval]:
        replicas = _count(self.replicas, trial)
        if self.drawn:
            errors = endpoint.synchronous(tracker, regime, steps=self.steps, replicas=replicas, seed=trial.seed)
            beyond = errors.abs() > _told(self.radius)
        elif self.burn is not None:
            peak = _sums(tracker, regime, self.steps, self.burn, replicas, "peak", trial)["peak"]
            beyond = peak > _told(self.radius)
        else:
            shown, kind = (Shown(tracker), "certificate") if self.radius is None else (tracker, "sample")
            found = _sums(shown, regime, self.steps, 0, replicas, kind, trial)
            radius = found["start weight"] if self.radius is None else self.radius
            beyond = found["filtering"].abs() > radius
        return {"misses": proportion_interval(int(beyond.sum()), beyond.numel(), trial.alarm)}


def _told(radius: float | None) -> float:
    if radius is None:
        raise ValueError("radius must be told with drawn=True or burn")
    return radius


@dataclass(frozen=True)
class Shown(Tracker):
    """A tracker that shows its standard error where the simulator records the certificate's start weight."""

    of: Tracker

    def init(self, shape: tuple[int, ...], device: Device = None) -> State:
        return self.of.init(shape, device)

    def update(self, state: State, stats: RegionStats) -> State:
        return self.of.update(state, stats)

    def estimate(self, state: State) -> Estimate:
        return self.of.estimate(state)

    def certificate(self, state: State) -> Certificate:
        radius = self.of.estimate(state).stderr
        return Certificate(radius, torch.zeros_like(radius), torch.zeros_like(radius))


def _sums(tracker: Tracker, regime: Regime, steps: int, burn: int, replicas: int, kind: str, trial: Trial) -> Errors:
    return simulate(
        tracker, regime, steps=steps, burn=burn, replicas=replicas, record=("sample", kind), seed=trial.seed
    )
