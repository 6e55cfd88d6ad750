"""Values by prompt become a table by group: means with bootstrap intervals, and paired tests between students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aria.checks import InvalidSetting
from aria.significance import holm

GAP = "gap"
RESAMPLED, LEVEL = 2000, 0.95
"""Number of bootstrap samples, and the coverage of intervals."""
LEAST = 6
"""Prompts that a group needs for an interval, and different pairs for a test: fewer could not tell."""


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap interval by percentiles (B. Efron, "Bootstrap methods", 1979), None for few prompts."""

    mean: float
    low: float | None
    high: float | None
    prompts: int


def weighted_mean(values: Tensor, share: Tensor) -> float | None:
    """The mean of the values (N,) that are not NaN, weighted by ``share`` (N,); None if no weight is left.

    >>> weighted_mean(torch.tensor([1.0, 3.0, torch.nan]), torch.tensor([1.0, 1.0, 5.0]))
    2.0
    """
    weight = share.double() * ~values.isnan()
    total = float(weight.sum())
    return float((values.double().nan_to_num() * weight).sum() / total) if total > 0 else None


def interval(values: Tensor, seed: int = 0) -> Interval | None:
    """The mean over the prompts whose value is not NaN; None if there is none."""
    known = values[~values.isnan()].double().numpy()
    if not len(known):
        return None
    if len(known) < LEAST:
        return Interval(float(known.mean()), None, None, len(known))
    means = known[_resamples(len(known), seed)].mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(known.mean()), float(low), float(high), len(known))


def paired_p(ours: Tensor, theirs: Tensor) -> float | None:
    """Two-sided p value of Wilcoxon's signed-rank test of paired values; None with fewer than :data:`LEAST` different
    pairs."""
    from scipy.stats import wilcoxon

    difference = (ours - theirs).double()
    difference = difference[~difference.isnan() & (difference != 0)]
    return float(wilcoxon(difference.numpy()).pvalue) if len(difference) >= LEAST else None


def change(ours: Tensor, theirs: Tensor, seed: int = 0) -> dict[str, float | None]:
    """By how many percent the mean of ``ours`` differs from that of ``theirs``, resampled prompt by prompt; None where
    theirs, or its mean in a sample, is not positive."""
    both = ~(ours.isnan() | theirs.isnan())
    a, b = ours[both].double().numpy(), theirs[both].double().numpy()
    if not len(a) or b.mean() <= 0:
        return {"mean": None, "low": None, "high": None, "p": None}
    mean = float(100 * (a.mean() / b.mean() - 1))
    if len(a) < LEAST:
        return {"mean": mean, "low": None, "high": None, "p": None}
    rows = _resamples(len(a), seed)
    p, denominators = paired_p(ours[both], theirs[both]), b[rows].mean(1)
    if denominators.min() <= 0:
        return {"mean": mean, "low": None, "high": None, "p": p}
    low, high = np.quantile(100 * (a[rows].mean(1) / denominators - 1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"mean": mean, "low": float(low), "high": float(high), "p": p}


def by_group(
    values: Mapping[str, Mapping[str, Tensor]], groups: Mapping[str, Sequence[int]]
) -> list[dict[str, Any]]:
    """A row for each metric, group and student.

    Args:
        values: by student, by metric, (N,) values of the prompts; the first student is the one that others are beside.
        groups: by name, the prompts of each group.
    """
    first = next(iter(values))
    for student, metrics in values.items():
        if differ := sorted(metrics.keys() ^ values[first].keys()):
            raise InvalidSetting("scorer", "conflict", f"{differ[0]} was given for {first} or {student}, but not both")
    rows = []
    for metric in values[first]:
        for group, members in groups.items():
            theirs = values[first][metric][list(members)]
            for student, found in values.items():
                own = found[metric][list(members)]
                mean = interval(own)
                row: dict[str, Any] = {"student": student, "metric": metric, "group": group}
                row |= {"mean": None, "low": None, "high": None, "prompts": 0} if mean is None else vars(mean)
                rows.append(row | {"change": None if student == first else change(own, theirs)})
    _adjust(rows)
    return rows


def check_scores(name: str, scores: object, count: int) -> dict[str, Tensor]:
    """The scores that a scorer returned; anything but (N,) numbers by name is refused."""
    if not isinstance(scores, Mapping) or not scores:
        raise InvalidSetting("scorer", "type", f"{name} must return scores by name, got {type(scores).__name__}")
    checked = {}
    for key, value in scores.items():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if shape != (count,):
            raise InvalidSetting("scorer", "type", f"{name}: {key} must have the shape ({count},), got {shape}")
        if key == GAP:
            raise InvalidSetting("scorer", "conflict", f"{name}: {GAP} is the name of the generation gap")
        if bool(value.isinf().any()) or bool(value.isnan().all()):
            what = "infinite values" if bool(value.isinf().any()) else "nothing but NaN"
            raise InvalidSetting("scorer", "range", f"{name}: {key} has {what}")
        checked[str(key)] = value.detach().double().cpu()
    return checked


def add_scores(values: dict[str, Tensor], name: str, scores: object, count: int) -> None:
    """Add the scores of a scorer to the values of a student; two scores of one name are refused."""
    checked = check_scores(name, scores, count)
    if both := sorted(values.keys() & checked.keys()):
        raise InvalidSetting("scorer", "conflict", f"{name}: there is another score called {both[0]}")
    values |= checked


def extremes(values: Tensor, count: int) -> dict[str, list[int]]:
    """The ``count`` prompts with the smallest values, those around the median, and those with the largest.

    >>> extremes(torch.tensor([5.0, 1.0, 3.0, 2.0, 4.0]), 1)
    {'best': [1], 'median': [2], 'worst': [0]}
    """
    order = torch.argsort(values, stable=True).tolist()
    count = min(count, max(1, len(order) // 3))
    middle = (len(order) - count) // 2
    return {"best": order[:count], "median": order[middle : middle + count], "worst": order[len(order) - count :][::-1]}


def _adjust(rows: Sequence[dict[str, Any]]) -> None:
    """Adjust the p values of all changes by Holm's method."""
    changes = {place: row["change"] for place, row in enumerate(rows) if row["change"]}
    adjusted = holm({place: found["p"] for place, found in changes.items() if found["p"] is not None})
    for place, row in enumerate(rows):
        if row["change"]:
            row["change"]["p_adjusted"] = adjusted.get(place)


def _resamples(count: int, seed: int) -> Any:
    """(B, N) indices, the same for all values of as many prompts, so that comparisons are paired."""
    return np.random.default_rng(seed).integers(count, size=(RESAMPLED, count))
