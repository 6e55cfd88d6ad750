"""A stacked run is the engine's run, runs do not touch one another, and the oracle has the exact discrepancies."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.func import functional_call

import aria
from aria.bench.arms import Arm
from aria.bench.settings import SETTINGS
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.teachers.teacher import Teacher
from aria.tasks.mixture import MixtureTeacher
from aria.tasks.unet import Convolution
from tests.bench import small
from tests.distill import tiny

CLOSE = {"rtol": 2e-4, "atol": 2e-5}
"""Rounding differences of float32 from the order of additions in 20 steps of AdamW."""


class Weighty(MixtureTeacher):
    """The exact teacher with a parameter, whose type gives the engine a model's precision."""

    def __init__(self, model: MixtureTeacher) -> None:
        nn.Module.__init__(self)
        self.unused = nn.Parameter(torch.zeros(1))
        for name, value in model.named_buffers():
            self.register_buffer(name, value)


def engine(arm, seed, setting, steps, task=small.TASK):
    """The run of an arm by the engine, put together by hand."""
    world, recipe = task.world(seed), small.RECIPE
    sampler = aria.Sampler(
        aria.partitioners.Labels("concept").fit(world.pool),
        tracker=arm.tracker,
        allocator=arm.allocator,
        floor=arm.floor,
        warmup=recipe.warmup,
        every=recipe.every,
        timesteps=1000,
        seed=seed,
    )
    teacher = Teacher(Weighty(world.teacher.model), world.teacher.denoiser, world.teacher.schedule, "epsilon")
    distiller = tiny.distiller(
        teacher,
        task.student(seed),
        sampler,
        world.images,
        world.conditions,
        weighting=SETTINGS[setting].weighting,
        replacement=SETTINGS[setting].replacement,
        null_probability=recipe.null_probability,
        on_policy=OnPolicy(arm.on_policy),
        optimiser=recipe.optimiser,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        ema_decay=recipe.ema_decay,
        seed=seed,
        accelerator=Accelerator(cpu=True),
    )
    for _ in range(steps):
        distiller.step()
    return distiller


@pytest.mark.parametrize(
    ("name", "setting", "on_policy"),
    [("rc", "rc", 0), ("aria-q", "rc", 0), ("aria-r", "tuned", 0), ("aria-q", "rc", 0.5)],
)
def test_a_stacked_run_is_the_engines_run(name, setting, on_policy):
    """Weights, moving average and allocation after 20 steps, the third of three runs."""
    arm = replace(small.ARMS[name], on_policy=on_policy)
    stacked = small.stacked(small.ARMS["paired"], small.ARMS["aria-p"], arm, setting=setting, steps=20)
    alone = engine(arm, 0, setting, 20)
    for key, value in alone.student.named_parameters():
        torch.testing.assert_close(stacked.parameters[key][2], value, **CLOSE)
        torch.testing.assert_close(stacked.average[key][2], alone.average.weights[key], **CLOSE)
    torch.testing.assert_close(stacked.sources[2].sampler.probs(), alone.sampler.probs(), rtol=1e-3, atol=1e-6)
    moved = stacked.parameters["leave.weight"][2] - small.TASK.student(0).leave.weight
    assert moved.abs().max() > 100 * CLOSE["atol"]


engine_once = cache(engine)
"""For runs that several tests compare with and none changes."""


@pytest.mark.parametrize("by_product", [False, True])
def test_a_stacked_unet_is_the_engines(by_product, monkeypatch):
    """On-policy rows included; and with the convolutions that it has on CUDA."""
    if by_product:
        monkeypatch.setattr(Convolution, "forward", Convolution.by_product)
    arm = replace(small.ARMS["aria-q"], on_policy=0.5)
    stacked = small.stacked(small.ARMS["paired"], arm, steps=6, task=small.UNET)
    monkeypatch.undo()
    alone = engine_once(arm, 0, "rc", 6, small.UNET)
    for key, value in alone.student.named_parameters():
        torch.testing.assert_close(stacked.parameters[key][1], value, rtol=1e-3, atol=1e-4, msg=key)
    torch.testing.assert_close(stacked.sources[1].sampler.probs(), alone.sampler.probs(), rtol=1e-3, atol=1e-6)
    moved = stacked.parameters["unet.conv_out.weight"][1] - small.UNET.student(0).unet.conv_out.weight
    assert moved.abs().max() > 1e-3


def test_runs_do_not_touch_one_another():
    """A run equals its own run alone, whatever other arms and seeds are stacked with it; and arms differ."""
    q, r = small.ARMS["aria-q"], small.ARMS["aria-r"]
    alone = small.stacked(q, seeds=(1,), steps=20)
    among = small.stacked(r, q, small.ARMS["oracle"], seeds=(0, 1), steps=20)  # runs: seed 0 thrice, seed 1 thrice
    for key, value in alone.parameters.items():
        torch.testing.assert_close(among.parameters[key][4], value[0], **CLOSE)
        torch.testing.assert_close(among.average[key][4], alone.average[key][0], **CLOSE)
    allocated = [source.sampler.probs() for source in among.sources]
    torch.testing.assert_close(allocated[4], alone.sources[0].sampler.probs(), rtol=1e-3, atol=1e-6)
    assert (allocated[3] - allocated[4]).abs().max() > 0.01
    assert (among.parameters["leave.weight"][3] - among.parameters["leave.weight"][4]).abs().max() > 1e-3


def test_arms_with_the_same_seed_share_initial_weights_images_noise_and_timesteps():
    made = small.stacked(small.ARMS["rc"], small.ARMS["aria-r"], steps=5)
    fresh = small.stacked(small.ARMS["rc"], small.ARMS["aria-r"])
    for value in fresh.parameters.values():
        assert torch.equal(value[0], value[1])
    one, other = (source.next(flow)[0] for source, flow in zip(made.sources, made.flows, strict=True))
    assert torch.equal(one.noisy, other.noisy) and torch.equal(one.timestep, other.timestep)
    assert torch.equal(one.null, other.null) and torch.equal(one.own, other.own)


# ----------------------------------------------------------------------------------------------------------- the oracle


def brute_force(stacked, place):
    """(K,) normalised discrepancies, question by question in plain Python, from the run's own weights."""
    oracle = stacked.sources[place].sampler.allocator
    (noisy, timestep, condition), world = oracle.truth.inputs, stacked.worlds[0]
    student = small.TASK.student(0)
    own = {name: value[place].detach() for name, value in stacked.parameters.items()}
    errors = []
    for i in range(len(timestep)):
        cut = slice(i, i + 1)
        with torch.no_grad():
            output = functional_call(student, own, (noisy[cut], timestep[cut], condition["tokens"][cut]))
            target = world.teacher.model(noisy[cut], timestep[cut], condition["concept"][cut])
        errors.append((output - target).square().mean().item())
    buckets = [[] for _ in range(10)]
    for error, t in zip(errors, timestep.tolist(), strict=True):
        buckets[t // 100].append(error)
    level = [sum(bucket) / len(bucket) if bucket else 1.0 for bucket in buckets]
    concept = world.pool.columns["concept"]
    total, weight = [0.0] * 6, [0.0] * 6
    for error, t, c in zip(errors, timestep.tolist(), condition["concept"].tolist(), strict=True):
        share = world.pool.weight[c].item()
        total[concept[c]] += share * error / level[t // 100]
        weight[concept[c]] += share
    return torch.tensor([a / b for a, b in zip(total, weight, strict=True)], dtype=torch.float64)


def test_the_oracle_gets_the_exact_discrepancies_at_every_step():
    stacked = small.stacked(small.ARMS["rc"], small.ARMS["oracle"])
    sampler = stacked.sources[1].sampler
    seen = []
    for _ in range(3):
        for _ in range(6):
            stacked.step()
        truth = sampler.allocator.truth()
        torch.testing.assert_close(truth, brute_force(stacked, 1), rtol=1e-4, atol=0.0)
        wanted = sampler.mass.sqrt() * truth
        wanted = 0.2 * sampler.mass + 0.8 * wanted / wanted.sum()
        torch.testing.assert_close(sampler.probs(), wanted, rtol=1e-4, atol=0.0)
        seen.append(truth)
    assert all((one - other).abs().max() > 1e-4 for one, other in pairwise(seen))


def test_the_oracles_questions_stand_for_all_questions():
    """With other questions, 50 times as many, the discrepancies are the same but for sampling: they agree to 25 %,
    where regions differ by more."""
    from aria.bench.stacked import _Truth

    stacked = small.stacked(small.ARMS["oracle"], steps=20)
    few, many = _Truth(stacked, 0)(), _Truth(stacked, 0, repeats=400)()
    assert (few / many).log().abs().max() < 0.25
    assert many.max() / many.min() > 1.3


# ----------------------------------------------------------------------------------------------------------------- arms


def test_rc_draws_from_the_pool():
    """Where every condition is replaced, conditions come as the pool holds them.

    χ² against the pool's shares; its threshold is passed by chance once in a million, and uniform draws pass it.
    """
    from scipy.stats import chi2

    everything = Arm("rc", replacement="constant(1.0)")
    stream = tiny.Stream(small.stacked(everything).sources[0])
    share = small.TASK.world(0).pool.weight
    found = torch.zeros(len(share), dtype=torch.float64)
    for _ in range(600):
        found += torch.bincount(stream.next().index, minlength=len(share))
    count, threshold = found.sum(), chi2.isf(1e-6, len(share) - 1)

    def distance(wanted):
        return ((found - count * wanted) ** 2 / (count * wanted)).sum()

    assert count == 600 * 16
    assert distance(share) < threshold
    assert distance(torch.full_like(share, 1 / len(share))) > threshold


def test_rc_is_the_arm_whose_allocation_looks_at_nothing():
    power_zero = Arm("mine", "proportional(power=0)", floor=0.0)
    made = small.stacked(small.ARMS["rc"], power_zero, steps=20)
    torch.testing.assert_close(made.sources[1].sampler.probs(), made.sources[0].sampler.mass)
    for value in made.parameters.values():
        torch.testing.assert_close(value[1], value[0], **CLOSE)


def test_paired_never_replaces_and_by_condition_counts_conditions():
    made = small.stacked(small.ARMS["paired"], small.ARMS["condition-uniform"], small.ARMS["region-uniform"], steps=6)
    batch = made.sources[0].next(made.flows[0])[0]
    assert torch.equal(batch.own, ~batch.null)
    torch.testing.assert_close(made.sources[1].sampler.probs(), torch.full((6,), 1 / 6, dtype=torch.float64))
    torch.testing.assert_close(made.sources[2].sampler.probs(), torch.full((6,), 1 / 6, dtype=torch.float64))
    index = made.sources[1].sampler.draw(4800).index
    assert torch.bincount(index, minlength=24).min() > 100  # 200 each
