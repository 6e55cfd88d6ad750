"""The search for the best static mix of a task, on seeds that the comparison does not use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aria.bench import aria_arm
from aria.bench.arms import Arm
from aria.bench.records import Record

TARGET = "uniform"
"""The group whose gap the search makes small."""
KEPT = 3
"""All mixes run on the first seed; the best ``1 / KEPT`` of them also run on the other seeds."""


def _grid() -> Iterator[Arm]:
    bases: dict[str, dict[str, Any]] = {
        "conditions": {"by_condition": True},
        "regions": {"allocator": "proportional(power=0, base=0)", "floor": 0.0},
    }
    for replacement in ("exponential(5.0)", "exponential(1.0)", "constant(1.0)"):
        for base, settings in bases.items():
            for share in (0.0, 0.375):
                name = f"{replacement}, {base}, on-policy {share:g}"
                own: dict[str, Any] = {"replacement": replacement, "on_policy": share, "weighting": aria_arm.WEIGHTING}
                yield Arm(name, **settings, **own)


GRID = tuple(_grid())
"""The static mixes of the search: how often a condition is replaced, whether conditions or regions are equally likely,
and the share of on-policy rows. Noise levels are weighted as in the arm ``aria``."""


def search(
    grid: Sequence[Arm], seeds: Sequence[int], run: Callable[[Sequence[Arm], Sequence[int]], list[Record]]
) -> tuple[Arm, dict[str, float]]:
    """The best mix of a grid, and the score of every mix, by the seeds that it has seen.

    All mixes run on the first seed, the best of them on the others as well. ``run`` returns the records of some arms on
    some seeds.
    """
    first, *others = seeds
    scores = _scores(run(grid, [first]), 1)
    best = sorted(scores, key=lambda name: scores[name])[: -(-len(scores) // KEPT)]
    survivors = [arm for arm in grid if arm.name in best]
    if others and len(survivors) > 1:
        scores |= _scores(run(survivors, seeds), len(seeds))
    return min(survivors, key=lambda arm: scores[arm.name]), scores


def _scores(records: Sequence[Record], seeds: int) -> dict[str, float]:
    """The mean logarithm of each arm's final gap over the seeds; infinite for one that has none on some seed, since its
    student diverged."""
    last = max(record["step"] for record in records)
    final: dict[str, list[float]] = {}
    for r in records:
        if (r["step"], r["metric"], r["group"]) == (last, "gap", TARGET):
            final.setdefault(r["arm"], []).append(math.log(r["value"]))
    means = {arm: sum(values) / len(values) for arm, values in final.items() if len(values) == seeds}
    return {record["arm"]: means.get(record["arm"], math.inf) for record in records}
