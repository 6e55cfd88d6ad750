"""The allocators' constants, each by a value that depends on it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from aria import allocators
from aria.allocators import Exp3, Oracle, Pool, Progress, Proportional, Softmax, Thompson, TopFraction, reading
from aria.interfaces import Estimate

DEFAULTS = {
    "UCB": {"scale": 1.0, "power": 1.0, "base": 1.0},
    "Exp3": {"horizon": 1000.0, "explore": None, "ceiling": None, "base": 1.0},
    "Neyman": {"base": 1.0},
    "Oracle": {"of": Proportional()},
    "Pool": {"base": 1.0},
    "Progress": {"shrink": 1.0, "base": 1.0},
    "Proportional": {"power": 1.0, "base": 1.0},
    "Softmax": {"temperature": 1.0, "scale": None, "base": 1.0},
    "Thompson": {"base": 1.0, "nodes": 192},
    "TopFraction": {"fraction": 0.1, "base": 1.0},
    "Uniform": {},
}


def defaults(cls: type) -> dict[str, object]:
    found: dict[str, object] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return found


@pytest.mark.parametrize("name", allocators.__all__)
def test_defaults(name: str) -> None:
    """Whoever leaves a setting out gets this value: changing one changes every run."""
    assert defaults(getattr(allocators, name)) == DEFAULTS[name]


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def share(rule: object, value: Tensor, mass: Tensor, stderr: Tensor | None = None) -> list[float]:
    weight = rule(Estimate(value, torch.zeros_like(value) if stderr is None else stderr), mass)  # type: ignore[operator]
    return (weight / weight.sum()).tolist()


# ------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("base", [0.0, 0.25, 0.5, 0.75, 1.0, 2.0])
def test_the_base_measure_is_a_power(base: float) -> None:
    measure = reading.measure(tensor(0.7, 0.3), base)
    assert (measure[0] / measure[1]).item() == pytest.approx((7 / 3) ** base, rel=1e-12)


def test_bases_that_need_no_power_keep_the_mass() -> None:
    assert reading.measure(tensor(0.64, 0.36), 1).tolist() == [0.64, 0.36]
    assert reading.measure(tensor(0.64, 0.36), 0.5).tolist() == pytest.approx([0.8, 0.6])
    assert reading.measure(tensor(0.64, 0.36, 0.0), 0).tolist() == [1, 1, 0]


def test_a_score_is_read_as_is_without_a_bonus() -> None:
    assert reading.index(Estimate(tensor(1.0, 2.0), tensor(5.0, 7.0))).tolist() == [1, 2]
    assert reading.index(Estimate(tensor(1.0, 2.0), tensor(5.0, 7.0)), bonus=0.5).tolist() == [3.5, 5.5]


def test_scores_relative_to_the_largest() -> None:
    score = tensor(0.05, -3.0, 0.02, math.inf, 9.0)
    mass = tensor(0.25, 0.25, 0.25, 0.25, 0.0)
    assert reading.relative(score, mass).tolist() == pytest.approx([1.0, 0.0, 0.4, 1.0, 0.0])
    assert reading.gap(score, mass).tolist()[:4] == pytest.approx([0.0, -0.05, -0.03, 0.0])
    assert reading.relative(tensor(math.inf, math.inf), tensor(0.5, 0.5)).tolist() == [1, 1]


def test_a_power_tilts() -> None:
    for power in (0.0, 0.5, 1.0, 1.1, 2.0, 3.0):
        weight = reading.tilt(tensor(1.0, 4.0), tensor(0.5, 0.5), power, base=1)
        assert (weight[1] / weight[0]).item() == pytest.approx(4**power, rel=1e-12)


# --------------------------------------------------------------------------------------------------------------- rules


def test_exp3_explores_as_in_corollary_3_2() -> None:
    for regions in (2, 5, 40):
        tuned = math.sqrt(regions * math.log(regions) / ((math.e - 1) * 777))
        assert Exp3(horizon=777).gamma(regions) == pytest.approx(tuned, rel=1e-12)
    assert Exp3(horizon=1).gamma(50) == 1.0


def test_exp3_by_hand() -> None:
    """Gains in units of the largest estimate, or of the ceiling; differences are what counts."""
    weight = [0.3, 0.7 * math.exp(0.2 * 10 / 2 * (0.5 - 1))]
    expected = [0.8 * w / sum(weight) + 0.2 * b for w, b in zip(weight, (0.3, 0.7), strict=True)]
    q = share(Exp3(horizon=10, explore=0.2), tensor(4.0, 2.0), tensor(0.3, 0.7))
    assert q == pytest.approx(expected, rel=1e-12)
    assert share(Exp3(horizon=10, explore=0.2, ceiling=4.0), tensor(4.0, 2.0), tensor(0.3, 0.7)) == pytest.approx(q)


def test_softmax_by_hand() -> None:
    """Scale: the mean value under the base measure, here 0.3·4 + 0.7·2."""
    weight = [0.3 * math.exp(4 / 2.6 / 0.5), 0.7 * math.exp(2 / 2.6 / 0.5)]
    expected = [w / sum(weight) for w in weight]
    assert share(Softmax(temperature=0.5), tensor(4.0, 2.0), tensor(0.3, 0.7)) == pytest.approx(expected, rel=1e-12)
    fixed = Softmax(temperature=0.5, scale=2.6)
    assert share(fixed, tensor(4.0, 2.0), tensor(0.3, 0.7)) == pytest.approx(expected, rel=1e-12)


def test_slopes_are_shrunk_and_share_linearly() -> None:
    q = share(Progress(shrink=2.0), tensor(0.5, -0.4, 0.1), tensor(0.25, 0.25, 0.5), stderr=tensor(0.1, 0.1, 0.1))
    assert q == pytest.approx([0.6, 0.4, 0.0])


def test_the_truth_may_be_zero_but_not_less() -> None:
    assert share(Oracle(truth=[0.0, 0.05]), tensor(1.0, 1.0), tensor(0.5, 0.5)) == [0, 1]
    with pytest.raises(ValueError, match="truth must be finite and non-negative, got values from -0.05 to 1.0"):
        Oracle(truth=[-0.05, 1.0])


def test_one_truth_serves_all_replicas() -> None:
    estimate = Estimate(torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64))
    weight = Oracle(truth=torch.tensor([[1.0, 3.0]]))(estimate, tensor(0.5, 0.5))
    assert weight.shape == (3, 2) and (weight[:, 1] / weight[:, 0]).tolist() == pytest.approx([3, 3, 3])


@pytest.mark.parametrize(("fraction", "taken"), [(0.001, 1), (0.07, 7), (0.0701, 8), (0.3, 30), (1.0, 100)])
def test_the_top_fraction_rounds_up(fraction: float, taken: int) -> None:
    """Of 100 regions; what is a whole number but for rounding is that number."""
    value, mass = torch.arange(100, dtype=torch.float64), torch.full((100,), 0.01, dtype=torch.float64)
    q = TopFraction(fraction=fraction)(Estimate(value, torch.zeros_like(value)), mass)
    assert int((q > 0).sum()) == taken


def test_the_pool_itself() -> None:
    assert share(Pool(), tensor(5.0, 1.0), tensor(0.9, 0.1)) == pytest.approx([0.9, 0.1])


# ------------------------------------------------------------------------------------------------------------- thompson


def normal_cdf(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2


@pytest.mark.parametrize("unit", [1e-9, 0.01, 1.0, 1e9])
def test_thompson_has_no_unit(unit: float) -> None:
    """Two beliefs: P = Φ((m₁-m₂)/√(s₁²+s₂²)), in whatever unit."""
    q = share(Thompson(), unit * tensor(1.0, 1.5), tensor(0.5, 0.5), stderr=unit * tensor(0.3, 0.4))
    assert q == pytest.approx([1 - normal_cdf(1.0), normal_cdf(1.0)], abs=1e-10)


def test_thompson_reads_known_values() -> None:
    assert share(Thompson(), tensor(0.01, 0.02), tensor(0.5, 0.5)) == pytest.approx([0, 1], abs=1e-7)
    assert share(Thompson(), tensor(0.0, 0.0), tensor(0.3, 0.7)) == pytest.approx([0.3, 0.7])


@pytest.mark.parametrize("mass", [0.01, 0.09])
def test_thompson_lets_rare_regions_play(mass: float) -> None:
    """With base 0 the mass does not count as long as there is some; one unseen region gets half."""
    small = tensor(mass, 1 - mass)
    assert share(Thompson(base=0.0), tensor(1.0, 1.0), small, stderr=tensor(0.1, 0.1)) == pytest.approx([0.5, 0.5])
    unseen = tensor(math.inf, 0.1)
    assert share(Thompson(base=0.0), tensor(0.0, 1.0), small, stderr=unseen) == pytest.approx([0.5, 0.5])


def test_thompson_shares_zeros_beside_the_unseen() -> None:
    """One unseen region gets half; regions known to be zero share the rest by the base measure."""
    q = share(Thompson(), tensor(0.0, 0.0, 0.0), tensor(0.3, 0.2, 0.5), stderr=tensor(0.0, 0.0, math.inf))
    assert q == pytest.approx([0.3, 0.2, 0.5])


def test_thompson_does_not_depend_on_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """One node at a time where there are more regions than a piece holds."""
    value, mass = torch.linspace(0, 1, 7, dtype=torch.float64), torch.full((7,), 1 / 7, dtype=torch.float64)
    whole = share(Thompson(), value, mass, stderr=0.3 * torch.ones_like(value))
    monkeypatch.setitem(Thompson.__call__.__globals__, "CHUNK", 3)
    assert share(Thompson(), value, mass, stderr=0.3 * torch.ones_like(value)) == pytest.approx(whole, rel=1e-12)


def test_thompson_shares_three_ways() -> None:
    """The largest of three standard normals and one that is certain: E[...] by symmetry and by Φ(x)³."""
    for x in (-1.0, 0.0, 1.5):
        q = share(Thompson(), tensor(0.0, 0.0, 0.0, x), torch.full((4,), 0.25, dtype=torch.float64), tensor(1, 1, 1, 0))
        assert q[3] == pytest.approx(normal_cdf(x) ** 3, abs=1e-6)
        assert q[:3] == pytest.approx([(1 - q[3]) / 3] * 3, abs=1e-6)


def test_sixteen_nodes_are_the_fewest() -> None:
    assert Thompson(nodes=16).nodes == 16
