"""The time that bandit libraries take for one decision: choosing an arm and learning from its reward.

Each adapter uses its library in the fastest way. MABWiser learns from whole batches, and a policy whose choice cannot
change within a batch (UCB1) chooses once per batch. The other libraries decide one at a time. Every arm has been seen
once before timing starts, so that no forced first round is timed; where a library takes too long for that, a comment
explains what was done instead. Rewards lie in [0, 1].

    python benchmarks/peers.py --quick
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SIZES = (10, 1000, 100_000)
BATCH = 256


class Player(Protocol):
    """A policy over K arms."""

    def step(self, rewards_of_region: NDArray[np.float64], batch: int) -> NDArray[np.int64]:
        """Make ``batch`` decisions, learn their rewards, and return the (batch,) arms that were chosen."""


@dataclass(frozen=True)
class Peer:
    """One policy of one library. ``batched``: whether many decisions at once are cheaper than one by one."""

    name: str
    library: str
    make: Callable[[int], Player]
    batched: bool = False


@dataclass
class OneByOne:
    """A policy that decides and learns one arm at a time."""

    choose: Callable[[], int]
    learn: Callable[[int, float], object]

    def step(self, rewards_of_region: NDArray[np.float64], batch: int) -> NDArray[np.int64]:
        arms = []
        for _ in range(batch):
            arm = self.choose()
            self.learn(arm, rewards_of_region.item(arm))  # Python floats: faster than NumPy's for code that loops
            arms.append(arm)
        return np.asarray(arms)


# ---------------------------------------------------------------------------------------------------------- MABWiser


@dataclass
class MABWiser:
    """``predict`` for the whole batch, then one ``partial_fit``."""

    bandit: Any
    num_arms: int
    constant: bool = False
    """The choice cannot change within a batch, so it is made once."""
    binary: bool = False

    def step(self, rewards_of_region: NDArray[np.float64], batch: int) -> NDArray[np.int64]:
        arms = np.full(batch, self.bandit.predict()) if self.constant else self._predict(batch)
        rewards = rewards_of_region[arms]
        self.bandit.partial_fit(arms, (rewards > 0.5).astype(int) if self.binary else rewards)
        return arms

    def _predict(self, batch: int) -> NDArray[np.int64]:
        # Each prediction is a dictionary of K floats; chunks keep a batch of them below a gigabyte.
        chunk = max(1, min(batch, 4_000_000 // self.num_arms))
        rows = (min(chunk, batch - begin) for begin in range(0, batch, chunk))
        return np.concatenate([np.atleast_1d(self.bandit.predict(np.zeros((n, 1)))) for n in rows])


def _mabwiser(policy: str, *args: float, **how: bool) -> Callable[[int], Player]:
    def make(num_arms: int) -> Player:
        from mabwiser.mab import MAB, LearningPolicy

        bandit = MAB(list(range(num_arms)), getattr(LearningPolicy, policy)(*args), seed=0)
        seen = np.arange(min(num_arms, 1000))  # the first fit takes O(K · seen) time
        bandit.fit(seen, np.ones(len(seen)))
        return MABWiser(bandit, num_arms, **how)

    return make


# ------------------------------------------------------------------------------------------------------------- river


def _river(build: Callable[[Any], Any]) -> Callable[[int], Player]:
    def make(num_arms: int) -> Player:
        from river import bandit

        policy, arms = build(bandit), range(num_arms)
        policy.pull(arms)
        for arm in arms:
            policy.update(arm, 1)
        return OneByOne(lambda: policy.pull(arms), policy.update)

    return make


def _river_thompson(num_arms: int) -> Player:
    from river import proba

    player = _river(lambda bandit: bandit.ThompsonSampling(reward_obj=proba.Beta(), seed=0))(num_arms)
    assert isinstance(player, OneByOne)
    learn = player.learn
    return OneByOne(player.choose, lambda arm, reward: learn(arm, reward > 0.5))  # Beta beliefs are about yes and no


# -------------------------------------------------------------------------------------------------------- SMPyBandits


@cache
def _smpybandits_policies() -> Any:
    """SMPyBandits 0.9.7 wants ``btdtri``, which SciPy has renamed; loading, it prints and silences NumPy globally."""
    import scipy.special

    if not hasattr(scipy.special, "btdtri"):
        scipy.special.btdtri = scipy.special.betaincinv
    with contextlib.redirect_stdout(io.StringIO()), np.errstate():
        from SMPyBandits import Policies
    return Policies


def _smpybandits(policy: str) -> Callable[[int], Player]:
    def make(num_arms: int) -> Player:
        player = getattr(_smpybandits_policies(), policy)(num_arms)
        player.startGame()
        if policy == "Exp3":
            player.t = num_arms  # a reward takes O(K), so K of them too long: declare the forced first round over
        else:
            for arm in range(num_arms):
                player.getReward(arm, 1.0)
        return OneByOne(player.choice, player.getReward)

    return make


# ------------------------------------------------------------------------------------------------------------ timing

PEERS = (
    Peer("UCB1", "mabwiser", _mabwiser("UCB1", constant=True), batched=True),
    Peer("EpsilonGreedy", "mabwiser", _mabwiser("EpsilonGreedy", 0.1), batched=True),
    Peer("Softmax", "mabwiser", _mabwiser("Softmax"), batched=True),
    Peer("ThompsonSampling", "mabwiser", _mabwiser("ThompsonSampling", binary=True), batched=True),
    Peer("UCB", "river", _river(lambda bandit: bandit.UCB(delta=1, seed=0))),
    Peer("Exp3", "river", _river(lambda bandit: bandit.Exp3(gamma=0.1, seed=0))),
    Peer("ThompsonSampling", "river", _river_thompson),
    Peer("SWUCB", "SMPyBandits", _smpybandits("SWUCB")),
    Peer("DiscountedUCB", "SMPyBandits", _smpybandits("DiscountedUCB")),
    Peer("Exp3", "SMPyBandits", _smpybandits("Exp3")),
)


@cache
def available() -> dict[str, str | None]:
    """The version of each library, or None where it cannot be imported."""
    return {library: _version(library) for library in dict.fromkeys(peer.library for peer in PEERS)}


def _version(library: str) -> str | None:
    try:
        _smpybandits_policies() if library == "SMPyBandits" else importlib.import_module(library)
    except ImportError:
        return None
    return importlib.metadata.version(library)


@dataclass(frozen=True)
class Timing:
    """Median time of one decision, or why there is none."""

    peer: Peer
    num_arms: int
    micros: float | None = None
    spread: float | None = None
    """Interquartile range, in microseconds."""
    note: str = ""


def measure(peer: Peer, num_arms: int, budget: float = 60.0, repeats: int = 25) -> Timing:
    """Time ``peer`` within ``budget`` seconds, set-up and warm-up included; at least three steps or none."""
    if available()[peer.library] is None:
        return Timing(peer, num_arms, note="skipped: not installed")
    deadline = time.perf_counter() + budget
    rewards = np.random.default_rng(0).random(num_arms)
    batch = BATCH if peer.batched else max(4, min(BATCH, 10_000 // num_arms))
    player = peer.make(num_arms)

    def step() -> float:
        begin = time.perf_counter()
        arms = player.step(rewards, batch)
        seconds = time.perf_counter() - begin
        assert arms.shape == (batch,)
        assert 0 <= arms.min() <= arms.max() < num_arms
        return seconds

    warm = step()
    if time.perf_counter() + 3 * warm > deadline:
        return Timing(peer, num_arms, note="skipped: over budget")
    times: list[float] = []
    while len(times) < 3 or (len(times) < repeats and time.perf_counter() + warm < deadline):
        times.append(step() / batch * 1e6)
    low, median, high = statistics.quantiles(times, n=4)
    return Timing(peer, num_arms, median, high - low, f"{len(times)} steps of {batch}")


def measure_all(sizes: Iterable[int] = SIZES, budget: float = 60.0, repeats: int = 25) -> Iterator[Timing]:
    """Every peer at every size; where one was skipped, the reason."""
    for peer in PEERS:
        for num_arms in sizes:
            yield measure(peer, num_arms, budget, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description="Microseconds per decision of bandit libraries.")
    parser.add_argument("--quick", action="store_true", help="Measure up to 1,000 arms, for two seconds each.")
    parser.add_argument("--sizes", type=int, nargs="+", help="Numbers of arms to measure.")
    parser.add_argument("--budget", type=float, help="Time limit in seconds for each library and size.")
    options = parser.parse_args()
    sizes = options.sizes or (SIZES[:2] if options.quick else SIZES)
    budget = options.budget or (2.0 if options.quick else 60.0)

    print(", ".join(f"{library} {version or 'is not installed'}" for library, version in available().items()))
    print(f"{'library':<12} {'policy':<17} {'K':>7} {'µs/decision':>12} {'iqr':>10}  note")
    for timing in measure_all(sizes, budget, repeats=9 if options.quick else 25):
        micros, spread = ("" if x is None else f"{x:.2f}" for x in (timing.micros, timing.spread))
        peer = timing.peer
        print(f"{peer.library:<12} {peer.name:<17} {timing.num_arms:>7} {micros:>12} {spread:>10}  {timing.note}")


if __name__ == "__main__":
    main()
