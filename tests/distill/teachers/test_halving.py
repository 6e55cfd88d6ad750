"""Step halving: the timesteps, levels and steps are diffusers' own, and one perfect step is two of the teacher's."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, PNDMScheduler

import aria
from aria.distill.data.memory import EncodingsInMemory
from aria.distill.models import denoisers
from aria.distill.models.denoisers.guidance import take_guidance
from aria.distill.models.pipelines import open_pipeline
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.settings.config import AdamW
from aria.distill.teachers.guidance import guided
from aria.distill.teachers.halving import DDIM_PREDICTIONS, Walk, deterministic, halved, walks
from aria.distill.teachers.teacher import Teacher
from tests.distill import pipelines, tiny

SHAPE = (2, 3, 3)


def ddim(prediction="v_prediction", **changes):
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    config |= {"timestep_spacing": "trailing", "prediction_type": prediction, "set_alpha_to_one": False}
    return DDIMScheduler(**(config | changes))


def noise(rows=1, seed=0):
    return torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(seed))


class Curved(torch.nn.Module):
    """A teacher whose outputs depend on where and when it is evaluated."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, noisy, timestep, value):
        return torch.tanh(self.weight * noisy + torch.cos(timestep / 90.0).view(-1, 1, 1, 1) + value.view(-1, 1, 1, 1))


def evaluate(model, noisy, timestep, condition):
    return model(noisy, timestep, condition["embeds"])


def teacher(scheduler, prediction):
    return Teacher(Curved(), evaluate, NoiseSchedule.of(scheduler), prediction)


SCHEDULERS = {
    "stable diffusion": {},
    "to a clean image": {"set_alpha_to_one": True},
    "from pure noise": {"rescale_betas_zero_snr": True},
}


@pytest.mark.parametrize("changes", SCHEDULERS.values(), ids=SCHEDULERS)
@pytest.mark.parametrize("steps", [2, 4, 6, 8, 16, 50])
def test_a_walk_is_that_of_diffusers(steps, changes):
    scheduler = ddim(**changes)
    walk = Walk.of(scheduler, steps)
    scheduler.set_timesteps(steps)
    assert torch.equal(walk.timesteps, scheduler.timesteps) and scheduler.timesteps[0] == 999
    for prediction in ("v_prediction", "sample"):
        scheduler.register_to_config(prediction_type=prediction)
        for timestep in scheduler.timesteps:
            noisy, output = noise(seed=1), noise(seed=2)
            expected = scheduler.step(output, timestep, noisy).prev_sample
            actual = walk.step(output, prediction, noisy, timestep.view(1))
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)


@torch.no_grad()
@pytest.mark.parametrize("changes", SCHEDULERS.values(), ids=SCHEDULERS)
@pytest.mark.parametrize("steps", [2, 4, 6, 8, 16, 50])
@pytest.mark.parametrize(("teachers", "students"), [("v_prediction", "v_prediction"), ("sample", "v_prediction"),
                                              ("epsilon", "epsilon"), ("v_prediction", "sample")])  # fmt: skip
def test_one_step_of_a_perfect_student_is_two_of_the_teacher(steps, changes, teachers, students):
    """Both walked by diffusers' scheduler alone, from every place where the student stands."""
    if "rescale_betas_zero_snr" in changes and "epsilon" in (teachers, students):
        return  # refused, see below
    two, one = ddim(teachers, **changes), ddim(students, **changes)
    two.set_timesteps(steps), one.set_timesteps(steps // 2)
    model = teacher(two, teachers)
    made, condition = halved(model, two, steps, prediction=students), {"embeds": torch.tensor([0.4])}
    assert torch.equal(made.timesteps, one.timesteps) and made.prediction == students and not made.plain
    for place, timestep in enumerate(one.timesteps):
        begun = noise(seed=place)
        latents = begun
        for now in two.timesteps[2 * place : 2 * place + 2]:
            latents = two.step(evaluate(model.model, latents, now.view(1), condition), now, latents).prev_sample
        target = made.evaluate(model.model, begun, timestep.view(1), condition)
        landed = one.step(target, timestep, begun).prev_sample
        torch.testing.assert_close(landed, latents, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_samples_of_a_batch_are_halved_each_at_its_own_timestep():
    scheduler = ddim()
    made = halved(teacher(scheduler, "v_prediction"), scheduler, 8)
    condition, begun = {"embeds": torch.linspace(-1, 1, 4)}, noise(rows=4)
    together = made.evaluate(made.model, begun, made.timesteps, condition)
    for row in range(4):
        one = slice(row, row + 1)
        alone = made.evaluate(made.model, begun[one], made.timesteps[one], {"embeds": condition["embeds"][one]})
        torch.testing.assert_close(together[one], alone)


@torch.no_grad()
def test_a_guided_teacher_is_halved_with_its_guidance():
    scheduler = ddim()
    plain = guided(teacher(scheduler, "v_prediction"), {"embeds": torch.zeros(1)})
    made = halved(plain, scheduler, 4)
    condition = {"embeds": torch.tensor([0.7]), "guidance": torch.tensor([3.0])}
    two, one = walks(scheduler, 4)
    latents = begun = noise()
    for timestep in two.timesteps[:2]:
        output = plain.evaluate(plain.model, latents, timestep.view(1), condition)
        latents = two.step(output, "v_prediction", latents, timestep.view(1))
    wanted = one.output(latents, "v_prediction", begun, one.timesteps[:1])
    torch.testing.assert_close(made.evaluate(plain.model, begun, one.timesteps[:1], condition), wanted)


@pytest.mark.parametrize("kind", [PNDMScheduler, EulerDiscreteScheduler, DDIMScheduler])
def test_every_scheduler_of_the_same_levels_becomes_the_same_walk(kind):
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    made = deterministic(kind(**config, prediction_type="v_prediction"))
    assert made.config.timestep_spacing == "trailing" and made.config.prediction_type == "v_prediction"
    assert not made.config.clip_sample
    assert torch.equal(Walk.of(made, 4).timesteps, torch.tensor([999, 749, 499, 249]))


class Odd(DDIMScheduler):
    """Noise levels that follow from no setting."""

    def __init__(self):
        super().__init__()
        self.alphas_cumprod = self.alphas_cumprod**2


def test_what_cannot_be_halved_is_refused():
    for steps in (3, 7, 25):
        with pytest.raises(ValueError, match=f"{steps} steps cannot be halved"):
            walks(ddim(), steps)
    with pytest.raises(ValueError, match="halve_from must be a whole number of at least 2, got 1"):
        walks(ddim(), 1)
    with pytest.raises(ValueError, match="1000 timesteps cannot be walked in 2000 steps"):
        walks(ddim(), 2000)
    with pytest.raises(ValueError, match="cannot be halved as they are: use halving.deterministic"):
        walks(ddim(timestep_spacing="leading"), 4)
    with pytest.raises(ValueError, match="a FlowMatchEulerDiscreteScheduler cannot be halved: it has no"):
        deterministic(FlowMatchEulerDiscreteScheduler())
    with pytest.raises(ValueError, match="DDIM cannot walk the noise levels of this Odd"):
        deterministic(Odd())
    scheduler = ddim("epsilon", rescale_betas_zero_snr=True)
    for teachers, students, who in (("epsilon", "v_prediction", "teacher"), ("v_prediction", "epsilon", "student")):
        with pytest.raises(ValueError, match=f"the {who} predicts the noise, which at timestep 999 does not") as raised:
            halved(teacher(scheduler, teachers), scheduler, 4, prediction=students)
        assert ("first distil a student of" in str(raised.value)) == (who == "teacher")
    with pytest.raises(ValueError, match="what the student of a halving predicts must be 'v_prediction' or"):
        halved(teacher(scheduler, "v_prediction"), scheduler, 4, prediction="flow_prediction")
    assert set(DDIM_PREDICTIONS) == {"v_prediction", "sample", "epsilon"}


# ------------------------------------------------------------------------------------------------------------- learning


def small():
    """Twenty timesteps, for the engine's small models."""
    return ddim(num_train_timesteps=20, beta_start=0.02, beta_end=0.5, beta_schedule="linear")


def pair(steps=10, halve_from=4, partition="labels('label')", **settings):
    net = tiny.net(0, 16)
    with torch.no_grad():
        net.out.weight.mul_(3)
    pool = tiny.numbered(12)
    pool.tensors["pooled"] = pool.tensors["pooled"] / 12
    plain = Teacher(net, tiny.evaluate, NoiseSchedule.of(small()), "v_prediction")
    student = tiny.Net(16)
    student.load_state_dict(net.state_dict())
    columns = {"label": [row % 3 for row in range(12)]}
    sampler = aria.Sampler(aria.registry.partitioner(partition).fit(aria.Pool(columns=columns)), seed=1)
    defaults = {"batch_size": 32, "seed": 3, "objective": ["output"], "weighting": "truncated_snr", "ema_decay": 0.9}
    defaults |= {"optimiser": AdamW(learning_rate=1e-2, adam_weight_decay=0.0, lr_scheduler="cosine"), "steps": steps}
    defaults |= {"accelerator": Accelerator(cpu=True), "replacement": "constant(1.0)"}
    made = halved(plain, small(), halve_from)
    return plain, tiny.distiller(made, student, sampler, tiny.images(), pool, **(defaults | settings))


def test_batches_hold_the_students_timesteps_and_no_others():
    _, distiller = pair()
    stream = tiny.Stream(distiller.source)
    seen = torch.cat([stream.next().timestep for _ in range(20)])
    scheduler = small()
    scheduler.set_timesteps(2)
    assert sorted(seen.unique().tolist()) == sorted(scheduler.timesteps.tolist()) == [9, 19]
    assert 0.4 < float((seen == 19).float().mean()) < 0.6  # 640 draws: ten standard deviations wide


def test_a_partition_of_timesteps_is_refused():
    with pytest.raises(ValueError, match="draws timestep, which training does not use; it may draw nothing"):
        pair(partition="bins('timestep', 0, 20, 2)")


@torch.no_grad()
def walked(model, condition, steps):
    scheduler = small()
    scheduler.set_timesteps(steps)
    latents = torch.randn(48, tiny.CHANNELS, tiny.SIDE, tiny.SIDE, generator=torch.Generator().manual_seed(5))
    for timestep in scheduler.timesteps:
        output = tiny.evaluate(model, latents, timestep.expand(48), condition)
        latents = scheduler.step(output, timestep, latents).prev_sample
    return latents


def test_a_student_of_half_the_steps_is_nearer_than_the_teacher_in_as_few():
    plain, distiller = pair(steps=250)
    distiller.fit()
    distiller.check()
    condition = distiller.source.conditions.prefetch(torch.arange(48) % 12).result()
    whole, fewer = walked(plain.model, condition, 4), walked(plain.model, condition, 2)
    with distiller.averaged():
        student = walked(distiller.student, condition, 2)
    assert float((student - whole).square().mean()) < 0.25 * float((fewer - whole).square().mean())


def test_gradient_accumulation_equals_one_pass():
    (_, whole), (_, parts) = pair(batch_size=8), pair(batch_size=4, accumulation=2)
    for _ in range(3):
        whole.step(), parts.step()
    for name, value in whole.student.state_dict().items():
        torch.testing.assert_close(parts.student.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_pipelines_of_stable_diffusion_are_guided_and_halved_in_half_precision(sd_folder):
    """The teacher as its folder has it, with other timesteps than the walk's."""
    assert pipelines.scheduler().config.timestep_spacing == "leading"
    pipeline = open_pipeline(sd_folder)
    pipeline.register_modules(scheduler=deterministic(pipeline.scheduler))
    adapter = denoisers.of(pipeline)
    pool = EncodingsInMemory(adapter.encode(pipeline, ["a cat", "a dog"], "cpu"), adapter.null(pipeline, "cpu"))
    made = halved(guided(Teacher.of(pipeline), pool.null(1)), pipeline.scheduler, 8, prediction="v_prediction")
    partition = aria.partitioners.Bins("guidance", 1.0, 5.0, 2).fit(aria.Pool(size=2))
    shown = tiny.shown(torch.randn(5, 4, pipelines.SIDE, pipelines.SIDE), 2)
    kwargs = {"batch_size": 4, "objective": ["output"], "guidance": (1.0, 5.0), "weighting": "truncated_snr"}
    AcceleratorState._reset_state(reset_partial_state=False)
    try:
        kwargs["accelerator"] = Accelerator(cpu=True, mixed_precision="bf16")
        student = take_guidance(pipelines.unet())
        distiller = tiny.distiller(made, student, aria.Sampler(partition, timesteps=1000), shown, pool, **kwargs)
        for _ in range(3):
            distiller.step()
        distiller.check()
    finally:
        AcceleratorState._reset_state(reset_partial_state=False)
    assert next(distiller.teacher.parameters()).dtype == torch.bfloat16
    assert bool(student.time_embedding.cond_proj.weight.any())
    assert float(distiller.tally.seen[0].sum()) > 0
