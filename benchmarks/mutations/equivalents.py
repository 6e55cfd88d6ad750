"""Equivalent mutants: changes that no test needs to notice, each with the reason."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from benchmarks.mutations.changes import Mutation


@dataclass(frozen=True)
class Equivalent:
    """A constant in ``fragment``, a part of a line of ``file``, may change; or ``fragment`` may become ``becomes``."""

    file: str
    fragment: str
    reason: str
    becomes: str = ""

    def covers(self, change: Mutation) -> bool:
        if self.file != change.file or self.fragment not in change.before:
            return False
        if self.becomes:
            return change.before.replace(self.fragment, self.becomes, 1) == change.after
        first = change.before.index(self.fragment)
        at = _same(change.before, change.after) - _same(change.literal, change.replacement)
        return change.kind == "constant" and first <= at < first + len(self.fragment)


def reason(change: Mutation) -> str:
    """Why a mutant may survive; an empty string if it may not."""
    return next((entry.reason for entry in EQUIVALENT if entry.covers(change)), "")


def check_current(changes: list[Mutation]) -> None:
    """Refuse an entry whose line no longer exists."""
    for entry in EQUIVALENT:
        if not any(entry.file == change.file and entry.fragment in change.before for change in changes):
            raise SystemExit(f"no line of {entry.file} contains {entry.fragment!r} any more: update EQUIVALENT")


def _same(first: str, second: str) -> int:
    """Length of the common prefix of two texts."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second)))


BOUNDARY = "aria/samplers/boundary.py"
SAMPLER = "aria/samplers/sampler.py"
ON_POLICY = "aria/distill/engine/on_policy.py"
SIGNALS = "aria/samplers/signals.py"
THOMPSON = "aria/allocators/thompson.py"
NUMERICS = "theory/bounds/_numerics.py"
LIMITS = "theory/limits.py"
ACCURACY = "accuracy of the quadrature: the error stays far below the documented 3e-8"
UNUSED = "keeps a division or a logarithm defined where its result is not used"
TINY = "keeps a division by 0 away: what it stands for is either 0 or far larger"
DIGITS = "range and fineness of a sum that converges exponentially: right to all digits that matter"
GUESS = "a first guess, put right by the comparisons that follow"
SHIFT = "moves the optimum by a thirtieth of a step; the better of the whole numbers around it stays the same"
FASTER = "more steps of a search that has already converged to the last digit"
WHOLE = "whole numbers: none lies between 1 and 2"
BESIDE_ONE = "no float64 differs from 1 by exactly this"
SEARCH = "where a search looks and how finely: it is refined to the supremum, any point of which is a valid bound"
EQUIVALENT: tuple[Equivalent, ...] = (
    Equivalent("aria/trackers/bank.py", "clamp(max=1e3)", "a weight of e^-1000 is 0 in float64, as is one of e^-1100"),
    Equivalent("aria/trackers/window.py", "stats.n > 0", "counts are whole numbers: none lies between 0 and 1"),
    Equivalent("aria/allocators/softmax.py", "(ratio - 1)", "a common factor of all weights, which have no scale"),
    Equivalent("aria/allocators/top_fraction.py", "- 1e-9", "allows for rounding, which is a millionth of it"),
    Equivalent(BOUNDARY, "abs(total - 1) <= 1e-6", BESIDE_ONE, "abs(total - 1) < 1e-6"),
    Equivalent(BOUNDARY, "abs(total - 1) <= 1e-12", BESIDE_ONE, "abs(total - 1) < 1e-12"),
    Equivalent(SAMPLER, "> 0) & (self._collected", "samples are whole"),
    Equivalent(SAMPLER, "if ranks > 1 and", "of one rank the slice is the whole", "if ranks >= 1 and"),
    Equivalent(SAMPLER, "if ranks > 1 and", WHOLE, "if ranks > 1.1 and"),
    Equivalent(SAMPLER, "self.num_regions > 1 else", WHOLE, "self.num_regions > 1.1 else"),
    Equivalent(SAMPLER, "place()[1] > 1:", WHOLE, "place()[1] > 1.1:"),
    Equivalent(SAMPLER, "_sums, sums, strict=True", "both are as many", "_sums, sums, strict=False"),
    Equivalent(SIGNALS, "bad.sum() > 0)", "counts are whole numbers: none lies between 0 and 1", "bad.sum() > 0.1)"),
    Equivalent(SIGNALS, "sigma=1.0", "a factor of the standard error alone, which is not used", "sigma=1.1"),
    Equivalent(ON_POLICY, "+ 1e-9", "allows for rounding, which is a millionth of it", "+ 1.1e-09"),
    Equivalent("aria/distill/objectives/feature.py", "min=1e-12", "keeps a division by 0 away", "min=1.1e-12"),
    Equivalent(THOMPSON, "(scale == 0)", "any unit will do, and where the scale is 0 the quadrature is not used"),
    Equivalent(THOMPSON, "REACH = 8.5", ACCURACY),
    Equivalent(THOMPSON, "NEGLIGIBLE = -25.0", ACCURACY),
    Equivalent(THOMPSON, "RESOLUTION = 1e-8", ACCURACY),
    Equivalent(THOMPSON, "CHUNK = 2**17", "how many nodes are added up at a time: the sum is the same"),
    Equivalent(THOMPSON, "width.masked_fill(~playing, 0)", "who does not play has mean -inf, whatever its width"),
    Equivalent(THOMPSON, "start = 0.1", ACCURACY),
    Equivalent(THOMPSON, "range(0, nodes", "the integrand vanishes at the first node: " + ACCURACY),
    Equivalent(THOMPSON, "(node + 0.5)", "equidistant nodes of a smooth integrand may be shifted: " + ACCURACY),
    Equivalent(THOMPSON, "nan_to_num(nan=0.0)", "NaN only where nothing plays, and there the result is not used"),
    Equivalent(THOMPSON, "1e-14", ACCURACY),
    Equivalent(THOMPSON, "clamp(min=1e-300)", TINY),
    Equivalent(THOMPSON, "range(20)", ACCURACY),
    Equivalent(NUMERICS, "big - small, 1.0)", UNUSED),
    Equivalent(NUMERICS, "np.where(big > 0, big, 1.0)", UNUSED),
    Equivalent(NUMERICS, "same = np.where(exponent == 0,", "at exponent 0 the other branch is 0 as well"),
    Equivalent(NUMERICS, "np.where(noisy, sigma, 1.0)", UNUSED),
    Equivalent(NUMERICS, "-740.0", "no float64 above 0 lies below e^-745"),
    Equivalent(NUMERICS, "range(80)", FASTER),
    Equivalent(NUMERICS, "left > 0", "whole numbers: none lies between 0 and 1"),
    Equivalent(NUMERICS, "np.maximum(steps - EXACT_STEPS, 0.0)", "used only where more steps than that are asked for"),
    Equivalent("theory/bounds/allocation.py", "np.where(drawn, q, 1.0)", UNUSED),
    Equivalent("theory/bounds/asynchronous.py", "np.where(np.isfinite(t), t, 0.0)", UNUSED),
    Equivalent("theory/bounds/asynchronous.py", ", 1.0, b)", UNUSED),
    Equivalent("theory/bounds/bank.py", "np.where(fades, lam, 0.5)", UNUSED),
    Equivalent("theory/bounds/detector.py", "np.where(at_once, 2 * log_s, log_f)", UNUSED),
    Equivalent("theory/bounds/ema.py", ", 1.0, rate)", UNUSED),
    Equivalent("theory/bounds/kalman.py", ", 1.0, rate)", UNUSED),
    Equivalent("theory/bounds/kalman.py", "np.where(known, information, 1.0)", UNUSED),
    Equivalent("theory/bounds/linear.py", "np.where(finite, t, 1.0)", UNUSED),
    Equivalent("theory/bounds/radius.py", "np.where(known, n, 1.0)", UNUSED),
    Equivalent("theory/bounds/radius.py", "np.where(every, 0.5, q)", UNUSED),
    Equivalent("theory/bounds/radius.py", "-40.0", SEARCH),
    Equivalent("theory/bounds/radius.py", "36.0", SEARCH),
    Equivalent("theory/bounds/radius.py", "range(80)", FASTER),
    Equivalent("theory/bounds/radius.py", "(high - low) / 3", SEARCH),
    Equivalent("theory/bounds/radius.py", "np.minimum(exponent, 0.0)", "it tends to 0 with θ: cuts only rounding"),
    Equivalent("theory/bounds/radius.py", "EXACT_TERMS = 64", "the rest is an integral that bounds it, from wherever"),
    Equivalent("theory/bounds/radius.py", "legendre(40)", "nodes of a quadrature that is right to all digits"),
    Equivalent("theory/bounds/radius.py", "u > 1e-300", UNUSED),
    Equivalent("theory/bounds/radius.py", "1e-300, u, 1.0)", UNUSED),
    Equivalent("theory/bounds/radius.py", "1 / q_)", "where the range of the integral is nothing"),
    Equivalent("theory/bounds/radius.py", "rest = np.where(b == 1,", "0 over infinity is 0 as well"),
    Equivalent("theory/bounds/radius.py", "-1 + 1e-16", UNUSED),
    Equivalent("theory/bounds/radius.py", "700.0", "e^700 is beyond any radius that is the least of several"),
    Equivalent("theory/bounds/radius.py", "around = 1 / (2 * b * np.log(2 * t * k / failure))", SEARCH),
    Equivalent("theory/bounds/radius.py", "np.geomspace(0.25, 8.0, 80)", SEARCH),
    Equivalent("theory/bounds/window.py", "np.where(moves, rho, 1.0)", UNUSED),
    Equivalent("theory/bounds/window.py", "np.where(moves, optimum, 1.0)", UNUSED),
    Equivalent("theory/bounds/window.py", "rest = np.ceil(t / 2)", "such a share of the way forgets all"),
    Equivalent("theory/bounds/window.py", "sign = 1.0 if when == \"now\" else -1.0", SHIFT),
    Equivalent(LIMITS, "np.where(q == 1,", "at q = 1 the search finds no more than the exact value either"),
    Equivalent(LIMITS, "np.where(still, 2.0,", UNUSED),
    Equivalent(LIMITS, "np.where(alone, 1.0, total)", UNUSED),
    Equivalent(LIMITS, "np.where(moves, d, 1.0)", UNUSED),
    Equivalent(LIMITS, "np.isfinite(target), target, 1.0)", UNUSED),
    Equivalent(LIMITS, "np.maximum(np.floor(np.cbrt(6 * finite)), 1.0)", GUESS),
    Equivalent(LIMITS, "range(2)", GUESS),
    Equivalent(LIMITS, "<= 6 * finite, j + 1, j)", GUESS),
    Equivalent(LIMITS, "np.where((j - 1) * j * (j + 1) > 6 * finite, j - 1, j)", "undoes a step too far"),
    Equivalent(LIMITS, "np.linspace(-9, 9, 721)", DIGITS),
    Equivalent(LIMITS, "np.linspace(-16, 16, 641)", DIGITS),
    Equivalent(LIMITS, "np.minimum(evidence, 100.0)", "beyond, the factor e^(-v/2) is below 1e-21"),
    Equivalent(LIMITS, "np.minimum(evidence, 50.0)", "beyond, the result is not used"),
    Equivalent(LIMITS, "0.25 * min(np.sqrt(goal), 1.0) if not first else 0.9", SEARCH),
    Equivalent(LIMITS, "np.geomspace(low, 4 * max(1.0, (6 * goal) ** (1 / 3)), 200)", SEARCH),
    Equivalent(LIMITS, "range(4)", SEARCH),
    Equivalent(LIMITS, "grid[max(top - 1, 0)], grid[min(top + 1, grid.size - 1)], 40)", SEARCH),
    Equivalent(LIMITS, "np.arange(-21.0, 4.0,", DIGITS),
    Equivalent(LIMITS, "np.geomspace(0.4 * middle, 4 * max(middle, 2 / q), 100 if middle < 50 else 24)", SEARCH),
    Equivalent(LIMITS, "float(_width(np.asarray(1 / (q * scale))))", SEARCH),
    Equivalent(LIMITS, "range(3)", SEARCH),
    Equivalent(LIMITS, "grid[max(top - 1, 0)], grid[min(top + 1, grid.size - 1)], 12)", SEARCH),
    Equivalent(LIMITS, "-1 + 1e-16", UNUSED),
    Equivalent(LIMITS, "DIRECT_AGES = 500", "from where on ages are added by quadrature, to the same sum"),
    Equivalent(LIMITS, "legendre(200)", DIGITS),
    Equivalent(LIMITS, "terms(np.zeros(1))[:, 0]", "age 0, of which the first column is taken"),
)
