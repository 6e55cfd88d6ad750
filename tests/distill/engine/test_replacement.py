"""How often conditions are replaced."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, dataclass

import pytest
import torch

from aria import registry
from aria.distill.engine.replacement import Constant, Exponential, Replacement, Sigmoid, TwoSided
from aria.distill.models.schedule import NoiseSchedule


@pytest.mark.parametrize(
    ("shape", "mean"),
    [
        (Exponential(5.0), (1 - math.exp(-5)) / 5),  # 0.199
        (Exponential(0.0), 1.0),
        (TwoSided(5.0), 2 * (1 - math.exp(-2.5)) / 5),
        (Constant(0.3), 0.3),
        (Constant(0.0), 0.0),
        (Sigmoid(20.0, 0.5), 0.5),
        (Sigmoid(20.0, 0.7), math.log((1 + math.exp(6)) / (1 + math.exp(-14))) / 20),
    ],
)
def test_means_are_the_integrals(shape, mean):
    table = shape.table(1000)
    assert table.shape == (1000,) and table.dtype == torch.float32
    assert bool(((table >= 0) & (table <= 1)).all())
    assert abs(float(table.double().mean()) - mean) < 1e-3  # a left sum of 1000 terms of a rising function up to 1


def test_exponential_is_the_formula_and_rises():
    table = Exponential(5.0).table(1000)
    assert float(table[0]) == pytest.approx(math.exp(-5)) and float(table[800]) == pytest.approx(math.exp(-1))
    assert bool((table.diff() > 0).all())
    assert torch.allclose(TwoSided(5.0).table(1000)[500:], table[500:])


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("exponential(-1)", "steepness must be non-negative and finite, got -1"),
        ("two_sided(-1)", "steepness must be non-negative and finite, got -1"),
        ("constant(1.5)", r"probability must lie in \[0, 1\], got 1.5"),
        ("sigmoid(slope='a')", "slope must be a number, got 'a'"),
        ("exponental", "exponential"),
    ],
)
def test_refusals(spec, sentence):
    with pytest.raises(ValueError, match=sentence):
        registry.resolve(spec, Replacement)


@pytest.mark.parametrize("shape", [Exponential(5.0), Sigmoid(20.0, 0.7), TwoSided(5.0), Constant(0.3)])
def test_over_a_table_of_timesteps_it_is_a_function_of_them(shape):
    schedule = NoiseSchedule(torch.linspace(1, 0.1, 50), torch.linspace(0.1, 1, 50))
    assert torch.equal(shape.over(schedule), shape.table(50))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_over_flows_it_is_a_function_of_the_noise_level(shift):
    """Whatever the shift, a level of the same noise is replaced as often; at pure noise always."""
    schedule = NoiseSchedule.flow(1000, shift)
    table = Exponential(5.0).over(schedule)
    torch.testing.assert_close(table, torch.exp(-5 * (1 - schedule.sigma)), rtol=1e-4, atol=0)
    assert float(table[-1]) == 1.0 and table.dtype == torch.float32
    half = int((schedule.sigma - 0.7).abs().argmin())
    assert float(Sigmoid(20.0, 0.7).over(schedule)[half]) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("exponential", Exponential(steepness=5.0)),
        ("sigmoid", Sigmoid(slope=20.0, centre=0.7)),
        ("two_sided", TwoSided(steepness=5.0)),
        ("constant", Constant(probability=0.5)),
    ],
)
def test_a_name_alone_has_the_settings_of_the_documents_which_stay(name, shape):
    assert registry.resolve(name, Replacement) == shape
    with pytest.raises(FrozenInstanceError):
        shape.steepness = 1.0


@dataclass(frozen=True)
class Beyond(Replacement):
    """A user's shape that leaves the range of probabilities at both ends."""

    def at(self, u):
        return 3 * u - 1


def test_whatever_a_shape_says_is_a_probability():
    wanted = [0.0, 0.0, 0.5, 1.0]
    assert Beyond().table(4).tolist() == wanted
    sigma = torch.tensor([0.0, 0.25, 0.5, 0.75])
    assert Beyond().over(NoiseSchedule(1 - sigma, sigma, 4 * sigma)).tolist() == wanted
