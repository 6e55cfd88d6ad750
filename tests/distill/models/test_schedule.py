"""Noise schedules: conversions between prediction types agree, and numbers are those of diffusers."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.training_utils import compute_snr
from hypothesis import given
from hypothesis import strategies as st

from aria.distill.models.schedule import NoiseSchedule, Timed, prediction_of
from aria.distill.objectives import MinSNR, Uniform, Velocity
from aria.distill.settings.choices import PREDICTIONS

SCHEDULER = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SCHEDULE = NoiseSchedule.of(SCHEDULER)
TIMESTEPS = torch.tensor([0, 1, 10, 250, 500, 998, 999])


def some(seed, count=7, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, 3, 2, 2, generator=generator).to(dtype).unbind()


@given(
    seed=st.integers(0, 10**6),
    timestep=st.integers(0, 999),
    given_as=st.sampled_from(PREDICTIONS),
    wanted=st.sampled_from(PREDICTIONS),
)
def test_every_prediction_says_the_same(seed, timestep, given_as, wanted):
    """In float64, so that what is compared are the formulas; the noise is not that of the target."""
    exact = NoiseSchedule(SCHEDULE.alpha.double(), (1 - SCHEDULE.alpha.double() ** 2).sqrt())
    clean, noise = some(seed, 1, torch.float64)
    t = torch.tensor([timestep])
    noisy = exact.add_noise(clean, noise, t)
    output = exact.target(given_as, clean, noise, t)
    converted = exact.convert(output, given_as, wanted, noisy, t)
    torch.testing.assert_close(converted, exact.target(wanted, clean, noise, t), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(exact.convert(converted, wanted, given_as, noisy, t), output, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("given_as", PREDICTIONS)
@pytest.mark.parametrize("wanted", PREDICTIONS)
def test_in_float32_nothing_is_lost_that_need_not_be(given_as, wanted):
    clean, noise = some(3)
    noisy = SCHEDULE.add_noise(clean, noise, TIMESTEPS)
    converted = SCHEDULE.convert(SCHEDULE.target(given_as, clean, noise, TIMESTEPS), given_as, wanted, noisy, TIMESTEPS)
    # 1/α and 1/σ, which are at most 14.7 and 34.3 here, are what dividing by them may cost
    torch.testing.assert_close(converted, SCHEDULE.target(wanted, clean, noise, TIMESTEPS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_noised_latents_and_velocities_are_those_of_diffusers(kind, betas):
    if kind is EulerDiscreteScheduler and betas == "squaredcos_cap_v2":
        betas = "scaled_linear"
    scheduler = DDPMScheduler(beta_schedule=betas)
    schedule = NoiseSchedule.of(kind(beta_schedule=betas))
    assert len(schedule) == 1000
    clean, noise = some(0)
    torch.testing.assert_close(
        schedule.add_noise(clean, noise, TIMESTEPS), scheduler.add_noise(clean, noise, TIMESTEPS), rtol=1e-5, atol=1e-6
    )
    velocity = schedule.target("v_prediction", clean, noise, TIMESTEPS)
    torch.testing.assert_close(velocity, scheduler.get_velocity(clean, noise, TIMESTEPS), rtol=1e-5, atol=1e-6)


def test_signal_to_noise_ratio_is_that_of_diffusers():
    everything = torch.arange(1000)
    torch.testing.assert_close(SCHEDULE.snr(everything), compute_snr(SCHEDULER, everything), rtol=2e-4, atol=0)


def test_levels_keep_type_and_shape():
    clean, noise = some(1)
    noisy = SCHEDULE.add_noise(clean.bfloat16(), noise.bfloat16(), TIMESTEPS)
    assert noisy.dtype == torch.bfloat16 and noisy.shape == clean.shape
    assert torch.equal(SCHEDULE.to("cpu").alpha, SCHEDULE.alpha)


def test_at_pure_noise_only_what_is_known_is_told():
    ends = NoiseSchedule(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    clean, noise = some(2, 2)
    t = torch.tensor([0, 1])
    noisy = ends.add_noise(clean, noise, t)
    for wanted in PREDICTIONS:
        for given_as in ("v_prediction", "flow_prediction"):
            ends.check_conversion(given_as, wanted)
            converted = ends.convert(ends.target(given_as, clean, noise, t), given_as, wanted, noisy, t)
            torch.testing.assert_close(converted, ends.target(wanted, clean, noise, t))
    with pytest.raises(ValueError, match="epsilon cannot be read as v_prediction: timestep 1 has no image in it"):
        ends.check_conversion("epsilon", "v_prediction")
    with pytest.raises(ValueError, match="sample cannot be read as epsilon: timestep 0 has no noise in it"):
        ends.check_conversion("sample", "epsilon")
    ends.check_conversion("epsilon", "epsilon")
    SCHEDULE.check_conversion("epsilon", "sample")


def test_a_table_that_rounding_took_out_of_range_has_an_end():
    rounded = SimpleNamespace(alphas_cumprod=torch.tensor([1 + 2e-7, 0.36, -1e-9]), config={})
    schedule = NoiseSchedule.of(rounded)
    assert schedule.alpha.tolist() == pytest.approx([1, 0.6, 0]) and float(schedule.alpha[0]) == 1.0
    assert schedule.sigma.tolist() == pytest.approx([0, 0.8, 1]) and float(schedule.sigma[0]) == 0.0


def test_answers_tell_of_the_image_up_to_a_hundred_times_more_noise():
    image = torch.full((3,), 1 / 128)
    schedule = NoiseSchedule(image, image * torch.tensor([99.0, 100.0, 100.5]))
    assert schedule.informative().tolist() == [0, 1]


def test_the_first_timestep_that_tells_nothing_is_named():
    ends = NoiseSchedule(torch.tensor([1.0, 0.05, 0.0, 0.0]), torch.tensor([0.0, 0.99, 1.0, 1.0]))
    with pytest.raises(ValueError, match="epsilon cannot be read as sample: timestep 2 has no image in it"):
        ends.check_conversion("epsilon", "sample")
    ends.check_conversion("sample", "sample")


def test_a_schedule_is_compared_by_identity_and_stays():
    assert copy.copy(SCHEDULE) != SCHEDULE and len({SCHEDULE, SCHEDULE}) == 1
    with pytest.raises(FrozenInstanceError):
        SCHEDULE.alpha = SCHEDULE.sigma


def test_refusals():
    with pytest.raises(ValueError, match="CMStochasticIterativeScheduler has no alphas_cumprod; a teacher's .* is one"):
        NoiseSchedule.of(CMStochasticIterativeScheduler())
    clean, noise = some(2)
    for call in (SCHEDULE.target, SCHEDULE.clean, SCHEDULE.noise):
        with pytest.raises(ValueError, match="prediction must be 'epsilon' or .*, got 'noise'"):
            call(*(("noise", clean, noise) if call == SCHEDULE.target else (clean, "noise", noise)), TIMESTEPS)
    with pytest.raises(ValueError, match="prediction must be"):
        SCHEDULE.convert(clean, "noise", "noise", noise, TIMESTEPS)


# ------------------------------------------------------------------------------------------------------- flow matching


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flows_have_the_levels_of_the_scheduler(shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    schedule = NoiseSchedule.of(scheduler)
    assert len(schedule) == 1000 and prediction_of(scheduler) == "flow_prediction"
    torch.testing.assert_close(schedule.sigma, scheduler.sigmas.flip(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(schedule.time, scheduler.timesteps.flip(0), rtol=1e-6, atol=0)
    assert float(schedule.sigma[0]) > 0 and float(schedule.sigma[-1]) == 1.0 and float(schedule.alpha[-1]) == 0.0
    clean, noise = some(4)
    at = schedule.time[TIMESTEPS]
    noised = scheduler.scale_noise(clean, scheduler.timesteps.flip(0)[TIMESTEPS], noise)
    torch.testing.assert_close(schedule.add_noise(clean, noise, TIMESTEPS), noised, rtol=1e-5, atol=1e-6)
    assert at.dtype == torch.float32


def test_steps_of_a_pipeline_do_not_change_a_schedule():
    """Sampling leaves a scheduler with the levels of its inference steps."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    before = NoiseSchedule.of(scheduler)
    scheduler.set_timesteps(5)
    assert len(scheduler.sigmas) == 6 and torch.equal(NoiseSchedule.of(scheduler).sigma, before.sigma)


def test_a_shift_by_the_size_of_images_is_left_to_the_pipeline():
    dynamic = NoiseSchedule.of(FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True))
    torch.testing.assert_close(dynamic.sigma, torch.arange(1, 1001) / 1000)


def test_other_solvers_of_flows_have_the_same_levels():
    solver = DPMSolverMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction")
    expected = NoiseSchedule.of(FlowMatchEulerDiscreteScheduler(shift=3.0))
    assert torch.equal(NoiseSchedule.of(solver).sigma, expected.sigma) and prediction_of(solver) == "flow_prediction"
    assert prediction_of(SCHEDULER) == "epsilon"


@given(
    seed=st.integers(0, 10**6),
    timestep=st.integers(0, 998),
    given_as=st.sampled_from(PREDICTIONS),
    wanted=st.sampled_from(PREDICTIONS),
)
def test_every_prediction_says_the_same_of_flows(seed, timestep, given_as, wanted):
    flow = NoiseSchedule.flow(1000, 3.0)
    exact = NoiseSchedule(1 - flow.sigma.double(), flow.sigma.double(), flow.time)
    clean, noise = some(seed, 1, torch.float64)
    t = torch.tensor([timestep])
    noisy = exact.add_noise(clean, noise, t)
    converted = exact.convert(exact.target(given_as, clean, noise, t), given_as, wanted, noisy, t)
    torch.testing.assert_close(converted, exact.target(wanted, clean, noise, t), rtol=1e-8, atol=1e-8)


def test_a_step_along_the_flow_is_the_schedulers():
    """Where a perfect flow is followed, Euler's step lands on the same image and noise at the next level."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    schedule = NoiseSchedule.of(scheduler)
    scheduler.set_timesteps(1000)
    clean, noise = some(5, 1)
    t = torch.tensor([700])
    place = int((scheduler.timesteps - schedule.time[700]).abs().argmin())
    sigma, then = scheduler.sigmas[place], scheduler.sigmas[place + 1]
    output = schedule.target("flow_prediction", clean, noise, t)
    scheduler.set_begin_index(place)
    landed = scheduler.step(output, scheduler.timesteps[place], (1 - sigma) * clean + sigma * noise).prev_sample
    torch.testing.assert_close(landed, (1 - then) * clean + then * noise, rtol=1e-5, atol=1e-5)


def test_weightings_of_flows_are_errors_of_the_image_and_of_the_flow():
    schedule = NoiseSchedule.flow(1000, 3.0)
    sigma = schedule.sigma
    assert torch.equal(Uniform().table(schedule, "flow_prediction"), torch.ones(1000))
    # a flow off by δ is an image off by σδ
    snr = ((1 - sigma) / sigma) ** 2
    expected = snr.clamp(max=5.0) * sigma**2
    torch.testing.assert_close(MinSNR().table(schedule, "flow_prediction"), expected)
    assert float(MinSNR().table(schedule, "flow_prediction")[-1]) == 0.0  # pure noise has no information on the image
    torch.testing.assert_close(Velocity().table(schedule, "flow_prediction"), torch.ones(1000), rtol=1e-5, atol=1e-5)
    clean, noise = some(6)
    wrong = schedule.target("flow_prediction", clean, noise, TIMESTEPS) + 0.1
    image = schedule.clean(wrong, "flow_prediction", schedule.add_noise(clean, noise, TIMESTEPS), TIMESTEPS)
    level = sigma[TIMESTEPS].view(-1, 1, 1, 1)
    torch.testing.assert_close(clean - image, (0.1 * level).expand_as(clean), rtol=1e-3, atol=1e-5)


def test_levels_are_even_unless_they_are_shifted():
    even = torch.arange(1, 11) / 10
    torch.testing.assert_close(NoiseSchedule.flow(10).sigma, even)

    class FlowMatchOfTheirOwn:
        config = SimpleNamespace(num_train_timesteps=10, get=lambda name, otherwise=None: otherwise)

    torch.testing.assert_close(NoiseSchedule.of(FlowMatchOfTheirOwn()).sigma, even)


def test_levels_follow_the_timesteps_to_their_device():
    levels = []
    denoiser = Timed(lambda model, noisy, timestep, condition: levels.append(timestep) or noisy, torch.arange(4.0))
    denoiser(None, torch.zeros(1, device="meta"), torch.tensor([1], device="meta"), {})
    assert levels[0].device.type == "meta" and levels[0].shape == (1,)


def test_models_are_told_the_level_and_asked_by_its_number():
    schedule, levels = NoiseSchedule.flow(4, 3.0), []
    denoiser = Timed(lambda model, noisy, timestep, condition: levels.append(timestep) or noisy, schedule.time)
    denoiser(None, torch.zeros(2, 1, 1, 1), torch.tensor([3, 0]), {})
    assert levels[0].tolist() == [4.0, 2.0] and denoiser.takes_guidance
    assert torch.equal(schedule.to("cpu").time, schedule.time) and SCHEDULE.to("cpu").time is None


def test_students_of_flows_predict_flows():
    flow = NoiseSchedule.flow(10)
    flow.check_conversion("flow_prediction", "flow_prediction")
    with pytest.raises(ValueError, match="v_prediction cannot be read as flow_prediction: a pipeline that matches"):
        flow.check_conversion("v_prediction", "flow_prediction")
