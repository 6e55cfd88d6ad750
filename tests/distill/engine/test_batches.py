"""Random conditioning in the engine: distributed as in the paper, and a function of (seed, step)."""

from __future__ import annotations

import math

import pytest
import torch

import aria
from aria.distill.engine.batches import Source
from aria.distill.engine.replacement import Exponential
from tests.distill import tiny

FALSE_ALARM = 1e-6
CONDITIONS, SIZE, STEPS = 12, 500, 120


def surprise(hits: float, trials: float, share: float) -> float:
    """−log of Chernoff's bound on the probability of so many hits or more extreme: trials·KL(hits/trials ‖ share)."""
    seen = hits / trials
    terms = ((seen, share), (1 - seen, 1 - share))
    return trials * sum(p * math.log(p / q) if p else 0.0 for p, q in terms)


def assert_shares(hits, trials, shares):
    """Every count is what its binomial law allows, with FALSE_ALARM for all of them together."""
    limit = math.log(2 * len(hits) / FALSE_ALARM)
    for place, (hit, trial, share) in enumerate(zip(hits.tolist(), trials.tolist(), shares.tolist(), strict=True)):
        assert surprise(hit, trial, share) < limit, (place, hit / trial, share)


def partitions():
    labels = {"label": [0] * 1 + [1] * 3 + [2] * 8}
    each = {"label": list(range(CONDITIONS))}
    return {
        "one region": aria.partitioners.OneRegion().fit(aria.Pool(size=CONDITIONS)),
        "a region each": aria.partitioners.Labels("label").fit(aria.Pool(columns=each)),
        "uneven regions": aria.partitioners.Labels("label").fit(aria.Pool(columns=labels)),
    }


def batches(
    partition, *, size=SIZE, allocator="pool", null_probability=0.1, images=None, schedule=None, residency="device",
    **settings,
):  # fmt: skip
    schedule = schedule or tiny.schedule()
    sampler = aria.Sampler(partition, "bank", allocator, floor=0.0, seed=1)
    pool = tiny.numbered(CONDITIONS)
    pool.residency = residency
    source = Source(
        images or tiny.images(conditions=CONDITIONS),
        pool,
        sampler,
        schedule,
        size=size,
        replacement=Exponential(5.0).table(len(schedule)),
        null_probability=null_probability,
        seed=7,
        **settings,
    )
    return tiny.Stream(source)


def gathered(made, steps=STEPS):
    """All samples of a run, as one batch's tensors."""
    seen = [made.next() for _ in range(steps)]
    names = ("timestep", "index", "region", "own", "null", "weight")
    return {name: torch.cat([getattr(batch, name) for batch in seen]) for name in names} | {
        "pooled": torch.cat([batch.condition["pooled"] for batch in seen]),
        "replaced": torch.cat([batch.index for batch in seen]) >= 10,  # where the own conditions are 0…9
    }


@pytest.mark.parametrize("kind", list(partitions()))
def test_the_pools_own_allocation_is_random_conditioning(kind):
    """Ten images show conditions 0…9 of 12, so conditions 10 and 11 are seen by replacement alone."""
    partition = partitions()[kind]
    seen = gathered(batches(partition))
    count, pi = len(seen["timestep"]), Exponential(5.0).table(tiny.TIMESTEPS).double()
    at = torch.bincount(seen["timestep"], minlength=tiny.TIMESTEPS)
    assert_shares(at, torch.full_like(at, count), torch.full((tiny.TIMESTEPS,), 1 / tiny.TIMESTEPS))
    # own = neither replaced nor null, so its share at t is (1 − π(t))·0.9
    own = torch.bincount(seen["timestep"][seen["own"]], minlength=tiny.TIMESTEPS)
    assert_shares(own, at, (1 - pi) * 0.9)
    nulls = torch.tensor([seen["null"].sum(), (seen["null"] & (seen["timestep"] > 15)).sum()])
    assert_shares(nulls, torch.tensor([count, (seen["timestep"] > 15).sum()]), torch.tensor([0.1, 0.1]))
    late = seen["timestep"] > 15
    for rows in (late, ~late):
        pooled = float(pi[seen["timestep"][rows]].mean())
        hits = torch.bincount(seen["index"][rows], minlength=CONDITIONS)
        share = torch.tensor([(1 - pooled) / 10] * 10 + [0.0] * 2, dtype=torch.float64) + pooled / CONDITIONS
        assert_shares(hits, torch.full_like(hits, int(rows.sum())), share)


def test_the_test_of_the_distribution_detects_another_allocation():
    """Uniform over uneven regions is not random conditioning; the same check notices."""
    seen = gathered(batches(partitions()["uneven regions"], allocator="uniform"))
    hits = torch.bincount(seen["index"][seen["replaced"]], minlength=CONDITIONS)[10:]
    expected = Exponential(5.0).table(tiny.TIMESTEPS).double().mean() / CONDITIONS
    with pytest.raises(AssertionError):
        assert_shares(hits, torch.full((2,), len(seen["index"])), expected.repeat(2))


def test_replaced_conditions_are_drawn_uniformly_from_the_whole_pool():
    """With every condition replaced, each is drawn equally often."""
    made = batches(partitions()["uneven regions"])
    made.source.replacement = torch.ones(tiny.TIMESTEPS)
    seen = gathered(made)
    hits = torch.bincount(seen["index"], minlength=CONDITIONS)
    assert_shares(hits, torch.full_like(hits, len(seen["index"])), torch.full((CONDITIONS,), 1 / CONDITIONS))
    assert torch.equal(seen["own"], torch.zeros_like(seen["own"]))


def test_all_tensors_of_a_condition_are_replaced_together():
    made = batches(partitions()["uneven regions"])
    pool = made.conditions
    null = pool.null(1)
    batch = made.next()
    for name, value in batch.condition.items():
        shape = (-1,) + (1,) * (value.ndim - 1)
        wanted = torch.where(batch.null.view(shape), null[name], pool.tensors[name][batch.index])
        assert torch.equal(value, wanted)
    assert 0 < int(batch.null.sum()) < SIZE and 0 < int(batch.own.sum()) < SIZE
    assert torch.equal(batch.region, made.sampler.partition.locate(batch.index))
    assert torch.equal(batch.noisy, made.schedule.add_noise(batch.clean, batch.noise, batch.timestep))
    assert not bool((batch.own & batch.null).any())


def test_weights_are_of_drawn_conditions_only():
    made = batches(partitions()["uneven regions"], allocator="uniform")
    partition = partitions()["uneven regions"]
    made.source.sampler = aria.Sampler(partition, "bank", "uniform", floor=0.0, correction="importance")
    batch = made.next()
    drawn = ~batch.own & ~batch.null & (batch.index >= 10)
    assert bool(drawn.any()) and bool((batch.weight[drawn] == 2.0).all())  # 8/12 of the pool, 1/3 of the draws
    assert bool((batch.weight[batch.own | batch.null] == 1.0).all())


def test_every_image_is_seen_once_an_epoch_and_in_another_order_in_the_next():
    made = batches(partitions()["one region"], size=4)
    rows = [made._image_rows(step) for step in range(5)]  # two epochs of 10 images
    epochs = torch.cat(rows).view(2, 10)
    assert torch.equal(epochs.sort(1).values, torch.arange(10).expand(2, 10))
    assert not torch.equal(epochs[0], epochs[1])
    larger = batches(partitions()["one region"], size=35)
    assert torch.equal(larger._image_rows(0)[:10], epochs[0])  # a batch larger than the images spans epochs
    assert len(gathered(batches(partitions()["one region"], size=35), 2)["own"]) == 70


def equal(one, other):
    same = [torch.equal(getattr(one, name), getattr(other, name)) for name in ("noisy", "timestep", "index", "weight")]
    conditions = [torch.equal(one.condition[name], other.condition[name]) for name in one.condition]
    return all(same + conditions)


def test_a_step_is_a_function_of_seed_and_step():
    partition = partitions()["uneven regions"]
    one, two = batches(partition, size=6), batches(partition, size=6)
    first = [one.next() for _ in range(4)]
    assert all(equal(a, two.next()) for a in first)
    assert not equal(first[0], first[1])


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_steps_drawn_ahead_are_saved(ahead):
    """Reported discrepancies move the allocation, so a step that is redrawn when resuming would differ."""
    partition = partitions()["uneven regions"]

    def report(made, batch):
        made.sampler.observe(batch.region, 1.0 + batch.index.float())

    whole = batches(partition, size=6, allocator="proportional", ahead=ahead, residency="disk")
    for _ in range(3):
        report(whole, whole.next())
    saved, sampled = whole.pack(whole.state), whole.sampler.state_dict()
    assert len({name.split(".")[0] for name in saved}) == ahead
    resumed = batches(partition, size=6, allocator="proportional", ahead=ahead, residency="disk")
    resumed.sampler.load_state_dict(sampled)
    resumed.state = resumed.unpack(saved)
    for _ in range(4):
        one, other = whole.next(), resumed.next()
        assert equal(one, other)
        report(whole, one), report(resumed, other)


def test_drawing_ahead_uses_older_estimates():
    partition = partitions()["uneven regions"]
    now, early = (
        batches(partition, size=60, allocator="proportional", ahead=ahead, residency="disk") for ahead in (0, 2)
    )
    for made in (now, early):
        batch = made.next()
        made.sampler.observe(batch.region, 1.0 + 100.0 * (batch.region == 0))
    assert not torch.equal(now.next().index, early.next().index)


def test_parts_are_the_batch_in_order():
    batch = batches(partitions()["one region"], size=6).next()
    parts = list(batch.parts(3))
    assert [len(part.timestep) for part in parts] == [2, 2, 2]
    assert torch.equal(torch.cat([part.noisy for part in parts]), batch.noisy)
    assert torch.equal(torch.cat([part.condition["embeds"] for part in parts]), batch.condition["embeds"])


def test_timesteps_of_the_draw_are_kept():
    """Where the partition covers timesteps, the sampler draws them."""
    pool = aria.Pool(size=CONDITIONS)
    partition = aria.partitioners.Bins("timestep", edges=[0, 10, tiny.TIMESTEPS], integer=True).fit(pool)
    made = batches(partition)
    batch = made.next()
    assert batch.timestep.dtype == torch.long
    assert torch.equal(batch.region, (batch.timestep >= 10).long())


def test_weights_are_of_every_sample_where_timesteps_are_drawn():
    """The level of an image's own condition is decided by the allocation, too."""
    pool = aria.Pool(size=CONDITIONS)
    partition = aria.partitioners.Bins("timestep", edges=[0, 15, tiny.TIMESTEPS], integer=True).fit(pool)
    made = batches(partition)
    made.source.sampler = aria.Sampler(partition, "bank", "uniform", floor=0.0, correction="importance")
    batch = made.next()
    wanted = torch.where(batch.timestep < 15, 1.5, 0.5)  # 3/4 and 1/4 of the target, 1/2 each of the draws
    assert torch.allclose(batch.weight, wanted) and bool(batch.own.any()) and bool(batch.null.any())
    assert batch.weight.mean() == pytest.approx(1.0, abs=1e-6)  # systematic: each region in half of an even batch


def test_a_partition_over_what_training_does_not_use_is_refused():
    partition = aria.partitioners.Bins("guidance", 1.0, 9.0, 2).fit(aria.Pool(size=CONDITIONS))
    with pytest.raises(ValueError, match="the partition draws guidance, which training does not use"):
        batches(partition)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 0}, "the batch size must be a whole number of at least 1, got 0"),
        ({"ahead": -1}, "ahead must be a whole number of at least 0, got -1"),
        ({"null_probability": 1.2}, r"null_probability must lie in \[0, 1\], got 1.2"),
        ({"device": "meta"}, "the sampler is on cpu, the models are on meta"),
    ],
)
def test_refusals(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        batches(partitions()["one region"], **settings)


def test_a_replacement_of_another_length_is_refused():
    made = batches(partitions()["one region"])
    with pytest.raises(ValueError, match="one probability for each of 20 timesteps"):
        Source(
            made.images, made.conditions, made.sampler, made.schedule, size=2, replacement=torch.ones(3)
        )
