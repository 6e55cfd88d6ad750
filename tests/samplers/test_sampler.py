"""The sampler: floor, weights, unbiasedness, normalisation, and one-line errors for bad input."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import aria
from aria.interfaces import Allocator
from aria.partitioners import Labels, OneRegion

FALSE_ALARM = 1e-6


def partition_of(sizes):
    """A label partition whose regions hold ``sizes`` conditions each."""
    labels = [region for region, size in enumerate(sizes) for _ in range(size)]
    return Labels("label").fit(aria.Pool(columns={"label": labels}))


def sampler_of(sizes=(1, 2, 3, 4), **settings):
    return aria.Sampler(partition_of(sizes), **{"tracker": "ema(rate=0.5)"} | settings)


def teach(sampler, means, steps=20, batch=32):
    """Show each region its mean, without noise."""
    for _ in range(steps):
        draw = sampler.draw(batch)
        sampler.observe(draw, torch.as_tensor(means)[draw.region])
    return sampler


@dataclass(frozen=True)
class Fixed(Allocator):
    """An allocator with the weights that a test needs."""

    weights: tuple = (1.0,)

    def __call__(self, estimate, mass):
        return torch.tensor(self.weights, dtype=torch.float64)


@given(st.lists(st.floats(0, 1e6), min_size=4, max_size=4).filter(lambda weights: sum(weights) > 0), st.floats(0, 1))
def test_the_floor_holds_for_any_allocator(weights, floor):
    sampler = sampler_of(allocator=Fixed(tuple(weights)), floor=floor)
    probs = sampler.probs()
    assert probs.sum().item() == pytest.approx(1)
    assert (probs >= floor * sampler.mass * (1 - 1e-12)).all()


def test_effort_goes_where_the_discrepancy_is():
    probs = teach(sampler_of((5, 5), allocator="proportional", floor=0.2), [1.0, 9.0]).probs()
    assert probs.tolist() == pytest.approx([0.2 * 0.5 + 0.8 * 0.1, 0.2 * 0.5 + 0.8 * 0.9])


def test_uniform_and_pool_are_the_control_arms():
    assert teach(sampler_of(allocator="uniform", floor=0.0), [1.0, 2, 3, 4]).probs().tolist() == pytest.approx(
        [0.25] * 4
    )
    assert teach(sampler_of(allocator="pool"), [1.0, 2, 3, 4]).probs().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("stratified", [True, False])
def test_pool_allocation_draws_every_condition_equally_often(stratified):
    """Plain random conditioning: 40 000 draws over 10 conditions, chi-square (conservative under stratification)."""
    sampler = sampler_of(allocator="pool", stratified=stratified)
    index = torch.cat([sampler.draw(100).index for _ in range(400)])
    assert stats.chisquare(torch.bincount(index, minlength=10).numpy()).pvalue > FALSE_ALARM


@pytest.mark.parametrize(("correction", "power"), [("none", 0.0), ("importance", 1.0), ("tempered(0.1)", 0.1)])
def test_weights_are_powers_of_p_over_q(correction, power):
    sampler = teach(sampler_of(correction=correction, floor=0.1), [1.0, 2, 3, 9])
    draw = sampler.draw(64)
    expected = ((sampler.mass / sampler.probs()) ** power)[draw.region]
    assert draw.weight.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert draw.weight.max() <= (1 / 0.1) ** power * (1 + 1e-6)


OBJECTIVE = torch.tensor([1.0, 2.0, 3.0, 9.0], dtype=torch.float64)
MASS = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)


@functools.cache
def weighted_means(stratified, allocator, repeats=4000, batch=16):
    """Importance-weighted estimates of Σ p·d from noisy samples, one per batch."""
    sampler = teach(sampler_of(allocator=allocator, correction="importance", stratified=stratified), OBJECTIVE)
    noise = torch.Generator().manual_seed(5)
    means = []
    for _ in range(repeats):
        draw = sampler.draw(batch)
        loss = OBJECTIVE[draw.region] + 0.3 * torch.randn(batch, generator=noise, dtype=torch.float64)
        means.append((draw.weight * loss).mean())
    return torch.stack(means)


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("allocator", ["uniform", "proportional", "top_fraction(fraction=0.25)"])
def test_importance_weighted_estimates_are_unbiased(stratified, allocator):
    """Normal test over 4000 independent batches, false alarm 1e-6."""
    means = weighted_means(stratified, allocator)
    z = (means.mean() - (MASS * OBJECTIVE).sum()).abs() / (means.std() / len(means) ** 0.5)
    assert z < stats.norm.isf(FALSE_ALARM / 2)


def test_without_correction_the_same_estimate_is_biased():
    """The test above can fail: leave the weights out and it does."""
    sampler = teach(sampler_of(allocator="proportional"), OBJECTIVE)
    means = torch.stack([OBJECTIVE[sampler.draw(16).region].mean() for _ in range(1000)])
    z = (means.mean() - (MASS * OBJECTIVE).sum()).abs() / (means.std() / len(means) ** 0.5)
    assert z > stats.norm.isf(FALSE_ALARM / 2)


def test_stratified_proportional_draws_have_less_variance_than_independent_uniform_ones():
    """Sample variances of 4000 batches each: a ratio below 1/2 cannot be chance (F-test far below the false alarm)."""
    ratio = weighted_means(True, "proportional").var() / weighted_means(False, "uniform").var()
    assert ratio < 0.5 < stats.f.ppf(FALSE_ALARM, 3999, 3999)


def test_same_seed_same_draws_other_seed_others():
    first, same, other = (sampler_of(seed=seed).draw(64).index for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_tracker_moves_once_in_every_m_steps():
    slow, fast = sampler_of(every=3, allocator="proportional"), sampler_of(allocator="proportional")
    start = slow.probs()
    for step in range(1, 7):
        draw = slow.draw(8)
        slow.observe(draw, 1.0 + draw.region)
        assert slow.updates == step // 3
        assert torch.equal(slow.probs(), start) == (step < 3)
    merged = torch.arange(4).repeat(3)
    fast.observe(merged, 1.0 + merged)
    assert torch.allclose(fast.estimate().value, slow.estimate().value)


def test_warmup_draws_from_the_pool():
    sampler = sampler_of(warmup=3, allocator="uniform", floor=0.0)
    for _ in range(3):
        assert torch.equal(sampler.probs(), sampler.mass)
        draw = sampler.draw(8)
        sampler.observe(draw, torch.ones(8))
    assert sampler.probs().tolist() == pytest.approx([0.25] * 4)


def test_an_allocator_that_fails_raises_before_the_warm_up():
    never = Fixed((0.0, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="Fixed must return finite non-negative weights"):
        sampler_of(warmup=1000, allocator=never)
    assert sampler_of(allocator=never).updates == 0  # without a warm-up the first draw raises


def test_what_the_last_update_saw_is_known_when_it_is_whole():
    sampler = sampler_of(every=2)
    assert not sampler.visited.any()
    sampler.observe(torch.tensor([0, 2]), torch.ones(2), where=torch.tensor([True, False]))
    assert not sampler.visited.any()
    sampler.observe(torch.tensor([3]), torch.ones(1))
    assert sampler.visited.tolist() == [True, False, False, True]
    sampler.observe(torch.tensor([1]), torch.ones(1))
    assert not sampler.visited.any()
    sampler.observe(torch.tensor([1]), torch.zeros(1))
    assert sampler.visited.tolist() == [False, True, False, False]


def test_samples_left_out_by_where_leave_no_trace():
    kept, whole = sampler_of(), sampler_of()
    region = torch.tensor([0, 1, 1, 3])
    kept.observe(region, torch.tensor([1.0, 2.0, math.nan, 9.0]), where=torch.tensor([True, True, False, False]))
    whole.observe(region[:2], torch.tensor([1.0, 2.0]))
    assert all(torch.equal(a, b) for a, b in zip(kept.estimate(), whole.estimate(), strict=True))
    assert kept.estimate().stderr[3] == math.inf


def test_own_conditions_are_observed_by_region():
    sampler = sampler_of()
    sampler.observe(sampler.partition.locate(torch.tensor([0, 9])), torch.tensor([3.0, 5.0]))
    assert sampler.estimate().value[[0, 3]].tolist() == [3.0, 5.0]


def test_normalised_signals_do_not_depend_on_the_timestep():
    """Two regions whose losses differ by 2, at timesteps whose losses differ by 1000: only the 2 is left."""
    sampler = sampler_of((5, 5), tracker="ema(rate=0.02)", timesteps=1000, allocator="proportional")
    random = torch.Generator().manual_seed(0)
    for _ in range(400):
        draw = sampler.draw(64)
        t = torch.randint(0, 1000, (64,), generator=random)
        scale = torch.where(t < 500, 1.0, 1000.0)
        sampler.observe(draw, scale * (1.0 + draw.region), timestep=t)
    value = sampler.estimate().value
    assert (value[1] / value[0]).item() == pytest.approx(2, rel=0.05)


def test_a_custom_mass_is_the_target():
    target = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    sampler = sampler_of(allocator="pool", mass=target)
    assert torch.allclose(sampler.probs(), target)


def test_residual_weighting_sees_the_probability_at_draw_time():
    """Observed late: the visit probability is that of the draw, not of the allocation in force when it is reported."""
    sampler = sampler_of((1, 1), tracker="ema(rate=0.05, importance=True)", allocator="proportional", floor=0.5)
    both = torch.ones(2, dtype=torch.float64)
    sampler.observe(torch.tensor([0, 1]), torch.tensor([1.0, 1.0]), visit=both)
    early = sampler.draw(1)
    sampler.observe(torch.tensor([0, 1]), torch.tensor([1.0, 19.0]), visit=both)
    before = sampler.estimate().value[early.region]
    sampler.observe(early, torch.tensor([11.0]))
    assert early.visit.tolist() == pytest.approx([0.5, 0.5])
    assert sampler.estimate().value[early.region].item() == pytest.approx((before + 0.05 / 0.5 * (11 - before)).item())


def importance_sampler(stratified):
    return sampler_of((1, 2, 6, 15), tracker="ema(rate=0.05, importance=True)", stratified=stratified, seed=2)


@functools.cache
def drawn_regions(stratified):
    """(4000, 8) regions of as many draws."""
    sampler = importance_sampler(stratified)
    return torch.stack([sampler.draw(8).region for _ in range(4000)])


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("counted", [0, 1, 3, 6, 8])
def test_visit_probabilities_of_some_rows_are_how_often_they_visit(stratified, counted):
    """Frequencies over 4,000 draws within 4.5 standard errors: wrong by chance once in 5,000 runs of the test."""
    rows, regions, steps = torch.arange(8) < counted, drawn_regions(stratified), 4000
    sampler = importance_sampler(stratified)
    for region in regions[:5]:  # which rows count has no say in what is drawn
        draw = sampler.draw(8, counted=rows)
        assert torch.equal(draw.region, region)
    visits = (regions[:, rows, None] == torch.arange(4)).any(1).float().sum(0)
    expected = draw.visit.float()
    assert torch.allclose(visits / steps, expected, atol=4.5 * (0.25 / steps) ** 0.5)
    exact = expected.isclose(torch.tensor(0.0)) | expected.isclose(torch.tensor(1.0))
    assert torch.equal((visits / steps)[exact], expected[exact].round())


def test_a_draw_of_all_ranks_joins_the_slices_of_each():
    whole = sampler_of().draw(8)
    for rank in (0, 1):
        sampler, again = sampler_of(), sampler_of()
        for one in (sampler, again):
            one.ranks = SimpleNamespace(place=lambda rank=rank: (rank, 2))
        assert torch.equal(sampler.draw(4, all_ranks=True).index, whole.index)
        assert torch.equal(again.draw(4).index, whole.index[4 * rank : 4 * rank + 4])


def test_observe_reports_whether_the_tracker_moved():
    sampler = sampler_of(every=3)
    moved = [sampler.observe(draw := sampler.draw(4), torch.ones(4)) for _ in range(6)]
    assert moved == [False, False, True] * 2
    assert sampler.updates == 2 and draw.step == 5


def test_one_region_is_legal():
    sampler = aria.Sampler(OneRegion().fit(aria.Pool(size=5)))
    draw = sampler.draw(7)
    sampler.observe(draw, torch.rand(7))
    assert sampler.probs().tolist() == [1.0]
    assert 0 <= draw.index.min() <= draw.index.max() < 5


def test_what_is_handed_out_is_a_copy():
    sampler = teach(sampler_of(warmup=3), [1.0, 2, 3, 4])
    sampler.probs().zero_()
    sampler.estimate().value.zero_()
    assert sampler.probs().sum().item() == pytest.approx(1)
    assert sampler.estimate().value.tolist() == pytest.approx([1, 2, 3, 4])
    fresh = sampler_of(warmup=3)
    fresh.probs().zero_()
    assert fresh.partition.mass.sum() == 1


def test_a_bad_signal_is_named_with_the_step_of_its_draw():
    sampler = sampler_of()
    first, second = sampler.draw(4), sampler.draw(4)
    assert (first.step, second.step) == (0, 1)
    with pytest.raises(aria.NonFiniteSignal, match=f"at step 0 in region {first.region[2]}"):
        sampler.observe(first, torch.tensor([1.0, 1.0, math.nan, 1.0]))


def test_normalising_a_tiny_bucket_does_not_overflow():
    sampler = sampler_of(timesteps=1000)
    zero = torch.tensor([0])
    for signal in (1e-35, 1e5):
        sampler.observe(zero, torch.tensor([signal]), timestep=zero)
    assert sampler.estimate().value.isfinite().all()
    assert sampler.estimate().stderr[0].isfinite()


def test_small_integer_timesteps_do_not_wrap():
    normaliser = sampler_of(timesteps=200).normaliser
    assert normaliser.bucket(torch.tensor([0, 25, 100, 199], dtype=torch.uint8)).tolist() == [0, 1, 5, 9]


def test_the_timesteps_of_a_draw_need_not_be_passed_again():
    pool = aria.Pool(columns={"label": [0, 1]})
    partition = aria.registry.partitioner("product(labels('label'), bins('timestep', 0, 1000, 4))").fit(pool)
    sampler = aria.Sampler(partition, timesteps=1000)
    for _ in range(3):
        sampler.observe(sampler.draw(16), torch.ones(16))
    assert sampler.estimate().stderr.isfinite().any()


def test_resetting_keeps_a_custom_mass_to_the_bit():
    mass = torch.tensor([0.1, 0.2, 0.3, 0.4 + 1e-7])
    sampler = sampler_of(mass=mass)
    before = sampler.state_dict()
    sampler.reset()
    sampler.load_state_dict(before)
    sampler_of(mass=sampler.mass).load_state_dict(before)


def test_a_failed_refinement_changes_nothing():
    sampler = teach(sampler_of((2, 2), mass=torch.tensor([0.3, 0.7])), [1.0, 3.0])
    before = sampler.state_dict()
    with pytest.raises(ValueError, match="the masses of the new regions do not add up to those of their parents"):
        sampler.refine(partition_of((2, 1, 1)), torch.tensor([0, 0, 1]))
    assert all(torch.equal(tensor, before[name]) for name, tensor in sampler.state_dict().items())
    old = sampler.draw(4)
    sampler.refine(partition_of((2, 1, 1)), torch.tensor([0, 1, 1]))
    assert sampler.mass.tolist() == pytest.approx([0.3, 0.35, 0.35])
    with pytest.raises(ValueError, match="this draw is of 2 regions, the sampler has 3 now"):
        sampler.observe(old, torch.ones(4), where=torch.ones(4, dtype=torch.bool))


def test_nothing_on_the_way_keeps_a_graph():
    sampler = sampler_of()
    draw = sampler.draw(4)
    sampler.observe(draw, torch.rand(4, requires_grad=True))
    assert not sampler.probs().requires_grad


def test_reduced_precision_losses_are_welcome():
    sampler = sampler_of()
    sampler.observe(torch.tensor([2]), torch.tensor([1.5], dtype=torch.bfloat16))
    assert sampler.estimate().value[2] == 1.5


REGIONS = torch.tensor([0, 1, 3])
BAD_OBSERVATIONS = [
    (lambda s: s.observe(REGIONS, torch.tensor([1.0, math.nan, 2.0])), r"signal nan at step 0 in region 1"),
    (lambda s: s.observe(REGIONS, torch.tensor([1.0, 2.0, math.inf])), r"signal inf at step 0 in region 3"),
    (lambda s: s.observe(REGIONS, torch.tensor([1.0, 2.0, -1.0])), r"signal -1.0 at step 0 in region 3"),
    (lambda s: s.observe(REGIONS, torch.ones(2)), r"signal must have one value per sample, shape \(3,\), got \(2,\)"),
    (
        lambda s: s.observe(REGIONS, torch.ones(3, 1)),
        r"signal must have one value per sample, shape \(3,\), got \(3, 1\)",
    ),
    (lambda s: s.observe(torch.tensor([0, 4]), torch.ones(2)), "region 4 outside 0…3"),
    (lambda s: s.observe(torch.tensor([0, -1]), torch.ones(2)), "region -1 outside 0…3"),
    (
        lambda s: s.observe(torch.tensor([0.5]), torch.ones(1)),
        r"regions must be \(B,\) integers, got torch.float32",
    ),
    (lambda s: s.observe(REGIONS, None), "signal must be a tensor with one value per sample, got NoneType"),
    (lambda s: s.observe(REGIONS, [1.0, 2.0, 3.0]), "signal must be a tensor with one value per sample, got list"),
    (lambda s: s.observe([0, 1, 3], torch.ones(3)), "observe takes a Draw or a tensor of regions, got list"),
    (
        lambda s: s.observe(REGIONS, torch.ones(3), timestep=REGIONS),
        "timestep was given, but the sampler was made without",
    ),
    (
        lambda s: s.observe(REGIONS, torch.ones(3), visit=torch.full((4,), -3.0)),
        r"visit must be probabilities in \[0, 1\]",
    ),
    (lambda s: s.observe(REGIONS, torch.ones(3), visit=torch.ones(3)), r"visit must have one probability per region"),
    (lambda s: s.draw(0), "the number of draws must be a whole number of at least 1, got 0"),
]


@pytest.mark.parametrize(("act", "sentence"), BAD_OBSERVATIONS)
def test_bad_observations_are_named(act, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        act(sampler_of())
    assert "\n" not in str(caught.value)


def test_bad_signals_can_be_skipped_and_are_counted():
    sampler = sampler_of(nonfinite="skip")
    sampler.observe(REGIONS, torch.tensor([1.0, math.nan, math.inf]))
    assert sampler.skipped == 2
    assert sampler.estimate().stderr.isinf().tolist() == [False, True, True, True]
    with pytest.raises(aria.NonFiniteSignal, match="signal -1.0"):
        sampler.observe(REGIONS, torch.tensor([1.0, 2.0, -1.0]))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"floor": -0.1}, r"floor must lie in \[0, 1\], got -0.1"),
        ({"floor": 1.5}, r"floor must lie in \[0, 1\], got 1.5"),
        ({"floor": math.nan}, r"floor must lie in \[0, 1\], got nan"),
        ({"mass": torch.tensor([0.5, 0.5, 0.5, 0.5])}, "mass must sum to 1, got 2"),
        ({"mass": torch.tensor([0.5, 0.5])}, r"mass must have shape \(4,\), one share per region, got \(2,\)"),
        ({"mass": torch.tensor([1.5, -0.5, 0.0, 0.0])}, "mass must be non-negative, got -0.5"),
        ({"correction": "sometimes"}, 'correction must be "none", "importance" or'),
        ({"correction": "tempered(2)"}, r"with λ in \[0, 1\], got 'tempered\(2\)'"),
        ({"every": 0}, "every must be a whole number of at least 1, got 0"),
        ({"warmup": -1}, "warmup must be a whole number of at least 0, got -1"),
        ({"timesteps": 0}, "timesteps must be a whole number of at least 1, got 0"),
        ({"nonfinite": "ignore"}, "nonfinite must be 'raise' or 'skip', got 'ignore'"),
        ({"stratified": "iid"}, "stratified must be True or False, got 'iid'"),
        ({"floor": True}, r"floor must lie in \[0, 1\], got True"),
        ({"seed": 0.5}, "seed must be a whole number, got 0.5"),
        ({"tracker": "emma"}, r"unknown tracker 'emma' \(did you mean 'ema'\?\); there are: bank, "),
        ({"allocator": "proportionl"}, r"unknown allocator 'proportionl' \(did you mean 'proportional'\?\)"),
        (
            {"tracker": "ema(rat=0.1)"},
            r"\(did you mean 'rate'\?\); it takes \(rate=0.1, importance=False, sigma=None\)",
        ),
        ({"tracker": "ema(rate=2)"}, r"rate must lie in \(0, 1\], got 2"),
    ],
)
def test_bad_settings_are_named(settings, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        sampler_of(**settings)
    assert "\n" not in str(caught.value)


def test_an_allocator_that_returns_nothing_is_named():
    @dataclass(frozen=True)
    class Forgets(Allocator):
        def __call__(self, estimate, mass):
            mass * 2

    with pytest.raises(ValueError, match=r"Forgets must return one weight per region, shape \(4,\), got NoneType"):
        sampler_of(allocator=Forgets()).draw(4)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ((1.0, 2.0), r"Fixed must return one weight per region, shape \(4,\), got \(2,\)"),
        ((1.0, math.nan, 1.0, 1.0), "Fixed must return finite non-negative weights that are not all zero, got NaN"),
        (
            (1.0, -1.0, 1.0, 1.0),
            "Fixed must return finite non-negative weights that are not all zero, got weights from -1.0",
        ),
        ((0.0, 0.0, 0.0, 0.0), "not all zero, got weights from 0.0 to 0.0"),
        ((math.inf, 0.0, 0.0, 0.0), "not all zero, got weights from 0.0 to inf"),
    ],
)
def test_bad_allocations_are_named(weights, sentence):
    with pytest.raises(ValueError, match=sentence):
        sampler_of(allocator=Fixed(weights)).draw(4)


def test_regions_without_conditions_are_never_drawn_and_never_targeted():
    partition = aria.registry.partitioner("product(labels('a'), labels('b'))").fit(
        aria.Pool(columns={"a": ["x", "x", "y"], "b": ["p", "q", "p"]})
    )
    assert partition.mass.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    sampler = aria.Sampler(partition, allocator="uniform")
    assert sampler.probs()[3] == 0
    assert sampler.draw(100).region.max() < 3
    with pytest.raises(ValueError, match="region 3 is empty but has mass 0.25"):
        aria.Sampler(partition, mass=torch.full((4,), 0.25))


@pytest.mark.parametrize("partition", [Labels("label"), "kmeans", aria.Pool(size=3)])
def test_a_partition_that_is_not_fitted_is_named(partition):
    with pytest.raises(ValueError, match=r"a sampler needs a fitted partition, partitioner.fit\(pool\), got "):
        aria.Sampler(partition)


@pytest.mark.parametrize(
    ("mass", "sentence"),
    [([0.5, 0.6], "the partition's mass must sum to 1, got 1.1"), ([1.5, -0.5], "must be non-negative, got -0.5")],
)
def test_a_partition_with_a_wrong_mass_is_named(mass, sentence):
    partition = partition_of((1, 1))
    object.__setattr__(partition, "mass", torch.tensor(mass))
    with pytest.raises(ValueError, match=sentence):
        aria.Sampler(partition)


def test_timesteps_are_required_and_checked():
    sampler = sampler_of(timesteps=1000)
    with pytest.raises(ValueError, match="timestep is needed: the sampler was made with timesteps"):
        sampler.observe(REGIONS, torch.ones(3))
    with pytest.raises(ValueError, match=r"timestep 1000 outside \[0, 1000\)"):
        sampler.observe(REGIONS, torch.ones(3), timestep=torch.tensor([0, 5, 1000]))


def test_a_finer_partition_takes_over_the_memory_of_its_parents():
    sampler = teach(sampler_of((2, 2), allocator="proportional"), [1.0, 3.0])
    finer, parent = partition_of((2, 1, 1)), torch.tensor([0, 1, 1])
    sampler.refine(finer, parent)
    assert sampler.estimate().value.tolist() == pytest.approx([1, 3, 3])
    sampler.observe(sampler.draw(8), torch.ones(8))
    with pytest.raises(ValueError, match="parent must name one old region per new one, 3, got 2"):
        sampler.refine(finer, torch.tensor([0, 1]))


def test_defaults_are_as_documented():
    assert aria.Sampler(partition_of((1, 1))).config() | {"partition": None} == {
        "partition": None,
        "tracker": aria.registry.spec(aria.trackers.Bank()),
        "allocator": aria.registry.spec(aria.allocators.Proportional()),
        "floor": 0.2,
        "correction": "none",
        "stratified": True,
        "warmup": 0,
        "every": 1,
        "timesteps": None,
        "nonfinite": "raise",
        "seed": 0,
    }


def test_certificates_are_copies_and_only_of_gains_known_beforehand():
    sampler = teach(sampler_of(tracker="ema(rate=0.5)"), [1.0, 2, 3, 4])
    for part in sampler.certificate():
        part.fill_(math.nan)
    assert bool(sampler.certificate().lag.isfinite().all())
    assert sampler_of(tracker="bank").certificate() is None


def test_without_a_sync_a_bad_signal_is_excluded_and_reported_later(monkeypatch):
    """On an accelerator refusals are deferred, so as not to synchronise."""
    monkeypatch.setattr(aria.samplers.signals, "refuse", lambda *args, **kwargs: None)
    for nonfinite in ("raise", "skip"):
        sampler = sampler_of(nonfinite=nonfinite)
        sampler.observe(REGIONS, torch.ones(3))
        sampler.check()
        sampler.observe(REGIONS, torch.tensor([1.0, math.nan, 5.0]))
        assert sampler.skipped == 1 and sampler.estimate().value[[0, 1]].tolist() == [1.0, 1.0]
        if nonfinite == "skip":
            sampler.check()
            continue
        for late in (sampler.check, sampler.state_dict):
            with pytest.raises(aria.NonFiniteSignal, match="negative or not finite at step 0 in region 1"):
                late()


def test_timesteps_passed_override_those_drawn():
    pool = aria.Pool(columns={"label": [0, 1]})
    partition = aria.registry.partitioner("product(labels('label'), bins('timestep', 0, 1000, 4))").fit(pool)
    sampler = aria.Sampler(partition, timesteps=1000)
    sampler.observe(sampler.draw(16), torch.ones(16), timestep=torch.full((16,), 950))
    assert sampler.state_dict()["normaliser.value"].tolist() == [0.0] * 9 + [1.0]
