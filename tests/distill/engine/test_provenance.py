"""The provenance of samples that the tracker gets: the probability that a step observes each region."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from aria.checks import InvalidSetting
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.objectives import Objective
from tests.distill import tiny
from theory import bounds

CONDITIONS, REGIONS, BATCH = 256, 128, 96
RATE, SIGMA, FLOOR, NULL = 0.25, 0.5, 0.5, 0.25
STEPS, SETTLED = 800, 100
SURE = 4.5
"""Standard errors: exceeded by chance once in 150,000 times."""
RANDOM = torch.Generator()


@dataclass(frozen=True)
class Planted(Objective):
    """A discrepancy of 1 on every condition, with noise of standard deviation :data:`SIGMA`, whatever is trained."""

    def __call__(self, inputs, teacher, student):
        noise = torch.rand(len(inputs.timestep), generator=RANDOM) * 2 - 1
        return 1 + SIGMA * 3**0.5 * noise + 0 * student.output.flatten(1).sum(1)


def distiller(tracker, **settings):
    RANDOM.manual_seed(5)
    of = {"tracker": tracker, "allocator": "proportional", "floor": FLOOR} | settings.pop("of", {})
    plan = {"objective": (Planted(),), "batch_size": BATCH, "null_probability": NULL, "ema_decay": 0.0}
    return tiny.make(
        CONDITIONS, sampler=tiny.sampler(CONDITIONS, REGIONS, **of), images=tiny.images(conditions=CONDITIONS),
        **(plan | settings),
    )  # fmt: skip


def bias(tracker, **settings):
    """Mean error of the estimates over regions and steps, and its standard error."""
    made = distiller(tracker, **settings)
    errors = []
    for step in range(STEPS):
        made.step()
        if step >= SETTLED:
            errors.append(made.sampler.estimate().value.mean() - 1)
    observed = float(made.tally.seen[0].sum()) * (1 - SETTLED / STEPS)
    return float(torch.stack(errors).mean()), SIGMA / observed**0.5


@pytest.mark.slow
def test_the_allocation_biases_an_average_of_visits_as_the_theory_predicts_and_not_a_weighted_one():
    """Every condition is drawn, so a region is observed in proportion to q = floor/K + (1 - floor)·m/Σm; its logarithm
    has the slope (1 - floor)(K - 1)/K in the region's own estimate where all estimates are 1."""
    plain, error = bias(f"ema(rate={RATE}, sigma={SIGMA})", replacement="constant(1)")
    predicted = float(bounds.selection_bias(RATE, SIGMA, (1 - FLOOR) * (REGIONS - 1) / REGIONS))
    assert predicted < -SURE * error  # large enough to be detected
    assert abs(plain - predicted) < SURE * error
    weighted, error = bias(f"ema(rate={RATE}, importance=True)", replacement="constant(1)")
    assert abs(weighted) < SURE * error


@pytest.mark.slow
def test_own_replaced_held_and_dropped_conditions_together_leave_no_bias():
    """Decisions are drawn ahead, held by on-policy rows for some steps, and observed two steps at a time."""
    weighted, error = bias(
        "ema(rate=0.1, importance=True)", replacement="constant(0.5)", on_policy=OnPolicy(0.4), ahead=1,
        residency="disk", of={"every": 2},
    )  # fmt: skip
    assert abs(weighted) < SURE * error


@pytest.mark.parametrize("share", [0.4, 1.0])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_region_is_observed_as_often_as_its_visit_probability_says(every, share):
    """Over 600 updates of ``every`` steps, region by region and altogether: within 4.5 standard errors of the mean of
    what was promised."""
    of, policy = {"every": every}, OnPolicy(share)
    made = distiller("ema(rate=0.1, importance=True)", replacement="constant(0.5)", on_policy=policy, of=of)
    stream = tiny.Stream(made.source)
    promised, kept, spread = (torch.zeros(REGIONS, dtype=torch.float64) for _ in range(3))
    for _ in range(600):
        missed, seen = torch.ones(REGIONS, dtype=torch.float64), torch.zeros(REGIONS, dtype=torch.bool)
        for batch in [stream.next() for _ in range(every)]:
            missed, seen = missed * (1 - batch.visit), seen | seen_in(batch)
        visit = 1 - missed
        assert bool(seen[visit == 1].all()) and not bool(seen[visit == 0].any())
        promised, kept, spread = promised + visit, kept + seen, spread + visit * (1 - visit)
    assert bool(((kept - promised).abs() <= SURE * spread.sqrt()).all())
    assert float((kept - promised).sum().abs()) <= SURE * float(spread.sum()) ** 0.5


def seen_in(batch):
    """(K,) which regions a batch observes."""
    return torch.bincount(batch.region[~batch.null], minlength=REGIONS) > 0


def test_every_sample_carries_its_provenance():
    made = distiller("ema(rate=0.1, importance=True)", replacement="constant(0.5)", on_policy=OnPolicy(0.4))
    batch = tiny.Stream(made.source).next()
    assert not bool((batch.own & (batch.null | batch.on_policy)).any())
    assert int(batch.on_policy.sum()) == int(0.4 * BATCH)
    own = batch.region[batch.own]
    assert len(own) and bool((batch.visit[own] == 1).all())
    drawn = batch.region[~batch.own & ~batch.null]
    assert bool((batch.visit[drawn] > 0).all()) and bool((batch.visit[drawn] < 1).any())


def test_trackers_that_do_not_weigh_cost_nothing():
    assert tiny.Stream(distiller("bank").source).next().visit is None


def test_a_weighted_tracker_needs_regions_of_conditions_alone():
    spec = f"product(labels('label'), bins('timestep', 0, {tiny.TIMESTEPS}, 2))"
    with pytest.raises(InvalidSetting, match="divides by the probability that a step observes a region") as refused:
        tiny.make(sampler=tiny.sampler_of(spec, tracker="ema(importance=True)"))
    assert (refused.value.setting, refused.value.kind) == ("tracker", "conflict")
