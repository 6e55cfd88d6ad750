"""On-policy rows: their conditions stay for some hops, their images are what the student made."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import aria
from aria.distill.engine.batches import Source
from aria.distill.engine.on_policy import Held, OnPolicy, Rows
from aria.distill.engine.replacement import Constant, Exponential
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.runs.plan import resolve
from aria.distill.settings.config import AdamW, Config
from tests.distill import tiny

SIZE = 12


def batches(
    share=0.5, hops=3, *, size=SIZE, place=None, replacement=None, schedule=None, residency="device", **settings
):
    schedule = schedule or tiny.schedule()
    sampler = tiny.sampler()
    if place is not None:
        sampler.ranks = SimpleNamespace(place=lambda: place)
    pool = tiny.numbered(12)
    pool.residency = residency
    source = Source(
        tiny.images(),
        pool,
        sampler,
        schedule,
        size=size,
        replacement=(replacement or Exponential(5.0)).table(len(schedule)),
        on_policy=OnPolicy(share, hops),
        seed=7,
        **settings,
    )
    return tiny.Stream(source)


def painted(batch, step):
    """What a student might have made: other at every step and in every row."""
    rows = torch.arange(len(batch.clean)).view(-1, 1, 1, 1)
    return torch.zeros_like(batch.clean) + 100.0 * (step + 1) + rows


def run(made, steps, first=0, paint=painted):
    seen = []
    for step in range(first, first + steps):
        seen.append(made.next(partial(paint, step=step)))
    return seen


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("total", [7, 12, 64])
def test_any_part_of_a_batch_has_its_share(share, total):
    rows = OnPolicy(share).rows(total).long()
    assert abs(int(rows.sum()) - share * total) < 1
    for first in range(total):
        for last in range(first + 1, total + 1):
            assert abs(int(rows[first:last].sum()) - share * (last - first)) < 1.001


def test_they_begin_where_an_answer_says_something_of_the_image():
    alpha = torch.linspace(1, 0, 20)
    alpha[-2] = 0.009  # σ/α = 111
    made = batches(schedule=NoiseSchedule(alpha, (1 - alpha**2).sqrt()))
    mask = OnPolicy(0.5, 3).rows(SIZE)
    seen = run(made, 60, paint=lambda batch, step: torch.zeros_like(batch.clean))
    times = torch.cat([batch.timestep[mask] for batch in seen])
    assert times.unique().tolist() == list(range(18))
    assert torch.cat([batch.timestep[~mask] for batch in seen]).max() == 19
    assert all(bool(batch.noisy.isfinite().all()) for batch in seen)


@pytest.mark.parametrize("hops", [2, 3, 5])
def test_a_condition_stays_while_its_noise_falls_by_bands(hops):
    made = batches(hops=hops, replacement=Constant(0.0), null_probability=0.3)
    mask = OnPolicy(0.5, hops).rows(SIZE)
    seen = run(made, 4 * hops)
    nth = mask.cumsum(0) - 1
    changed = 0
    for step, batch in enumerate(seen):
        turn = (nth + step) % hops
        band = batch.timestep.double() / tiny.TIMESTEPS  # within 1/T below a level in ((hops-turn-1)/hops, …]
        low, high = (hops - turn - 1) / hops, (hops - turn) / hops
        within = (band > low - 1 / tiny.TIMESTEPS - 1e-9) & (band <= high)
        assert bool(within[mask].all())
        assert not bool(batch.own[mask].any())
        if step:
            stays = mask & (turn > 0)
            before = seen[step - 1]
            assert torch.equal(batch.index[stays], before.index[stays])
            assert torch.equal(batch.null[stays], before.null[stays])
            assert torch.equal(batch.region[stays], before.region[stays])
            changed += int((batch.index != before.index)[mask & (turn == 0)].sum())
    assert changed > 0


def test_they_go_on_from_what_the_student_made_and_others_from_the_data():
    made, mask = batches(), OnPolicy(0.5, 3).rows(SIZE)
    data, before = tiny.images().latents.flatten(1), None
    nth = mask.cumsum(0) - 1
    for step, batch in enumerate(run(made, 9)):
        goes_on = mask & ((nth + step) % 3 > 0) if step else torch.zeros_like(mask)
        is_data = (batch.clean.flatten(1)[:, None] == data).all(-1).any(1)
        assert torch.equal(is_data, ~goes_on)
        if step:
            output = painted(before, step - 1), "sample", before.noisy, before.timestep
            expected = made.schedule.clean(*output), made.schedule.noise(*output)
            for one, other in zip((batch.clean, batch.noise), expected):
                assert torch.equal(one[goes_on], other[goes_on])
        before = batch
        alpha, sigma = made.schedule.levels(batch.timestep, batch.clean)
        torch.testing.assert_close(batch.noisy, alpha * batch.clean + sigma * batch.noise)


def test_for_other_rows_nothing_changes():
    other_rows = ~OnPolicy(0.5).rows(SIZE)
    for with_some, without in zip(run(batches(), 5), run(batches(share=0.0), 5)):
        for name in ("clean", "noisy", "timestep", "index", "region", "own", "null", "weight"):
            one, other = getattr(with_some, name), getattr(without, name)
            assert torch.equal(one[other_rows], other[other_rows]), name
        assert not torch.equal(with_some.noisy, without.noisy)


def test_noise_levels_are_met_equally_often():
    made = batches(size=200)
    mask = OnPolicy(0.5, 3).rows(200)
    times = torch.cat([batch.timestep[mask] for batch in run(made, 120)])
    share = torch.bincount(times, minlength=tiny.TIMESTEPS) / len(times)
    assert float((share - 1 / tiny.TIMESTEPS).abs().max()) < 0.01  # 12 000 draws: 5 standard errors


@pytest.mark.parametrize("ahead", [0, 2])
def test_resumed_is_uninterrupted(ahead):
    whole = run(batches(ahead=ahead, residency="disk"), 9)
    half, resumed = batches(ahead=ahead, residency="disk"), batches(ahead=ahead, residency="disk")
    run(half, 4)
    resumed.sampler.load_state_dict(half.sampler.state_dict())
    resumed.state = resumed.unpack(half.pack(half.state))
    for one, other in zip(whole[4:], run(resumed, 5, first=4)):
        for name in ("clean", "noisy", "timestep", "index", "region", "null", "weight"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_two_ranks_share_what_one_has():
    alone = run(batches(), 6)
    halves = [batches(size=SIZE // 2, place=(rank, 2)) for rank in range(2)]
    for step, whole in enumerate(alone):
        cuts = slice(0, 6), slice(6, 12)
        outputs = [painted(whole, step)[cut] for cut in cuts]
        parts = [made.next(lambda _, output=output: output) for made, output in zip(halves, outputs)]
        for name in ("clean", "noisy", "timestep", "index", "null"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), (step, name)


def test_the_engine_goes_on_from_its_students_answers():
    distiller = tiny.make(on_policy=OnPolicy(0.5, 2), optimiser=AdamW(learning_rate=1e-2))
    mask = OnPolicy(0.5, 2).rows(8)
    nth = mask.cumsum(0) - 1
    draw, before = distiller.source.next, []
    checked = []

    def next_and_answer(state):
        batch, pending = draw(state)
        if before:
            goes_on = mask & ((nth + len(before)) % 2 > 0)
            for one, other in zip((batch.clean, batch.noise), before[-1]):
                assert torch.equal(one[goes_on], other[goes_on])
            checked.append(int(goes_on.sum()))
        with torch.no_grad():
            _, student = distiller.outputs(batch)
        output = student.output, "epsilon", batch.noisy, batch.timestep
        before.append((distiller.schedule.clean(*output), distiller.schedule.noise(*output)))
        return batch, pending

    distiller.source.next = next_and_answer
    for _ in range(5):
        distiller.step()
    assert sum(checked) >= 6


def test_a_student_learns_from_them():
    distiller = tiny.make(on_policy=OnPolicy(1.0), optimiser=AdamW(learning_rate=1e-2))
    batch = tiny.first_batch(tiny.make(replacement="constant(1)"))
    with torch.no_grad():
        before = float(distiller.losses(batch)["output"].mean())
    for _ in range(60):
        distiller.step()
    distiller.check()
    with torch.no_grad():
        assert float(distiller.losses(batch)["output"].mean()) < 0.7 * before


def test_an_importance_weight_stays_with_its_condition():
    made = batches(null_probability=0.0)
    made.source.sampler.draw = _weighted(made.sampler.draw)
    mask = OnPolicy(0.5, 3).rows(SIZE)
    nth = mask.cumsum(0) - 1
    seen = run(made, 7)
    for step in range(1, 7):
        stays = mask & ((nth + step) % 3 > 0)
        assert torch.equal(seen[step].weight[stays], seen[step - 1].weight[stays])
    assert len(seen[-1].weight[mask].unique()) > 1


def test_a_guidance_scale_stays_with_its_condition():
    made = batches(guidance=(1.0, 8.0))
    mask = OnPolicy(0.5, 3).rows(SIZE)
    nth = mask.cumsum(0) - 1
    seen = run(made, 7)
    for step in range(1, 7):
        stays = mask & ((nth + step) % 3 > 0)
        before, now = (seen[at].condition["guidance"] for at in (step - 1, step))
        assert torch.equal(now[stays], before[stays]) and not bool((now == before)[~stays].any())


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_share_is_the_one_that_is_set(share):
    assert resolve(Config().with_values({"on_policy": share})).loop.on_policy.share == share


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        ({"partitioner": "product(labels('label'), bins('timestep', 0, 20, 2))"}, "partitioner"),
        ({"halve_from": 4}, "halve_from"),
    ],
)
def test_what_decides_timesteps_takes_no_on_policy_rows(settings, other):
    assert resolve(Config().with_values(settings)).loop.on_policy.share == 0
    with pytest.raises(ValueError, match=f"choose their own timesteps, which {other} decides"):
        resolve(Config().with_values(settings | {"on_policy": 0.25}))


def test_what_is_held_makes_the_certificate_older():
    lags = [
        float(tiny.make(on_policy=OnPolicy(share, 3), of={"tracker": "ema(rate=0.1)"}).certificate().lag.max())
        for share in (0.0, 0.5)
    ]
    assert lags[1] == lags[0] + 2


def _weighted(draw):
    def drawn(n, **options):
        batch = draw(n, **options)
        return replace(batch, weight=torch.arange(n) + 100.0 * batch.step)

    return drawn


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\], got 2"):
        OnPolicy(2.0)
    with pytest.raises(ValueError, match="hops must be .* 2.*got 1"):
        OnPolicy(hops=1)
    pool = aria.Pool(columns={"label": [row % 3 for row in range(12)]})
    partition = aria.registry.partitioner(f"product(labels('label'), bins('timestep', 0, {tiny.TIMESTEPS}, 2))")
    with pytest.raises(ValueError, match="cannot be used with a partition that draws timesteps"):
        tiny.make(on_policy=OnPolicy(0.5), sampler=aria.Sampler(partition.fit(pool), "bank", "pool"))
    with pytest.raises(ValueError, match="cannot be used with a halved teacher"):
        batches(timesteps=torch.tensor([19, 9]))


def test_settings_that_are_not_told_and_that_stay():
    assert OnPolicy() == OnPolicy(share=0.0, hops=3)
    with pytest.raises(FrozenInstanceError):
        OnPolicy().hops = 4


def test_bands_reach_from_the_noisiest_level_to_the_least():
    rows = Rows(OnPolicy(1.0, 2), 2, torch.tensor([30, 10, 0, 20]), torch.device("cpu"))
    for offset, wanted in ((0.0, [30, 20]), (0.5, [30, 10]), (1 - 2**-24, [20, 0])):
        held = Held(*[torch.zeros(2)] * 5, offset=torch.full((2,), offset), guidance=torch.zeros(2))
        assert rows.timestep(0, held).tolist() == wanted
        assert rows.timestep(1, held).tolist() == wanted[::-1]


def test_rows_know_which_step_drew_their_condition():
    """Rows 1 and 3 of 4 are on-policy; of the conditions drawn at steps 6, 6, 7 and 7 one is held since before 7."""
    rows = Rows(OnPolicy(0.5, hops=2), 4, torch.arange(10), torch.device("cpu"))
    held = Held(*[torch.zeros(4)] * 6, guidance=torch.zeros(4))._replace(since=torch.tensor([6, 6, 7, 7]))
    assert rows.drawn_from(7, held).tolist() == [False, False, False, True]
    assert rows.drawn_from(6, held).tolist() == [False, True, False, True]
    assert rows.drawn_from(8, held).tolist() == [False] * 4
