"""The loop: against one written by hand, its gradients, what it reports to the sampler, and its errors."""

from __future__ import annotations

import itertools
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from aria.distill.data.memory import EncodingsInMemory
from aria.distill.engine.batches import _NUMBERS
from aria.distill.engine.distiller import Distiller, NonFiniteLoss
from aria.distill.engine.learner import compile_blocks
from aria.distill.engine.optimiser import state_tensors
from aria.distill.engine.plan import Plan
from aria.distill.engine.replacement import Exponential
from aria.distill.models.denoisers import StableDiffusion
from aria.distill.objectives import Feature
from aria.distill.runs.callbacks import Callback
from aria.distill.settings.config import AdamW
from aria.distill.teachers.teacher import Teacher
from aria.samplers.draws import step_seed
from tests.distill import pipelines, tiny

EVERYTHING = ("output", "feature(layers=[('mid', 'mid'), ('inp', 'inp')])", "task(weight=0.5)")


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_plain_random_conditioning_bit_for_bit():
    """Three steps written out: images in order of a permutation, π(t), null conditions, MSE, clipping, AdamW, EMA."""
    distiller = tiny.make(ema_decay=0.9, optimiser=AdamW(learning_rate=1e-2))
    images, pool, schedule = tiny.images(), distiller.source.conditions, tiny.schedule()
    teacher, student = tiny.net(0), tiny.net(1)
    average = weights(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2, fused=True)
    drawn, size = tiny.sampler(), 8
    order = torch.cat([distiller.source._image_rows(step) for step in range(3)])
    for step in range(3):
        generator = torch.Generator().manual_seed(step_seed(step_seed(3, _NUMBERS), step))
        timestep = torch.randint(tiny.TIMESTEPS, (size,), generator=generator)
        clean, own = images.gather(order[step * size : (step + 1) * size])
        noise = torch.randn(clean.shape, generator=generator)
        replaced = torch.rand(size, generator=generator) < Exponential(5.0).table(tiny.TIMESTEPS)[timestep]
        index = torch.where(replaced, drawn.draw(size).index, own)
        null = torch.rand(size, generator=generator) < 0.1
        level = (-1, 1, 1, 1)
        noisy = schedule.alpha[timestep].view(level) * clean + schedule.sigma[timestep].view(level) * noise
        embeddings = torch.where(null[:, None], pool.null(1)["embeds"], pool.tensors["embeds"][index])
        embeddings = embeddings + torch.where(null, pool.null(1)["pooled"], pool.tensors["pooled"][index])[:, None]
        with torch.no_grad():
            target = teacher(noisy, timestep, embeddings)
        loss = (student(noisy, timestep, embeddings) - target).square().flatten(1).mean(1).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in student.named_parameters():
            average[name] = torch.lerp(average[name], value.detach(), 1 - decay)
        distiller.step()
    assert same(weights(student), weights(distiller.student))
    assert same(average, distiller.average.weights)


def test_the_loss_falls_on_a_fixed_batch():
    distiller = tiny.make(objective=EVERYTHING, optimiser=AdamW(learning_rate=1e-2), null_probability=0.0)
    batch = tiny.first_batch(distiller)
    tiny.always(distiller, batch)
    history = []
    for _ in range(30):
        with torch.no_grad():
            history.append(float(distiller.total(distiller.losses(batch), batch.timestep).mean()))
        distiller.step()
    assert history[-1] < 0.5 * history[0] and min(history) == min(history[-5:])


@pytest.mark.parametrize("width", [6, 4])
def test_a_change_in_one_sample_changes_its_own_losses_only(width):
    distiller = tiny.make(objective=EVERYTHING, width=width)
    batch = tiny.first_batch(distiller)
    before = distiller.losses(batch)
    batch.noisy[2] += 0.5
    after = distiller.losses(batch)
    others = torch.arange(8) != 2
    for name, value in before.items():
        assert value.shape == (8,)
        torch.testing.assert_close(after[name][others], value[others], rtol=1e-5, atol=1e-7)
        assert float((after[name][2] - value[2]).detach().abs()) > 1e-6 or (name == "task" and not batch.own[2])


@pytest.mark.parametrize("width", [6, 4])
@pytest.mark.parametrize(
    ("objective", "untouched"),
    [
        (("output",), {"projections"}),
        (("task",), {"projections"}),
        (("feature(layers=[('inp', 'inp'), ('mid', 'mid')])",), {"model.out"}),
        (("feature(layers=[('out', 'out'), ('mid', 'mid')])",), set()),
        (("feature(layers=[('inp', 'inp')])",), {"model.out", "model.mid", "model.embed", "model.level"}),
    ],
)
def test_a_gradient_reaches_every_parameter_but_those_after_the_last_layer_compared(objective, untouched, width):
    distiller = tiny.make(objective=objective, width=width, null_probability=0.0, replacement="constant(0)")
    batch = tiny.first_batch(distiller)
    distiller.losses(batch)[distiller.plan.signal].sum().backward()
    for name, value in distiller.learner.named_parameters():
        reached = value.grad is not None and bool(value.grad.abs().sum() > 0)
        assert reached != any(name.startswith(part) for part in untouched), name


def test_projections_train_where_widths_differ():
    distiller = tiny.make(objective=EVERYTHING, width=4)
    before = weights(distiller.learner.projections)
    assert len(before) == 4 and not list(tiny.make(objective=EVERYTHING).learner.projections.parameters())
    distiller.step()
    after = weights(distiller.learner.projections)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    every_rank = tiny.make(objective=EVERYTHING, width=4)
    assert same(before, weights(every_rank.learner.projections))


def test_the_teacher_stays_as_it_was_and_no_hook_is_left():
    distiller = tiny.make(objective=EVERYTHING)
    assert not distiller.teacher.model.training and distiller.student.training
    for _ in range(3):
        distiller.step()
    assert same(weights(tiny.net(0)), weights(distiller.teacher.model))
    assert not any(value.requires_grad or value.grad is not None for value in distiller.teacher.parameters())
    models = (distiller.teacher.model, distiller.student)
    assert not any(module._forward_hooks for model in models for module in model.modules())


def test_the_task_counts_only_under_the_images_own_condition():
    distiller = tiny.make(objective=("task", "output"), null_probability=0.3, replacement="constant(0.5)")
    batch = tiny.first_batch(distiller)
    losses = distiller.losses(batch)
    assert torch.equal(losses["task"] > 0, batch.own) and 0 < int(batch.own.sum()) < 8
    assert bool((losses["output"] > 0).all())


def test_null_conditions_are_not_reported_and_own_ones_are():
    reported = []
    distiller = tiny.make(null_probability=0.5, replacement="constant(0.2)")
    observe = distiller.sampler.observe
    distiller.sampler.observe = lambda region, signal, **more: (
        reported.append((region, signal, more["where"])), observe(region, signal, **more)
    )
    batches = tiny.recorded(distiller)
    for _ in range(20):
        distiller.step()
    counted = sum(int(where.sum()) for _, _, where in reported)
    assert all(torch.equal(where, ~batch.null) for (_, _, where), batch in zip(reported, batches, strict=True))
    assert sum(int((batch.own & where).sum()) for (_, _, where), batch in zip(reported, batches, strict=True)) > 20
    assert float(distiller.tally.seen[0].sum()) == counted < 160


def test_the_reported_signal_is_the_chosen_term():
    distiller = tiny.make(objective=EVERYTHING, signal="task", null_probability=0.0)
    batch = tiny.first_batch(distiller)
    expected = distiller.losses(batch)["task"].double()
    tiny.always(distiller, batch)
    distiller.step()
    total = torch.zeros(3, dtype=torch.float64).index_add(0, batch.region, expected)
    torch.testing.assert_close(distiller.tally.seen[1], total)


def test_terms_levels_and_importance_weights_multiply():
    of = {"correction": "importance", "allocator": "pool(base=0)"}
    distiller = tiny.make(objective=("output(weight=2)", "task(weight=3)"), weighting="min_snr(1)", of=of)
    losses = {"output": torch.ones(2), "task": torch.full((2,), 10.0)}
    timestep = torch.tensor([0, 19])
    snr = tiny.schedule().snr(timestep)
    torch.testing.assert_close(distiller.total(losses, timestep), 32.0 * snr.clamp(max=1) / snr)
    batch = tiny.first_batch(distiller)
    plain = distiller.total(distiller.losses(batch), batch.timestep)
    batch.weight[:] = torch.arange(8.0)
    distiller._backward(batch, last=True)
    got = [value.grad.clone() for value in distiller.student.parameters()]
    wanted = torch.autograd.grad((plain * torch.arange(8.0)).mean(), list(distiller.student.parameters()))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(got, wanted, strict=True))


def test_accumulation_changes_memory_only():
    """2 × B/2 is 1 × B: the same draws, and the same weights but for the order of sums."""
    one, two = (tiny.make(objective=EVERYTHING, batch_size=8 // n, accumulation=n) for n in (1, 2))
    for _ in range(10):
        one.step(), two.step()
    assert torch.equal(one.tally.seen[0], two.tally.seen[0]) and one.sampler.step == two.sampler.step
    torch.testing.assert_close(one.tally.seen[1], two.tally.seen[1], rtol=1e-6, atol=1e-9)
    for name, value in one.student.state_dict().items():
        torch.testing.assert_close(two.student.state_dict()[name], value, rtol=1e-6, atol=1e-6)


def test_gradient_accumulation_gives_the_gradients_of_the_whole_batch():
    """Compared directly: clipping and Adam would hide a constant factor."""
    grads = []
    for parts in (1, 4):
        distiller = tiny.make(objective=EVERYTHING, batch_size=8 // parts, accumulation=parts)
        distiller._update = lambda: None
        distiller.step()
        grads.append([value.grad for value in distiller.student.parameters()])
    for whole, summed in zip(*grads, strict=True):
        torch.testing.assert_close(summed, whole, rtol=1e-5, atol=1e-7)


def test_an_accelerator_set_to_accumulate_changes_nothing():
    from accelerate import Accelerator

    one, two = tiny.make(), tiny.make(accelerator=Accelerator(cpu=True, gradient_accumulation_steps=4))
    batch = tiny.first_batch(one)
    for distiller in (one, two):
        distiller._backward(batch, last=True)
    grads = [[value.grad for value in distiller.student.parameters()] for distiller in (one, two)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("prediction", ["v_prediction", "sample", "flow_prediction"])
def test_a_student_of_another_prediction_is_compared_in_the_teachers(prediction):
    distiller = tiny.make(student_prediction=prediction, null_probability=0.0)
    batch = tiny.first_batch(distiller)
    schedule = tiny.schedule()
    embeddings = batch.condition["embeds"] + batch.condition["pooled"][:, None]
    student = distiller.student(batch.noisy, batch.timestep, embeddings)
    teacher = distiller.teacher.model(batch.noisy, batch.timestep, embeddings)
    student = schedule.convert(student, prediction, "epsilon", batch.noisy, batch.timestep)
    torch.testing.assert_close(distiller.losses(batch)["output"], (student - teacher).square().mean((1, 2, 3)))
    distiller.step()


class Masks(torch.nn.Dropout):
    """Dropout that records its masks."""

    def __init__(self):
        super().__init__(0.5)
        self.seen = []

    def forward(self, x):
        self.seen.append(super().forward(torch.ones_like(x)) == 0)
        return x


def masks(steps=1, rank=0, **settings):
    distiller = tiny.make(**settings)
    distiller.student.mid = torch.nn.Sequential(distiller.student.mid, seen := Masks())
    distiller._random_layers = True
    distiller.accelerator = SimpleNamespace(process_index=rank, **{
        name: getattr(distiller.accelerator, name)
        for name in ("no_sync", "autocast", "backward", "gradient_accumulation_steps", "clip_grad_norm_", "scaler")
    })  # fmt: skip
    for _ in range(steps):
        distiller.step()
    return seen.seen


def test_dropout_differs_between_all_passes_and_ranks_of_a_step():
    passes = [mask for rank in (0, 1) for mask in masks(2, rank, batch_size=4, accumulation=2)]
    assert len(passes) == 8 and not any(torch.equal(a, b) for a, b in itertools.combinations(passes, 2))


def test_dropout_depends_on_the_pass_not_on_the_rank_that_computes_it():
    """Two ranks with one pass each have the masks of one rank with two passes."""
    alone = masks(batch_size=4, accumulation=2)
    assert [torch.equal(*pair) for pair in zip(alone, masks(batch_size=4) + masks(rank=1, batch_size=4))] == [True] * 2


def test_random_layers_are_a_function_of_the_step():
    def one(steps):
        torch.manual_seed(steps)  # the state of the global generator must not matter
        distiller = tiny.make()
        distiller.student.mid = torch.nn.Sequential(distiller.student.mid, torch.nn.Dropout(0.5))
        distiller._random_layers = True
        for _ in range(3):
            torch.rand(1)
            distiller.step()
        return weights(distiller.student)

    assert same(one(1), one(2))


class Poison(Callback):
    """Makes the third condition of one step NaN, and checks losses every four steps as the log does."""

    def __init__(self, at):
        self.at, self.closed = at, False

    def begin(self, distiller):
        prefetch, seen = distiller.source.conditions.prefetch, []

        def spoiled(index):
            seen.append(index)
            gone = prefetch(index)
            if len(seen) == self.at + 1:
                gone.tensors["embeds"][2] = math.nan
                self.region = int(distiller.sampler.partition.locate(index)[2])
            return gone

        distiller.source.conditions.prefetch = spoiled

    def step(self, distiller):
        if distiller.step_count % 4 == 0:
            distiller.check()

    def close(self):
        self.closed = True


def test_a_condition_that_is_not_finite_stops_the_run_at_the_next_check():
    distiller = tiny.make(null_probability=0.0)
    before = {}
    step = distiller.step

    def watched():
        step()
        before[distiller.step_count] = weights(distiller.student)

    distiller.step = watched
    poison = Poison(at=5)
    with pytest.raises(NonFiniteLoss, match="not finite at step 5") as caught:
        distiller.fit([poison])
    assert f"on a sample of region {poison.region};" in str(caught.value)
    assert poison.closed and distiller.step_count == 8
    assert same(before[5], before[6])  # the bad step changed nothing, the ones after it did
    assert not same(before[6], before[8])
    assert all(bool(value.isfinite().all()) for value in distiller.student.state_dict().values())
    assert all(bool(value.isfinite().all()) for value in distiller.average.weights.values())
    value, stderr = distiller.sampler.estimate()
    assert bool(value.isfinite().all()) and not bool(stderr.isnan().any())
    assert bool(torch.stack(distiller.tally.seen).isfinite().all())
    memory = state_tensors(distiller.optimizer.optimizer).values()
    assert memory and all(bool(value.isfinite().all()) for value in memory)


def test_a_gradient_that_is_not_finite_stops_the_run():
    distiller = tiny.make()
    distiller.student.out.weight.register_hook(lambda grad: grad * math.inf)
    before = weights(distiller.student)
    for _ in range(3):
        distiller.step()
    with pytest.raises(NonFiniteLoss, match="not finite at step 0, in the gradient"):
        distiller.check()
    assert same(before, weights(distiller.student))


def test_callbacks_are_called_in_order_at_begin_steps_and_end_and_may_stop_the_run():
    heard = []

    class Ear(Callback):
        def begin(self, distiller):
            heard.append("begin")

        def step(self, distiller):
            heard.append(distiller.step_count)
            distiller.stop = distiller.step_count == 3

        def end(self, distiller):
            heard.append("end")

        def close(self):
            heard.append("close")

    distiller = tiny.make(steps=5)
    distiller.fit([Ear()])
    assert heard == ["begin", 1, 2, 3, "end", "close"]
    distiller.fit()
    assert distiller.step_count == 5


def test_certificates_are_later_by_what_is_drawn_ahead():
    of = {"tracker": "ema(rate=0.1)"}
    now, ahead = tiny.make(of=of), tiny.make(of=of, ahead=3, residency="disk")
    now.step(), ahead.step()
    gap = ahead.certificate().lag - now.certificate().lag
    assert torch.equal(gap, torch.full_like(gap, 3))
    seldom, early = (tiny.make(of=of | {"every": 2}, ahead=ahead, residency="disk") for ahead in (0, 3))
    seldom.step(), early.step(), seldom.step(), early.step()
    gap = early.certificate().lag - seldom.certificate().lag
    assert torch.equal(gap, torch.full_like(gap, 1.5))  # the tracker moves once in two steps
    assert tiny.make(of={"tracker": "bank"}).certificate() is None


def test_a_signal_without_ground_truth_on_replaced_conditions_is_reported_for_own_ones_only():
    """The task loss of a replaced condition is 0 because there is no ground truth, not because nothing is wrong."""
    distiller = tiny.make(objective=["output", "task"], signal="task", replacement="constant(0.5)", batch_size=40)
    own = tiny.first_batch(distiller).own.sum()
    again = tiny.make(objective=["output", "task"], signal="task", replacement="constant(0.5)", batch_size=40)
    again.step()
    n, total, _ = again.tally.seen
    assert 0 < int(own) < 40 and int(n.sum()) == int(own) and float(total.sum() / n.sum()) > 0.1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be a whole number of at least 1, got -1"),
        ({"accumulation": 0}, "accumulation must be"),
        ({"objective": ()}, "an objective is one or more different terms, got none"),
        ({"objective": ("output", "output(weight=2)")}, "one or more different terms"),
        ({"objective": ("feature",)}, "feature distillation needs layers="),
        ({"objective": (Feature(layers=[("mid", "midd")]),)}, "Net has no module 'midd'; did you mean 'mid'"),
        ({"objective": (Feature(layers=[("mdi", "mid")]),)}, "Net has no module 'mdi'; did you mean 'mid'"),
        ({"objective": (Feature(layers=[("embed", "mid")]),)}, "only their channels may differ"),
        ({"signal": "task"}, "signal must be 'output', got 'task'"),
        ({"student_prediction": "noise"}, "must be 'epsilon'"),
        ({"prediction": "noise"}, "prediction must be"),
        ({"ema_decay": 2.0}, r"decay must lie in \[0, 1\]"),
        ({"weighting": "min_snr(gamma=-1)"}, "gamma must be positive"),
    ],
)
def test_refusals(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny.make(**settings)


def test_a_student_without_trained_parameters_is_refused():
    student = tiny.net(1).requires_grad_(False)
    teacher = Teacher(tiny.net(0), tiny.evaluate, tiny.schedule(), "epsilon")
    with pytest.raises(ValueError, match="no parameter that trains"):
        Distiller(teacher, student, tiny.sampler(), tiny.images(), tiny.numbered(12))


def test_a_student_that_does_not_take_the_conditions_is_refused():
    student = tiny.net(1)
    student.embed = torch.nn.Linear(5, 6)
    teacher = Teacher(tiny.net(0), tiny.evaluate, tiny.schedule(), "epsilon")
    with pytest.raises(ValueError, match="Net does not take these latents and conditions"):
        Distiller(teacher, student, tiny.sampler(), tiny.images(), tiny.numbered(12))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the compiler looks at what it is given
@pytest.mark.slow
def test_all_blocks_of_all_widths_are_compiled_and_none_for_the_probe(monkeypatch):
    """Beyond its limit the compiler would leave blocks uncompiled and the run slow; here it fails instead."""
    monkeypatch.setattr("aria.distill.engine.distiller.compile_blocks", partial(compile_blocks, backend="eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    tensors = {"prompt_embeds": torch.randn(12, 5, 8)}
    conditions = EncodingsInMemory(tensors, {name: torch.zeros_like(value[:1]) for name, value in tensors.items()})
    images = tiny.shown(torch.randn(10, 4, 8, 8), 12)
    teacher, student = (pipelines.unet(block_out_channels=widths) for widths in ((4, 8, 12, 16), (4, 6, 10, 14)))
    strict = {"fail_on_recompile_limit_hit": True, "recompile_limit": 2, "accumulated_recompile_limit": 256}
    with torch._dynamo.config.patch(strict):
        distiller = Distiller(
            Teacher(teacher, StableDiffusion(), tiny.schedule(), "epsilon"), student, tiny.sampler(), images,
            conditions, Plan(batch_size=2, compile=True), accelerator=Accelerator(cpu=True),
        )  # fmt: skip
        assert not torch._dynamo.utils.counters["frames"]
        distiller.step()
        frames = torch._dynamo.utils.counters["frames"]
        compiled = frames["total"]
        distiller.step(), distiller.step()
    assert frames["ok"] == frames["total"] == compiled >= 6, "steps of the same shape are compiled once"
    torch._dynamo.reset()
