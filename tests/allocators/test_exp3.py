"""Exp3 is the published algorithm, keeps its regret bound and never overflows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aria.allocators import Exp3
from aria.interfaces import Estimate


def allocation(rule: Exp3, value: Tensor) -> Tensor:
    return rule(Estimate(value, torch.zeros_like(value)), torch.full((value.shape[-1],), 1 / value.shape[-1]).to(value))


def published(gains: Tensor, gamma: float) -> Tensor:
    """Exp3 with its weights in linear space: multiplied by exp(gamma * gain / (K p)) of the arm drawn."""
    k = gains.shape[-1]
    generator = torch.Generator().manual_seed(3)
    weight, total = torch.ones(k, dtype=torch.float64), torch.zeros(k, dtype=torch.float64)
    for gain in gains:
        p = (1 - gamma) * weight / weight.sum() + gamma / k
        arm = torch.multinomial(p, 1, generator=generator)
        estimate = gain[arm] / p[arm]
        total[arm] += estimate
        weight[arm] *= (gamma * estimate / k).exp()
    return torch.stack([(1 - gamma) * weight / weight.sum() + gamma / k, total])


def test_it_is_the_published_algorithm() -> None:
    gains = torch.rand(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rule = Exp3(horizon=200, ceiling=1.0, base=0.0)
    p, total = published(gains, rule.gamma(4))
    torch.testing.assert_close(allocation(rule, total / 200), p, rtol=1e-10, atol=0)
    assert not torch.allclose(allocation(rule, total / 400), p, rtol=1e-3)


def test_the_default_exploration_is_tuned_to_the_horizon() -> None:
    assert Exp3(horizon=1000).gamma(10) == pytest.approx(math.sqrt(10 * math.log(10) / ((math.e - 1) * 1000)))
    assert Exp3(horizon=1).gamma(10) == 1
    assert Exp3(horizon=1, explore=0.25).gamma(10) == 0.25


def regret(rule: Exp3, gains: Tensor, replicas: int = 64) -> float:
    """Mean regret of ``replicas`` runs that see only the gains they draw, over the best single region."""
    generator = torch.Generator().manual_seed(5)
    total, won = torch.zeros(replicas, gains.shape[-1], dtype=torch.float64), 0.0
    for gain in gains:
        p = allocation(rule, total / rule.horizon)
        arm = torch.multinomial(p, 1, generator=generator)  # (R, 1)
        won += float(gain[arm].mean())
        total.scatter_add_(1, arm, gain[arm] / p.gather(1, arm))
    return float(gains.sum(0).max()) - won


def test_regret_stays_within_the_published_bound() -> None:
    """The best region changes half way; exploring alone would not do."""
    steps, k = 1000, 4
    gains = torch.full((steps, k), 0.1, dtype=torch.float64)
    gains[: steps // 2, 0] = 0.6
    gains[steps // 2 :, 1] = 1.0
    bound = 2.63 * math.sqrt(float(gains.sum(0).max()) * k * math.log(k))
    assert regret(Exp3(horizon=steps, ceiling=1.0, base=0.0), gains) <= bound
    assert regret(Exp3(horizon=steps, ceiling=1.0, base=0.0, explore=1e-6), gains) > bound


@pytest.mark.parametrize("horizon", [1e6, 1e300])
@pytest.mark.parametrize("ceiling", [None, 1.0, 1e-300])
def test_no_number_of_steps_overflows(horizon: float, ceiling: float | None) -> None:
    value = torch.tensor([0.2, 0.9, 1e300], dtype=torch.float64)
    for explore in (None, 0.1):
        q = allocation(Exp3(horizon=horizon, ceiling=ceiling, explore=explore), value)
        assert bool(q.isfinite().all()) and float(q.sum()) == pytest.approx(1)
        assert float(q.argmax()) == 2


def test_every_region_keeps_its_share_of_the_exploration() -> None:
    mass = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    q = Exp3(horizon=1e6, explore=0.2)(Estimate(torch.tensor([0.0, 0.0, 1.0]).double(), torch.zeros(3).double()), mass)
    torch.testing.assert_close(q, torch.tensor([0.12, 0.06, 0.82], dtype=torch.float64))


def test_a_longer_horizon_is_more_decided() -> None:
    value = torch.tensor([0.5, 1.0], dtype=torch.float64)
    shares = [float(allocation(Exp3(horizon=horizon), value)[1]) for horizon in (10, 100, 1000)]
    assert shares == sorted(shares) and shares[0] < 0.8 < 0.9 < shares[-1]
