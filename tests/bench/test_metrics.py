"""The metrics, compared with diffusers and with results by hand."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from torch.func import functional_call

from aria.bench import metrics
from aria.bench.exam import Exam
from aria.distill.models.schedule import NoiseSchedule
from tests.bench import small


def teach(x, t):
    """Some output that depends on image and time."""
    return torch.tanh(x * (1 + t / 40)) + 0.1 * x.flip(-1)


def test_ddim_is_diffusers_step_for_step():
    """31 timesteps in 15 steps of two, η = 0, from the same noise; the images seen on the way agree too."""
    scheduler = DDIMScheduler(num_train_timesteps=31, beta_schedule="scaled_linear", clip_sample=False)
    scheduler.set_timesteps(15)
    start = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    seen, expected, x = [], [], start
    made = metrics.ddim(
        lambda x, t: seen.append(x) or teach(x, t), start, NoiseSchedule.of(scheduler), steps=15
    )
    for t in range(30, 0, -2):
        expected.append(x)
        x = scheduler.step(teach(x, torch.tensor(t)), t, x, eta=0.0).prev_sample
    assert len(seen) == 15
    for actual, other in zip(seen, expected, strict=True):
        torch.testing.assert_close(actual, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made, x, rtol=1e-4, atol=1e-5)
    assert (made - start).abs().max() > 0.1


def test_gap_is_the_mean_square_of_what_is_left_of_the_batch():
    student, teacher = torch.zeros(2, 3, 1, 2, 2), torch.zeros(3, 1, 2, 2)
    student[1, 2] = 2.0
    student[0, 0, 0, 0, 0] = 4.0
    assert metrics.gap(student, teacher, 3).tolist() == [[4.0, 0.0, 0.0], [0.0, 0.0, 4.0]]


def test_the_snr_weighted_error_is_the_images():
    """Below the cap: min(SNR, cap)/SNR of a noise error is the square of the image's error times min(SNR, cap)."""
    schedule = NoiseSchedule(torch.tensor([0.98, 0.8, 0.28]), torch.tensor([0.199, 0.6, 0.96]))
    generator = torch.Generator().manual_seed(0)
    student, teacher, noisy = (torch.randn(3, 1, 2, 2, generator=generator) for _ in range(3))
    timestep = torch.arange(3)
    images = [schedule.clean(each, "epsilon", noisy, timestep) for each in (student, teacher)]
    weight = ((schedule.alpha / schedule.sigma) ** 2).clamp(max=5.0)
    wanted = weight * (images[0] - images[1]).square().flatten(1).mean(1)
    torch.testing.assert_close(metrics.snr_weighted(student, teacher, timestep, schedule), wanted)


def test_an_exam_gives_each_run_the_gap_of_its_own_student():
    """The gaps of the second of two runs, made again by its averaged student alone, condition by condition."""
    stacked = small.stacked(small.ARMS["rc"], small.ARMS["aria-r"], steps=12)
    world = stacked.worlds[0]
    exam = Exam(world, seed=0)
    scores = exam.mark(stacked, slice(0, 2))
    student, weights = small.TASK.student(0), {name: value[1] for name, value in stacked.average.items()}
    start, index = exam.inputs["start"], torch.arange(24).repeat(2)
    gaps = torch.zeros(24)
    for i, condition in enumerate(index.tolist()):
        seen = world.conditions.gather(torch.tensor([condition]))
        with torch.no_grad():
            student_image, teacher_image = (
                metrics.ddim(model, start[i : i + 1], world.teacher.schedule)
                for model in (
                    lambda x, t, seen=seen: functional_call(student, weights, (x, t[None], seen["tokens"])),
                    lambda x, t, seen=seen: world.teacher.model(x, t[None], seen["concept"]),
                )
            )
        gaps[condition] += (student_image - teacher_image).square().mean() / 2
    torch.testing.assert_close(scores["gap"][1], gaps, rtol=1e-3, atol=1e-5)
    assert scores["gap"].shape == scores["x0"].shape == (2, 24) and scores["own"].shape == (2, 1)
    assert not torch.allclose(scores["gap"][0], scores["gap"][1])


@pytest.mark.parametrize("seed", [0, 1])
def test_examinations_are_the_same_for_all_arms_and_functions_of_the_seed(seed):
    world = small.TASK.world(seed)
    one, again, other = Exam(world, seed), Exam(world, seed), Exam(world, seed + 1)
    assert torch.equal(one.inputs["start"], again.inputs["start"])
    assert torch.equal(one.targets["made"], again.targets["made"])
    assert not torch.equal(one.inputs["start"], other.inputs["start"])
