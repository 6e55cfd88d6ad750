"""Exact expectations over shipped trackers: replicas are the branches of a tree, each with its probability."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from aria.interfaces import RegionStats, State, Tracker


def signs(steps: int) -> np.ndarray:
    """(2^T, T) all sign patterns."""
    return 2.0 * ((np.arange(2**steps)[:, None] >> np.arange(steps)) & 1) - 1


def stats(visited, signal, count=1.0, visit=1.0) -> RegionStats:
    """One step of R replicas of one region: ``signal`` (R,) is the mean of ``count`` observations, where visited."""
    visited, signal, count, visit = (
        torch.as_tensor(np.array(x, dtype=np.float64))[:, None]
        for x in np.broadcast_arrays(np.asarray(visited, float), signal, count, visit)
    )
    n = visited * count
    return RegionStats(n, n * signal, n * signal**2, visit)


def run(tracker: Tracker, signal: np.ndarray, visited=None, count=None) -> State:
    """State after (R, T) signals; ``visited`` and ``count`` are (T,) or (R, T)."""
    visited = np.ones(signal.shape) if visited is None else np.broadcast_to(visited, signal.shape)
    count = np.ones(signal.shape) if count is None else np.broadcast_to(count, signal.shape)
    state = tracker.init((signal.shape[0], 1))
    for t in range(signal.shape[1]):
        state = tracker.update(state, stats(visited[:, t], signal[:, t], count[:, t]))
    return state


def value(tracker: Tracker, state: State) -> np.ndarray:
    """(R,) the estimates."""
    return tracker.estimate(state).value[:, 0].numpy()


def certificate(tracker: Tracker, state: State) -> tuple[float, float, float]:
    """The first replica's certificate as floats."""
    return type(tracker.certificate(state))(*(float(part[0, 0]) for part in tracker.certificate(state)))


@dataclass
class Tree:
    """Every future of a tracked target, with its probability. Starts from an observation that errs by ``initial``."""

    tracker: Tracker
    initial: float = 0.0
    pass_visit: bool = True  # pass the visit probabilities to the tracker
    target: np.ndarray = field(default_factory=lambda: np.zeros(1))
    chance: np.ndarray = field(default_factory=lambda: np.ones(1))

    def __post_init__(self):
        self.state = self.tracker.update(self.tracker.init((1, 1)), stats([1.0], [self.initial]))

    @property
    def error(self) -> np.ndarray:
        """(R,) what the estimate errs by on each branch."""
        return value(self.tracker, self.state) - self.target

    def mean(self, quantity: np.ndarray) -> float:
        """Expectation over the branches."""
        return float(self.chance @ quantity)

    def step(self, drift, visit, noises) -> None:
        """Move the target, then visit with probability ``visit``; ``noises`` are (probability, value) pairs.

        All may be arrays (R,) that depend on the branch.
        """
        size = self.chance.size
        full = lambda x: np.broadcast_to(np.asarray(x, dtype=float), (size,))  # noqa: E731
        drift, visit = full(drift), full(visit)
        options = [(visit * full(p), np.ones(size), full(noise)) for p, noise in noises]
        options.append((1 - visit, np.zeros(size), np.zeros(size)))
        target = np.tile(self.target + drift, len(options))
        visited = np.concatenate([seen for _, seen, _ in options])
        signal = target + np.concatenate([noise for _, _, noise in options])
        state = {name: torch.cat([x] * len(options)) for name, x in self.state.items()}
        known = np.tile(visit, len(options)) if self.pass_visit else 1.0
        state = self.tracker.update(state, stats(visited, signal, visit=known))
        chance = np.concatenate([self.chance * p for p, _, _ in options])
        alive = chance > 0
        self.target, self.chance = target[alive], chance[alive]
        self.state = {name: x[torch.as_tensor(alive)] for name, x in state.items()}
