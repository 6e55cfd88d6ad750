"""Conformance checks: what the simulator and the bounds require of every part of a regime."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from aria.interfaces import Estimate, State
from theory.regimes.base import Drift, Noise, Past, Process, Seen, Visits
from theory.regimes.randomness import Random

SHAPE = (2000, 3)  # replicas, regions
STEPS = 70  # more than the 64 steps a random word lasts
LEVEL = 2.0
LOG = math.log(2 / 1e-8)
"""Each comparison has false alarm probability 1e-8, so that the few dozen of one check stay below 1e-6 together."""
LIMIT = math.sqrt(2 * LOG)  # standard errors


def check_process(process: Process, seed: int = 0) -> None:
    """Raise AssertionError, with one sentence, at the first requirement that a drift, noise or visit process violates.

    It must be a frozen dataclass; leave state and past unchanged; return the same for the same past and random numbers;
    return tensors that broadcast to (R, K); and use estimates only if it is declared adaptive. No move may exceed the
    drift bound. Noise must have mean 0, and at most its variance and its reach, given any past error. Visits must be
    as frequent as their probability, which is never below ``least``. Statistical checks have false alarm probability
    1e-6.

    >>> from theory.regimes import Bernoulli
    >>> check_process(Bernoulli(0.3))
    """
    frozen = dataclasses.is_dataclass(process) and type(process).__dataclass_params__.frozen
    _require(bool(frozen), process, "must be a frozen dataclass: only the state may change")
    steps = list(_steps(process, seed))
    match process:
        case Drift():
            _check_drift(process, steps)
        case Noise():
            _check_noise(process, steps)
        case Visits():
            _check_visits(process, steps)
        case _:
            _require(False, process, "must be a Drift, a Noise or Visits")


def _past(process: Process, step: int, start: Tensor, seed: int) -> Past:
    """A past whose errors differ in size and sign between replicas, without what the process may not use."""
    random = Random(1000 * seed + step, SHAPE)
    spread = torch.linspace(-3, 3, SHAPE[0], dtype=torch.float64)[:, None].expand(SHAPE)
    estimate = Estimate(start + spread, torch.ones(SHAPE, dtype=torch.float64))
    visit = None if isinstance(process, Visits) else random.uniform()
    return Past(step, start, estimate if process.adaptive else None, visit)


def _steps(process: Any, seed: int) -> Iterator[tuple[Past, Any]]:
    """The past and the result of each step, after the checks that apply to any process."""
    state: State = process.init(SHAPE)
    truth = torch.full((1, SHAPE[1]), LEVEL + (process.offset if isinstance(process, Drift) else 0.0)).double()
    random, again = Random(seed, SHAPE), Random(seed, SHAPE)
    for step in range(1, STEPS + 1):
        past = _past(process, step, truth, seed)
        before, inputs = _copy(state), _tensors(past)
        copies = [tensor.clone() for tensor in inputs]
        result, after = process.step(state, past, random)
        repeated, _ = process.step(_copy(before), past, again)
        _require(_same(state, before), process, "changed the given state in place")
        unchanged = all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))
        _require(unchanged, process, "changed the given past in place")
        for one, other in zip(_parts(result), _parts(repeated), strict=True):
            _require(bool(one.isfinite().all()), process, "returned a number that is not finite")
            _require(bool(torch.equal(one, other)), process, "returned two results for the same past and randomness")
            broadcast = all(a in (1, b) for a, b in zip(reversed(one.shape), reversed(SHAPE), strict=False))
            _require(broadcast, process, f"returned shape {tuple(one.shape)}, which does not broadcast to (R, K)")
        _require(state.keys() == after.keys(), process, "changed the names in its state")
        yield past, result
        state = after
        if isinstance(process, Drift):
            truth = truth + result


def _parts(result: Seen | Tensor | float) -> tuple[Tensor, ...]:
    return tuple(result) if isinstance(result, Seen) else (torch.as_tensor(result, dtype=torch.float64),)


def _tensors(past: Past) -> list[Tensor]:
    return [part for part in (past.truth, past.visit, *(past.estimate or ())) if part is not None]


def _copy(state: State) -> State:
    return {name: tensor.clone() for name, tensor in state.items()}


def _same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _require(condition: bool, process: Process, sentence: str) -> None:
    if not condition:
        raise AssertionError(f"{process!r} {sentence}")


def _check_mean_zero(values: Tensor, process: Process, sentence: str) -> None:
    """Check that the means over replicas of independent numbers (R, …) are 0 within their standard errors."""
    error = values.std(0) / math.sqrt(values.shape[0])
    _require(bool((values.mean(0).abs() <= LIMIT * error + 1e-12).all()), process, sentence)


def _check_drift(process: Drift, steps: list[tuple[Past, Any]]) -> None:
    bound = process.bound(LEVEL)
    _require(bound >= 0, process, f"must have a non-negative bound, got {bound}")
    total = torch.zeros(SHAPE, dtype=torch.float64)
    variance = 0.0
    for past, move in steps:
        size = torch.as_tensor(move, dtype=torch.float64).abs().max()
        _require(bool(size <= bound * (1 + 1e-12) + 1e-15), process, f"moved by {size}, more than its bound {bound}")
        total = total + move - (process.mean_move(past.step) or 0.0)
        variance += process.variance
    if process.mean_move(1) is None:
        return
    _check_mean_zero(total.flatten(), process, "does not move by mean_move on average")
    # A sum of many steps has a square of mean `variance` and variance at most 3 variance² (+ rare jumps: twice that).
    off = (total**2).mean() - variance
    _require(
        bool(off.abs() <= LIMIT * (total**2).std() / math.sqrt(total.numel()) + 1e-12 * (1 + variance)),
        process,
        "does not vary by its variance",
    )


def _check_noise(process: Noise, steps: list[tuple[Past, Any]]) -> None:
    sigma, reach = process.sigma, process.reach
    drawn = torch.stack([noise.expand(SHAPE) for _, noise in steps])  # (T, R, K)
    largest = float(drawn.abs().max())
    _require(largest <= reach * (1 + 1e-12), process, f"returned {largest}, more than its reach {reach}")
    _require(process.sub_gaussian >= sigma * (1 - 1e-12), process, "is declared to have lighter tails than normal")
    clip = min(reach, 10 * sigma) if process.symmetric else max(largest, sigma)
    drawn = drawn.clamp(-clip, clip)
    # Replicas with similar past errors form a group: the mean must be 0 for any past error.
    groups = drawn.view(STEPS, 10, -1).transpose(0, 1).flatten(1)  # (10, T·R/10·K)
    n = groups.shape[1]
    allowed = sigma * math.sqrt(2 * LOG / n) + clip * LOG / (3 * n)  # Bernstein
    _require(bool((groups.mean(1).abs() <= allowed + 1e-12).all()), process, "does not have mean 0 given the past")
    scales = [process.scale(past.step) for past, _ in steps]
    _require(all(s is None or s <= sigma * (1 + 1e-12) for s in scales), process, "has a scale above sigma")
    unit = torch.tensor([sigma if s is None else s for s in scales], dtype=torch.float64)[:, None, None]
    square = drawn.square() / unit.square().clamp(min=1e-300)  # 1 on average, or less
    top = (clip / float(unit[unit > 0].min())) ** 2 if sigma else 1.0
    n = square.numel()
    allowed = float(square.std()) * math.sqrt(2 * LOG / n) + 7 * top * LOG / (3 * n)  # empirical Bernstein
    _require(float(square.mean()) <= 1 + allowed, process, "varies more than its scale or sigma allows")


def _check_visits(process: Visits, steps: list[tuple[Past, Any]]) -> None:
    surplus = torch.zeros(SHAPE, dtype=torch.float64)
    for _, (n, visit) in steps:
        whole = bool((n == n.round()).all()) and bool((n >= 0).all())
        _require(whole, process, "returned counts that are not whole numbers")
        _require(process.batched or bool((n <= 1).all()), process, "is not declared batched but returned batches")
        _require(
            bool((visit >= process.least - 1e-12).all()) and bool((visit <= 1 + 1e-12).all()),
            process,
            f"has a visit probability outside [least, 1] = [{process.least}, 1]",
        )
        same = n.shape[0] == 1
        _require(same or not process.shared, process, "is declared shared but does not visit all replicas equally")
        surplus = surplus + (n > 0).double() - visit
    _check_mean_zero(surplus, process, "does not visit as often as its probability")
