"""Boundaries of the sampler's checks: values that are just allowed, and values that are just refused."""

from __future__ import annotations

import pytest
import torch

import aria
from aria.partitioners import Labels
from aria.samplers import boundary
from aria.samplers.correction import exponent

PARTITION = Labels("label").fit(aria.Pool(columns={"label": [0, 1]}))
WITH_EMPTY = aria.registry.partitioner("product(labels('a'), labels('b'))").fit(
    aria.Pool(columns={"a": ["x", "x", "y"], "b": ["p", "q", "p"]})
)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("correction", "power"),
    [("none", 0.0), ("importance", 1.0), ("tempered(0)", 0.0), (" tempered( 1e0 ) ", 1.0), ("tempered(0.25)", 0.25)],
)
def test_corrections_are_powers(correction, power):
    assert exponent(correction) == power


@pytest.mark.parametrize("correction", ["tempered(1.05)", "tempered(-0.05)", "tempered(e)", "tempered", None, ["none"]])
def test_no_other_power_is_a_correction(correction):
    with pytest.raises(ValueError, match=r"correction must be .*, got "):
        exponent(correction)


def test_a_mass_adds_up_to_a_millionth_and_is_then_made_exact():
    kept = numbers(0.5, 0.5 + 0.95e-12)
    assert torch.equal(boundary.mass(PARTITION, kept), kept)  # rounding: not touched, so that it resumes bit for bit
    for off in (1.05e-12, 0.9e-6, -0.9e-6):
        given = numbers(0.5, 0.5 + off)
        assert float(boundary.mass(PARTITION, given).sum()) == pytest.approx(1, abs=1e-15)
    for off in (1.05e-6, -1.05e-6):
        with pytest.raises(ValueError, match="mass must sum to 1, got "):
            boundary.mass(PARTITION, numbers(0.5, 0.5 + off))


def test_any_mass_is_too_much_for_an_empty_region():
    with pytest.raises(ValueError, match="region 3 is empty but has mass 0.01: it has no condition to draw"):
        boundary.mass(WITH_EMPTY, numbers(0.5, 0.3, 0.19, 0.01))
    target = numbers(0.95, 0.05, 0.0, 0.0)  # a region with conditions may be left out
    assert torch.equal(boundary.mass(WITH_EMPTY, target), target)


def test_a_partitions_own_mass_is_used_as_it_is_or_in_float64():
    assert boundary.mass(PARTITION, None) is PARTITION.mass
    single = Labels("label").fit(aria.Pool(columns={"label": [0, 1, 1]}))
    object.__setattr__(single, "mass", single.mass.float())
    assert boundary.mass(single, None).dtype == torch.float64


def test_children_have_their_parents_mass_to_a_millionth():
    parent, coarse = torch.tensor([0, 1, 1]), numbers(0.5, 0.5)
    for off in (0.95e-6, -0.95e-6):
        assert torch.equal(boundary.parents(parent, coarse, numbers(0.5, 0.25, 0.25 + 0.5 * off)), parent)
    with pytest.raises(ValueError, match="the masses of the new regions do not add up"):
        boundary.parents(parent, coarse, numbers(0.5, 0.25, 0.25 + 0.5 * 1.05e-6))
    empty = numbers(1.0, 0.0)
    assert torch.equal(boundary.parents(parent, empty, numbers(1.0, 0.0, 0.95e-12)), parent)
    with pytest.raises(ValueError, match="the masses of the new regions do not add up"):
        boundary.parents(parent, empty, numbers(1.0, 0.0, 1.05e-12))


def test_visits_are_probabilities_from_nought_to_one():
    mass = numbers(0.5, 0.5)
    assert boundary.visit(torch.tensor([0.0, 1.0]), mass).tolist() == [0.0, 1.0]
    for wrong in ([0.5, 1.05], [-0.05, 0.5]):
        with pytest.raises(ValueError, match=r"visit must be probabilities in \[0, 1\], got values from "):
            boundary.visit(torch.tensor(wrong), mass)


def test_regions_are_a_vector_of_integers_possibly_empty():
    for dtype in (torch.int32, torch.int64):
        assert boundary.region(torch.tensor([0, 3], dtype=dtype), 4).dtype == torch.int64
    assert len(boundary.region(torch.tensor([], dtype=torch.int64), 4)) == 0
    for wrong in (torch.tensor(1), torch.tensor([[1]]), torch.tensor([True]), torch.tensor([1], dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"regions must be \(B,\) integers, got torch\..* of shape "):
            boundary.region(wrong, 4)


def test_a_mask_is_a_vector_of_the_samples():
    assert boundary.mask("where", torch.tensor([1, 0]), 2, torch.device("cpu")).tolist() == [True, False]
    for wrong, got in ((torch.ones(3), r"\(3,\)"), (torch.ones(1, 2), r"\(1, 2\)"), ([True, False], "list")):
        with pytest.raises(ValueError, match=rf"where must have one value per sample, shape \(2,\), got {got}$"):
            boundary.mask("where", wrong, 2, torch.device("cpu"))


def test_weights_of_an_allocator_may_be_small_and_mostly_zero():
    rule = aria.allocators.Uniform()
    small = numbers(0.0, 1e-300)
    boundary.allocation(small, small.sum(), rule)
    huge = numbers(1e308, 1e308)
    with pytest.raises(ValueError, match=r"Uniform must return finite .* zero, got weights from 1e\+308 to 1e\+308"):
        boundary.allocation(huge, huge.sum(), rule)
