"""Thompson's probabilities against closed forms, against simulation, and in the limits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aria.allocators import Thompson
from aria.allocators import thompson as module
from aria.interfaces import Estimate

repeatable = settings(derandomize=True, deadline=None, max_examples=100)
INF = torch.inf


def tensor(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def thompson(value: list[float], stderr: list[float], mass: list[float] | None = None, base: float = 1.0) -> Tensor:
    share = tensor([1 / len(value)] * len(value) if mass is None else mass)
    return Thompson(base=base)(Estimate(tensor(value), tensor(stderr)), share)


def ndtr(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


@repeatable
@given(gap=st.floats(-4, 4), width=st.floats(0.05, 1), narrower=st.floats(0, 8), mass=st.floats(0.1, 0.9))
def test_two_regions_have_a_closed_form(gap: float, width: float, narrower: float, mass: float) -> None:
    """The narrower of the two widths is down to 1e-8 of the other."""
    other = width * 10**-narrower
    q = thompson([1.0 / mass, (1.0 + gap) / (1 - mass)], [width / mass, other / (1 - mass)], [mass, 1 - mass])
    assert float(q[1]) == pytest.approx(ndtr(gap / math.hypot(width, other)), abs=3e-8)
    assert float(q.sum()) == pytest.approx(1, abs=3e-11)


@pytest.mark.parametrize("gap", [0.0, 0.5, 3.0])
def test_two_regions_of_like_widths_are_exact(gap: float) -> None:
    assert float(thompson([1.0, 1.0 + gap], [0.6, 0.8])[1]) == pytest.approx(ndtr(gap), abs=3e-11)


@pytest.mark.parametrize("width", [0.1, 1.0, 5.0])
def test_one_against_two_has_a_closed_form(width: float) -> None:
    """P(X0 > X1, X0 > X2) is an orthant probability: 1/4 + arcsin(rho)/(2 pi)."""
    rho = width**2 / (1 + width**2)
    q = thompson([2.0, 2.0, 2.0], [width, 1.0, 1.0])
    assert float(q[0]) == pytest.approx(0.25 + math.asin(rho) / (2 * math.pi), abs=3e-11)


def simulated(value: Tensor, stderr: Tensor, mass: Tensor, draws: int) -> Tensor:
    noise = torch.randn(draws, len(value), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    best = (mass * (value + stderr * noise)).argmax(-1)
    return torch.bincount(best, minlength=len(value)).double() / draws


def worst_z(value: Tensor, stderr: Tensor, mass: Tensor, q: Tensor, draws: int = 400_000) -> float:
    """The largest deviation of simulated frequencies from ``q``, in standard errors."""
    return float(((simulated(value, stderr, mass, draws) - q).abs() / (q * (1 - q) / draws).sqrt()).max())


@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_many_regions_agree_with_simulation(spread: float) -> None:
    """Twelve regions, 5.2 standard errors: a false alarm has probability 12 * 2e-7."""
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(3, 12, generator=generator, dtype=torch.float64)
    mass = (u[0] + 0.5) / (u[0] + 0.5).sum()
    value, stderr = u[1] + 1, 0.5 * 10 ** (-spread * u[2])
    q = Thompson()(Estimate(value, stderr), mass)
    q = q.clamp(min=1e-5)  # rarer winners are not seen often enough for a normal approximation
    assert worst_z(value, stderr, mass, q) < 5.2
    wrong = Thompson()(Estimate(value, stderr * 1.05), mass).clamp(min=1e-5)
    assert worst_z(value, stderr, mass, wrong) > 5.2


@pytest.mark.parametrize("k", [1, 3, 1000])
def test_equal_beliefs_share_equally(k: int) -> None:
    torch.testing.assert_close(thompson([2.0] * k, [0.3] * k), tensor([1 / k] * k), rtol=1e-9, atol=0)


@pytest.mark.parametrize("stderr", [0.0, 1e-12])
def test_known_values_are_decided_and_ties_share_equally(stderr: float) -> None:
    q = thompson([1.0, 3.0, 3.0, 2.0], [stderr] * 4)
    torch.testing.assert_close(q, tensor([0, 0.5, 0.5, 0]), rtol=0, atol=1e-12)
    q = thompson([1.0, 1.0 + 1e-9], [0.0, 0.0])
    torch.testing.assert_close(q, tensor([0, 1]), rtol=0, atol=1e-12)


def test_a_known_value_beside_an_uncertain_one() -> None:
    q = thompson([1.0, 1.5], [0.5, 0.0])
    assert float(q[0]) == pytest.approx(ndtr(-1), abs=3e-8)


def test_the_mass_weighs_the_belief() -> None:
    assert float(thompson([1.0, 1.0], [0.1, 0.1], [0.7, 0.3])[0]) > 0.999
    assert float(thompson([1.0, 1.0], [0.1, 0.1], [0.7, 0.3], base=0.0)[0]) == pytest.approx(0.5, abs=3e-11)


@pytest.mark.parametrize("unseen", [1, 2, 3])
def test_unseen_regions_are_the_limit_of_wide_beliefs(unseen: int) -> None:
    value, stderr = [1.0, 1.1, 0.5], [0.2, 0.1, 0.3]
    limit = thompson(value + [0.0] * unseen, stderr + [INF] * unseen, base=0.0)
    far, near = (
        float((thompson(value + [7.0] * unseen, stderr + [width] * unseen, base=0.0) - limit).abs().max())
        for width in (1e3, 1e5)
    )
    assert near < 1e-4 and near < far / 50  # the distance falls like 1 / width
    torch.testing.assert_close(limit[:3], 0.5**unseen * thompson(value, stderr, base=0.0), rtol=1e-9, atol=0)
    torch.testing.assert_close(limit[3:], tensor([(1 - 0.5**unseen) / unseen] * unseen), rtol=1e-9, atol=0)


def test_unseen_regions_share_by_the_base_measure() -> None:
    q = thompson([1.0, 0.0, 0.0], [0.1, INF, INF], [0.5, 0.4, 0.1])
    torch.testing.assert_close(q, tensor([0.25, 0.6, 0.15]), rtol=1e-12, atol=0)


def test_a_thousand_unseen_regions_leave_no_more_than_the_floor_to_the_seen() -> None:
    q = thompson([1.0] + [0.0] * 2000, [0.1] + [INF] * 2000)
    assert float(q[0]) == 0 and float(q.sum()) == pytest.approx(1)


def test_more_nodes_change_nothing_for_equal_widths() -> None:
    generator = torch.Generator().manual_seed(0)
    estimate = Estimate(*torch.rand(2, 300, generator=generator, dtype=torch.float64))
    mass = torch.full((300,), 1 / 300, dtype=torch.float64)
    few, many = (Thompson(nodes=nodes)(estimate, mass) for nodes in (192, 1000))
    torch.testing.assert_close(few, many, rtol=0, atol=1e-10)


def test_the_work_is_cut_into_pieces_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    estimate, mass = Estimate(*torch.rand(2, 3, 50, dtype=torch.float64)), torch.full((50,), 0.02, dtype=torch.float64)
    sizes = iter((2**17, 1000, 1))
    whole, *pieces = (monkeypatch.setattr(module, "CHUNK", next(sizes)) or Thompson()(estimate, mass) for _ in range(3))
    for piece in pieces:
        torch.testing.assert_close(piece, whole, rtol=1e-10, atol=1e-15)


def test_beliefs_of_very_different_widths_are_all_resolved() -> None:
    """Two narrow beliefs decide between themselves while a wide one takes half."""
    q = thompson([1.0, 1.0 + 1e-5, 1.0], [0.6e-5, 0.8e-5, 1.0])
    torch.testing.assert_close(q, tensor([ndtr(-1) / 2, ndtr(1) / 2, 0.5]), rtol=0, atol=1e-5)
