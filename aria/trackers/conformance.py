"""The public conformance check of trackers: the properties that the sampler and the theory rely on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aria.interfaces import RegionStats, State, Tracker

SHAPE = (3, 5)  # replicas, regions


def check_tracker(tracker: Tracker, seed: int = 0) -> None:
    """Raise an AssertionError with one sentence about the first violation of :class:`aria.interfaces.Tracker`.

    >>> from aria.trackers import EMA
    >>> check_tracker(EMA(rate=0.3))
    """
    if not isinstance(tracker, Tracker):
        raise AssertionError(f"{tracker!r} is not an instance of aria.Tracker: pass an instance, not a class")
    steps = _random_steps(seed)
    for check in (
        _frozen,
        _keeps_state,
        _starts_unobserved,
        _is_pure,
        _treats_regions_equally,
        _ages_only,
        _reproduces_constants,
        _certifies,
        _honours_device,
        _declares_visits,
    ):
        check(tracker, steps)


def _random_steps(seed: int, count: int = 12) -> list[RegionStats]:
    """Steps with empty regions, several batch sizes, and one region that is never observed."""
    random = torch.Generator().manual_seed(seed)
    steps = []
    for _ in range(count):
        n = torch.randint(0, 4, SHAPE, generator=random).double()
        n[..., -1] = 0
        mean = torch.rand(SHAPE, generator=random, dtype=torch.float64) + 0.5
        spread = 0.1 * torch.rand(SHAPE, generator=random, dtype=torch.float64)
        visit = 0.2 + 0.8 * torch.rand(SHAPE, generator=random, dtype=torch.float64)
        steps.append(RegionStats(n, n * mean, n * (mean**2 + spread), visit))
    return steps


def _require(condition: bool, tracker: Tracker, sentence: str) -> None:
    if not condition:
        raise AssertionError(f"{tracker!r} {sentence}")


def _run(tracker: Tracker, steps: Sequence[RegionStats], shape: tuple[int, ...] = SHAPE) -> State:
    state = tracker.init(shape)
    for stats in steps:
        state = tracker.update(state, stats)
    return state


def _map(stats: RegionStats, change: Callable[[Tensor], Tensor]) -> RegionStats:
    return RegionStats(*(change(field) for field in stats))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)


def _frozen(tracker: Tracker, steps: Sequence[RegionStats]) -> None:
    frozen = dataclasses.is_dataclass(tracker) and type(tracker).__dataclass_params__.frozen
    _require(bool(frozen), tracker, "must be a frozen dataclass: hyper-parameters do not change, memory is state")


def _starts_unobserved(tracker: Tracker, steps: Sequence[RegionStats]) -> None:
    value, stderr = tracker.estimate(tracker.init(SHAPE))
    _require(
        value.shape == stderr.shape == SHAPE, tracker, f"must estimate (..., K) = {SHAPE}, got {tuple(value.shape)}"
    )
    _require(bool(stderr.isinf().all()), tracker, "must have stderr = inf for regions without observations")
    value, stderr = tracker.estimate(_run(tracker, steps))
    _require(bool(stderr[..., -1].isinf().all()), tracker, "must keep stderr = inf in a region that is never observed")
    _require(bool(value.isfinite().all()), tracker, "must return finite values, also for unobserved regions")
    _require(
        bool((stderr[..., :-1] >= 0).all()), tracker, "must return a non-negative stderr for observed regions"
    )
    _require(
        bool(stderr[..., :-1].isfinite().any()), tracker, "must return a finite stderr for observed regions"
    )


def _keeps_state(tracker: Tracker, steps: Sequence[RegionStats]) -> None:
    before = tracker.init(SHAPE)
    for name, tensor in before.items():
        leads = tensor.shape[: len(SHAPE)] == SHAPE
        _require(
            leads, tracker, f"has state {name!r} of shape {tuple(tensor.shape)}, which does not begin with (..., K)"
        )
    after = _run(tracker, steps)
    _require(
        before.keys() == after.keys(), tracker, f"changed its state's names from {sorted(before)} to {sorted(after)}"
    )
    for name, tensor in before.items():
        same = tensor.shape == after[name].shape and tensor.dtype == after[name].dtype
        _require(same, tracker, f"changed the shape or type of its state {name!r}")
        known = not bool((tensor.isnan() | after[name].isnan()).any())
        _require(known, tracker, f"has NaN in its state {name!r}, which cannot be saved: use a count for 'unobserved'")


def _is_pure(tracker: Tracker, steps: Sequence[RegionStats]) -> None:
    state = _run(tracker, steps[:-1])
    before = {name: tensor.clone() for name, tensor in state.items()}
    stats = _map(steps[-1], Tensor.clone)
    first, second = tracker.update(state, stats), tracker.update(state, stats)
    _require(
        all(torch.equal(state[name], before[name]) for name in before),
        tracker,
        "changed the state it was given in place",
    )
    untouched = all(torch.equal(a, b) for a, b in zip(stats, steps[-1], strict=True))
    _require(untouched, tracker, "changed the statistics it was given in place")
    _require(
        all(torch.equal(first[name], second[name]) for name in first),
        tracker,
        "returned two different results for the same update",
    )


def _treats_regions_equally(tracker: Tracker, steps: Sequence[RegionStats]) -> None:
    whole = tracker.estimate(_run(tracker, steps))
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = tracker.estimate(_run(tracker, [_map(stats, lambda field: field[..., order]) for stats in steps]))
    for name, part, moved in zip(whole._fields, whole, shuffled, strict=True):
        _require(_same(part[..., order], moved), tracker, f"returns another {name} when regions are renumbered")
    for replica in range(SHAPE[0]):
        own = [RegionStats(*(field[replica] for field in stats)) for stats in steps]
        alone = tracker.estimate(_run(tracker, own, SHAPE[1:]))
        for name, part, single in zip(whole._fields, whole, alone, strict=True):
            _require(_same(part[replica], single), tracker, f"returns another {name} for a replica run on its own")


def _ages_only(tracker: Tracker, steps: Sequence[RegionStats]) -> None:
    if tracker.statistic != "mean":
        return
    state = _run(tracker, steps)
    empty = _map(steps[0], torch.zeros_like)
    for _ in range(3):
        state = tracker.update(state, empty._replace(visit=steps[0].visit))
        value, stderr = tracker.estimate(state)
        known = stderr.isfinite()
        inside = bool(((value[known] >= 0.5) & (value[known] <= 1.5)).all())
        _require(inside, tracker, "left the range of its observations in a step without observations")


def _reproduces_constants(tracker: Tracker, steps: Sequence[RegionStats]) -> None:
    if tracker.statistic != "mean":
        return
    level = 2.5
    flat = [RegionStats(stats.n, level * stats.n, level**2 * stats.n, stats.visit) for stats in steps]
    value, stderr = tracker.estimate(_run(tracker, flat))
    known = stderr.isfinite()
    _require(
        _same(value[known], torch.full_like(value[known], level)),
        tracker,
        f"does not reproduce a signal that is always {level}",
    )


def _certifies(tracker: Tracker, steps: Sequence[RegionStats]) -> None:
    certificate = tracker.certificate(_run(tracker, steps))
    if certificate is None:
        return
    for name, part in zip(certificate._fields, certificate, strict=True):
        _require(part.shape == SHAPE, tracker, f"certifies a {name} of shape {tuple(part.shape)} instead of {SHAPE}")
        _require(bool((part >= 0).all()), tracker, f"certifies a negative {name}")
    seen = certificate.start[..., :-1]
    _require(bool((certificate.start[..., -1] == 1).all()), tracker, "must certify start = 1 for unobserved regions")
    _require(bool((seen < 1).any()), tracker, "must certify a start below 1 for observed regions")


def _honours_device(tracker: Tracker, steps: Sequence[RegionStats]) -> None:
    """Tensors on the meta device have no values, so reading one raises, where a GPU would synchronise."""
    stats = _map(steps[0], lambda field: field.to("meta"))
    try:
        state = tracker.update(tracker.init(SHAPE, device="meta"), stats)
        parts = [*state.values(), *tracker.estimate(state)]
    except (RuntimeError, NotImplementedError) as error:
        raise AssertionError(f"{tracker!r} reads values or leaves its device: {error}") from None
    _require(all(part.is_meta for part in parts), tracker, "does not keep its state on its device")


def _declares_visits(tracker: Tracker, steps: Sequence[RegionStats]) -> None:
    if tracker.uses_visit:
        return
    blind = [stats._replace(visit=torch.ones_like(stats.visit)) for stats in steps]
    pairs = zip(tracker.estimate(_run(tracker, steps)), tracker.estimate(_run(tracker, blind)), strict=True)
    _require(all(_same(a, b) for a, b in pairs), tracker, "uses visit probabilities but has uses_visit = False")
