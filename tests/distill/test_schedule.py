"""Noise schedules: what outputs of different kinds mean is the same, and numbers are those of diffusers."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_snr
from hypothesis import given
from hypothesis import strategies as st

from aria.distill.schedule import PREDICTIONS, NoiseSchedule

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
    told = exact.target(given_as, clean, noise, t)
    said = exact.convert(told, given_as, wanted, noisy, t)
    torch.testing.assert_close(said, exact.target(wanted, clean, noise, t), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(exact.convert(said, wanted, given_as, noisy, t), told, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("given_as", PREDICTIONS)
@pytest.mark.parametrize("wanted", PREDICTIONS)
def test_in_float32_nothing_is_lost_that_need_not_be(given_as, wanted):
    clean, noise = some(3)
    noisy = SCHEDULE.add_noise(clean, noise, TIMESTEPS)
    said = SCHEDULE.convert(SCHEDULE.target(given_as, clean, noise, TIMESTEPS), given_as, wanted, noisy, TIMESTEPS)
    # 1/α and 1/σ, which are at most 14.7 and 34.3 here, are what dividing by them may cost
    torch.testing.assert_close(said, SCHEDULE.target(wanted, clean, noise, TIMESTEPS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_noised_latents_and_velocities_are_those_of_diffusers(kind, betas):
    if kind is EulerDiscreteScheduler and betas == "squaredcos_cap_v2":
        betas = "scaled_linear"
    theirs = DDPMScheduler(beta_schedule=betas)
    schedule = NoiseSchedule.of(kind(beta_schedule=betas))
    assert len(schedule) == 1000
    clean, noise = some(0)
    torch.testing.assert_close(
        schedule.add_noise(clean, noise, TIMESTEPS), theirs.add_noise(clean, noise, TIMESTEPS), rtol=1e-5, atol=1e-6
    )
    velocity = schedule.target("v_prediction", clean, noise, TIMESTEPS)
    torch.testing.assert_close(velocity, theirs.get_velocity(clean, noise, TIMESTEPS), rtol=1e-5, atol=1e-6)


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
            said = ends.convert(ends.target(given_as, clean, noise, t), given_as, wanted, noisy, t)
            torch.testing.assert_close(said, ends.target(wanted, clean, noise, t))
    with pytest.raises(ValueError, match="epsilon cannot be read as v_prediction: timestep 1 has no image in it"):
        ends.check_conversion("epsilon", "v_prediction")
    with pytest.raises(ValueError, match="sample cannot be read as epsilon: timestep 0 has no noise in it"):
        ends.check_conversion("sample", "epsilon")
    ends.check_conversion("epsilon", "epsilon")
    SCHEDULE.check_conversion("epsilon", "sample")


def test_refusals():
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler has no alphas_cumprod"):
        NoiseSchedule.of(FlowMatchEulerDiscreteScheduler())
    clean, noise = some(2)
    for call in (SCHEDULE.target, SCHEDULE.clean, SCHEDULE.noise):
        with pytest.raises(ValueError, match="prediction must be 'epsilon' or .*, got 'noise'"):
            call(*(("noise", clean, noise) if call == SCHEDULE.target else (clean, "noise", noise)), TIMESTEPS)
    with pytest.raises(ValueError, match="prediction must be"):
        SCHEDULE.convert(clean, "noise", "noise", noise, TIMESTEPS)
