"""Bins: integers and floats, never outside; edges of equal log-SNR width."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aria.partitioners import Bins, log_snr_edges
from aria.partitioners.conformance import chi_square_bound
from aria.pool import Pool

POOL = Pool(size=3)
ascending = st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=8, unique=True).map(sorted)


@given(ascending, st.sampled_from([0.0, 0.3, 1 - 2**-53]))
def test_drawn_values_never_leave_their_bin(edges: list[float], u: float) -> None:
    """Edges of any closeness, and the smallest and largest numbers that ``torch.rand`` can return."""
    partition = Bins("guidance", edges=edges).fit(POOL)
    region = torch.arange(partition.num_regions)
    value = partition.place(region, torch.full((1, len(region)), u, dtype=torch.float64))["guidance"]
    assert value.dtype == torch.float32
    assert torch.equal(partition.locate(region * 0, guidance=value), region)


@given(st.integers(-50, 50), st.integers(1, 200), st.integers(1, 200))
def test_integer_bins_hold_every_integer_once(low: int, width: int, count: int) -> None:
    if count > width:
        with pytest.raises(ValueError, match="at least one integer, so that no bin is empty"):
            Bins("timestep", low, low + width, count)
        return
    partition = Bins("timestep", low, low + width, count).fit(POOL)
    everyone = torch.arange(low, low + width)
    region = partition.locate(torch.zeros(width, dtype=torch.int64), timestep=everyone)
    size = torch.bincount(region, minlength=count)
    assert int(size.max() - size.min()) <= 1
    torch.testing.assert_close(partition.mass, size / width, check_dtype=False)
    assert bool((region.diff() >= 0).all())


def test_timesteps_are_drawn_uniformly_and_conditions_by_weight() -> None:
    partition = Bins("timestep", edges=(0, 5, 20)).fit(Pool(weight=torch.tensor([1.0, 3.0])))
    region = torch.arange(40_000) % 2
    drawn = partition.draw(region, torch.Generator().manual_seed(0))
    assert drawn["timestep"].dtype == torch.int64
    count = torch.bincount(drawn["timestep"], minlength=20).double()
    expected = torch.cat([torch.full((5,), 4000.0), torch.full((15,), 20_000 / 15)])
    assert float(((count - expected) ** 2 / expected).sum()) < chi_square_bound(18)  # false alarm 1e-6
    for bin_ in (0, 1):
        heavy = float((drawn["index"][region == bin_] == 1).double().mean())
        assert abs(heavy - 0.75) < 5 * (0.1875 / 20_000) ** 0.5  # five standard deviations


def test_real_coordinates_are_drawn_uniformly() -> None:
    partition = Bins("guidance", 1.0, 5.0, 2).fit(POOL)
    value = partition.draw(torch.ones(20_000, dtype=torch.int64), torch.Generator().manual_seed(0))["guidance"]
    count = torch.histc(value, 20, 3.0, 5.0)
    assert int(count.sum()) == 20_000
    assert float(((count - 1000) ** 2 / 1000).sum()) < chi_square_bound(19)


def test_the_timestep_is_an_integer_by_default() -> None:
    assert Bins("timestep").whole and not Bins("log_snr").whole
    assert not Bins("timestep", integer=False).whole and Bins("class", 0, 10, integer=True).whole
    assert Bins("timestep", 0, 1, 4, integer=False).fit(POOL).mass.tolist() == [0.25] * 4
    assert Bins("timestep", 0, 10, 4).cuts() == (0, 3, 5, 8, 10)
    assert Bins("timestep", edges=(0, 2.5, 9.5)).fit(POOL).names() == ["timestep 0…2", "timestep 3…9"]


@pytest.mark.parametrize("value", [-1, 1000, 5000])
def test_a_timestep_outside_is_named(value: int) -> None:
    partition = Bins().fit(POOL)
    with pytest.raises(ValueError, match=rf"timestep must be in \[0, 1000\), got {value}"):
        partition.locate(torch.zeros(2, dtype=torch.int64), timestep=torch.tensor([3, value]))


def test_the_upper_end_belongs_to_the_last_real_bin_and_nan_to_none() -> None:
    partition = Bins("guidance", 1.0, 9.0, 4).fit(POOL)
    assert partition.assign(POOL, guidance=torch.tensor([1.0, 3.0, 9.0])).tolist() == [0, 1, 3]
    with pytest.raises(ValueError, match=r"guidance must be in \[1, 9\], got nan"):
        partition.assign(POOL, guidance=torch.tensor([1.0, math.nan, 9.0]))


def test_the_coordinate_must_be_given_once_per_condition() -> None:
    partition = Bins().fit(POOL)
    with pytest.raises(ValueError, match=r"bins over 'timestep' need its values: pass timestep=…"):
        partition.assign(POOL, guidance=torch.ones(3))
    with pytest.raises(ValueError, match=r"timestep must have shape \(3,\), got \(2,\)"):
        partition.assign(POOL, timestep=torch.ones(2))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"coordinate": "index"}, "coordinate must be a name such as 'timestep', got 'index'"),
        ({"coordinate": "two words"}, "coordinate must be a name"),
        ({"count": 0}, "count must be a whole number of at least 1, got 0"),
        ({"count": 2.5}, "count must be a whole number of at least 1, got 2.5"),
        ({"integer": "yes"}, "integer must be True, False or None, got 'yes'"),
        ({"low": 10, "high": 10}, "got low=10, high=10, count=10"),
        ({"coordinate": "guidance", "high": float("inf")}, "at least one finite number; got low=0, high=inf"),
        ({"edges": (0, 10, 10)}, r"got edges=\(0, 10, 10\)"),
        ({"edges": (3,)}, r"got edges=\(3,\)"),
        ({"edges": (0.2, 0.8)}, "at least one integer"),
        ({"edges": (0, float("nan"), 5)}, "nan"),
    ],
)
def test_settings_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"bins: .*{message}"):
        Bins(**arguments)


def test_edges_closer_than_float32_are_refused() -> None:
    with pytest.raises(ValueError, match="closer together than two float32 numbers"):
        Bins("guidance", edges=(1.0, 1.0 + 1e-12, 1.0 + 2e-12, 2.0)).fit(POOL)


@given(st.integers(1, 12), st.floats(0.7, 3))
def test_log_snr_edges_are_equally_spaced(count: int, power: float) -> None:
    """Each edge is the first timestep at or below its level."""
    x = torch.linspace(1, -1, 1000, dtype=torch.float64)
    lam = 6 * x.sign() * x.abs() ** power
    edges = log_snr_edges(torch.sigmoid(lam), count)
    levels = [float(lam[0] + (lam[-1] - lam[0]) * k / count) for k in range(count + 1)]
    assert len(edges) == count + 1 and edges[0] == 0 and edges[-1] == 1000
    for edge, level in zip(edges[1:-1], levels[1:-1]):
        assert float(lam[edge]) <= level + 1e-6 and float(lam[edge - 1]) >= level - 1e-6
    assert Bins("timestep", edges=edges).fit(POOL).num_regions == count


def test_log_snr_edges_of_a_schedule_without_terminal_signal() -> None:
    alphas = torch.cat([torch.tensor([1.0]), torch.linspace(0.99, 0.01, 98), torch.tensor([0.0])])
    edges = log_snr_edges(alphas, 3)
    assert edges[0] == 0 and edges[-1] == 100 and 1 < edges[1] < edges[2] < 99
    assert edges == log_snr_edges(alphas.tolist(), 3)


@pytest.mark.parametrize(
    "alphas, count, message",
    [
        ([0.9, 0.5, 0.1], 5, "count=5 bins are too many for these 3 timesteps"),
        ([0.9, 0.95], 1, "alphas_cumprod must be"),
        ([0.9, 1.5], 1, "alphas_cumprod must be"),
        ([1.0, 0.0], 1, "no timestep with both signal and noise"),
        ([0.9, 0.1], 0, "count must be a whole number of at least 1, got 0"),
    ],
)
def test_log_snr_edges_refuse_by_name(alphas: list[float], count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_snr_edges(alphas, count)
