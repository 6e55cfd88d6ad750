"""Terms of the loss in closed form."""

from __future__ import annotations

import pytest
import torch

from aria import registry
from aria.distill.objectives import Answer, Feature, Objective, Output, Shown, Task, per_sample
from aria.distill.schedule import PREDICTIONS
from tests.distill import engine

GENERATOR = torch.Generator().manual_seed(0)
SHAPE = (4, 2, 3, 3)


def some():
    return torch.randn(SHAPE, generator=GENERATOR)


def shown(prediction="epsilon", matched=(True, True, False, True)):
    clean, noise, schedule = some(), some(), engine.schedule()
    timestep = torch.tensor([0, 5, 10, 19])
    noisy = schedule.add_noise(clean, noise, timestep)
    return Shown(clean, noise, noisy, timestep, torch.tensor(matched), schedule, prediction)


def test_per_sample_is_a_mean_in_float32():
    error = torch.full(SHAPE, 300.0, dtype=torch.float16)  # its square overflows half precision
    assert per_sample(error).tolist() == [90000.0] * 4 and per_sample(error).dtype == torch.float32


def test_output_is_the_mean_square_beside_the_teacher():
    ours, theirs = some(), some()
    loss = Output()(shown(), Answer(theirs, ()), Answer(ours, ()))
    torch.testing.assert_close(loss, (ours - theirs).square().mean((1, 2, 3)))
    assert torch.equal(Output()(shown(), Answer(ours, ()), Answer(ours, ())), torch.zeros(4))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_task_is_denoising_where_the_condition_is_the_images_own(prediction):
    told = shown(prediction)
    perfect = told.schedule.target(prediction, told.clean, told.noise, told.timestep)
    assert torch.equal(Task()(told, Answer(some(), ()), Answer(perfect, ())), torch.zeros(4))
    loss = Task()(told, Answer(some(), ()), Answer(perfect + 2, ()))
    torch.testing.assert_close(loss, torch.tensor([4.0, 4.0, 0.0, 4.0]))


def test_feature_is_relative_to_the_teachers_and_sums_layers():
    theirs = (some(), 1000 * some())
    ours = tuple(1.1 * feature for feature in theirs)
    loss = Feature()(shown(), Answer(some(), theirs), Answer(some(), ours))
    torch.testing.assert_close(loss, torch.full((4,), 0.02), rtol=1e-4, atol=0)
    raw = Feature(normalise=False)(shown(), Answer(some(), theirs), Answer(some(), ours))
    torch.testing.assert_close(raw, sum(0.01 * feature.square().mean((1, 2, 3)) for feature in theirs))
    silent = (torch.zeros(SHAPE),)
    assert bool(Feature()(shown(), Answer(some(), silent), Answer(some(), (some(),))).isfinite().all())


def test_layers_are_the_terms_own_or_the_students():
    named = [("a", "b")]
    assert Feature(layers=named).pairs([("c", "d")]) == (("a", "b"),)
    assert Feature().pairs([("c", "d")]) == (("c", "d"),)
    assert Output().pairs([("c", "d")]) == Task().pairs([("c", "d")]) == ()
    again = registry.resolve(registry.spec(Feature(layers=named)), Objective)
    assert again == Feature(layers=named)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("output(weight=-1)", "weight must be non-negative and finite, got -1"),
        ("task(weight='a')", "weight must be non-negative and finite, got 'a'"),
        ("feature(normalise=1)", "normalise must be True or False, got 1"),
        ("feature(layers=[('a',)])", "layers must be pairs"),
        ("feature(layers=[('a', 1)])", "layers must be pairs"),
        ("feature(layers=3)", "layers must be pairs"),
        ("feature(layers='ab')", "layers must be pairs"),
    ],
)
def test_refusals(spec, sentence):
    with pytest.raises(ValueError, match=sentence):
        registry.resolve(spec, Objective)
