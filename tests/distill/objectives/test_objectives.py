"""Terms of the loss in closed form."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError

import pytest
import torch

from aria import registry
from aria.distill.objectives import Feature, Inputs, ModelOutput, Objective, Output, Task, per_sample
from aria.distill.settings.choices import PREDICTIONS
from tests.distill import tiny

GENERATOR = torch.Generator().manual_seed(0)
SHAPE = (4, 2, 3, 3)


def some():
    return torch.randn(SHAPE, generator=GENERATOR)


def shown(prediction="epsilon", matched=(True, True, False, True)):
    clean, noise, schedule = some(), some(), tiny.schedule()
    timestep = torch.tensor([0, 5, 10, 19])
    noisy = schedule.add_noise(clean, noise, timestep)
    return Inputs(clean, noise, noisy, timestep, torch.tensor(matched), schedule, prediction)


def test_per_sample_is_a_mean_in_float32():
    error = torch.full(SHAPE, 300.0, dtype=torch.float16)  # its square overflows half precision
    assert per_sample(error).tolist() == [90000.0] * 4 and per_sample(error).dtype == torch.float32


def test_output_is_the_mean_square_beside_the_teacher():
    student, teacher = some(), some()
    loss = Output()(shown(), ModelOutput(teacher, ()), ModelOutput(student, ()))
    torch.testing.assert_close(loss, (student - teacher).square().mean((1, 2, 3)))
    assert torch.equal(Output()(shown(), ModelOutput(student, ()), ModelOutput(student, ())), torch.zeros(4))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_task_is_denoising_where_the_condition_is_the_images_own(prediction):
    inputs = shown(prediction)
    perfect = inputs.schedule.target(prediction, inputs.clean, inputs.noise, inputs.timestep)
    assert torch.equal(Task()(inputs, ModelOutput(some(), ()), ModelOutput(perfect, ())), torch.zeros(4))
    loss = Task()(inputs, ModelOutput(some(), ()), ModelOutput(perfect + 2, ()))
    torch.testing.assert_close(loss, torch.tensor([4.0, 4.0, 0.0, 4.0]))


def test_feature_is_relative_to_the_teachers_and_sums_layers():
    teacher = (some(), 1000 * some())
    student = tuple(1.1 * feature for feature in teacher)
    loss = Feature()(shown(), ModelOutput(some(), teacher), ModelOutput(some(), student))
    torch.testing.assert_close(loss, torch.full((4,), 0.02), rtol=1e-4, atol=0)
    raw = Feature(normalise=False)(shown(), ModelOutput(some(), teacher), ModelOutput(some(), student))
    torch.testing.assert_close(raw, sum(0.01 * feature.square().mean((1, 2, 3)) for feature in teacher))
    silent = (torch.zeros(SHAPE),)
    assert bool(Feature()(shown(), ModelOutput(some(), silent), ModelOutput(some(), (some(),))).isfinite().all())


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


LAYERS = "feature(layers=[('mid', 'mid')])"


@pytest.mark.parametrize(("term", "weighed"), [("output", True), ("task", True), (LAYERS, False)])
def test_the_weighting_by_noise_level_is_of_errors_of_the_output(term, weighed):
    distiller = tiny.make(objective=(term,), weighting="min_snr(0.1)")
    timestep = torch.tensor([0, 5, 10, 19])
    total = distiller.total({name: torch.ones(4) for name in distiller.objective}, timestep)
    assert len(distiller.level_weight.unique()) > 1
    torch.testing.assert_close(total, distiller.level_weight[timestep] if weighed else torch.ones(4))


@pytest.mark.parametrize(("signal", "own_only"), [("output", False), ("task", True), ("feature", False)])
def test_the_sampler_is_told_of_the_samples_for_which_a_term_has_an_answer(signal, own_only):
    objective = ("output", "task", LAYERS)
    distiller = tiny.make(objective=objective, signal=signal, replacement="constant(0.5)", null_probability=0.3)
    reported, batches = [], tiny.recorded(distiller)
    observe = distiller.sampler.observe
    distiller.sampler.observe = lambda *args, **where: reported.append(where["where"]) or observe(*args, **where)
    for _ in range(3):
        distiller.step()
    own, null = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("own", "null"))
    assert not torch.equal(own, ~null)
    assert torch.equal(torch.cat(reported), own if own_only else ~null)


def test_a_teacher_asked_twice_has_an_output_and_no_more():
    Output().check_outputs_only()
    for term, name in ((Task(), "task"), (Feature(), "feature")):
        with pytest.raises(ValueError, match=f"leave {name} out of the objective, as --objective output does"):
            term.check_outputs_only()
    Output().check_outputs_only(one_pass=True), Feature().check_outputs_only(one_pass=True)
    with pytest.raises(ValueError, match="leave task out of the objective"):  # the true noise is not guided
        Task().check_outputs_only(one_pass=True)


def test_a_layer_without_its_counterpart_is_refused():
    with pytest.raises(ValueError, match="longer than"):
        Feature()(shown(), ModelOutput(some(), (some(), some())), ModelOutput(some(), (some(),)))


def test_layers_that_neither_names_are_asked_for():
    with pytest.raises(ValueError, match=r"feature distillation needs layers=\[.*: the student names none; leave"):
        Feature().pairs(())


@pytest.mark.parametrize("term", [Output(), Task(), Feature()])
def test_a_term_counts_once_unless_it_is_told_otherwise(term):
    assert term.weight == 1.0
    with pytest.raises(FrozenInstanceError):
        term.weight = 2.0


def test_what_was_shown_is_compared_by_identity_and_stays():
    inputs = shown()
    assert inputs != copy.copy(inputs) and len({inputs, inputs}) == 1
    with pytest.raises(FrozenInstanceError):
        inputs.prediction = "sample"
