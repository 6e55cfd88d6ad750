"""Weightings of noise levels."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.training_utils import compute_snr

from aria import registry
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.objectives import MinSNR, TruncatedSNR, Uniform, Velocity, Weighting
from aria.distill.settings.choices import PREDICTIONS

SCHEDULER = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SCHEDULE = NoiseSchedule.of(SCHEDULER)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_is_what_diffusers_scripts_compute(gamma):
    snr = compute_snr(SCHEDULER, torch.arange(1000))
    least = torch.minimum(snr, torch.full_like(snr, gamma))
    wanted = {"epsilon": least / snr, "v_prediction": least / (snr + 1), "sample": least}
    for prediction, table in wanted.items():
        torch.testing.assert_close(MinSNR(gamma).table(SCHEDULE, prediction), table, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("weighting", [MinSNR(5.0), MinSNR(1.0), TruncatedSNR(), Velocity()])
def test_an_error_counts_the_same_however_it_is_said(weighting):
    """Two predictions that differ by δ in the image differ in every prediction type; the weighted error is the same."""
    t = torch.arange(0, 1000, 37)
    clean = torch.randn(len(t), 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wrong, noise = clean + 0.1, torch.ones_like(clean)
    exact = NoiseSchedule(SCHEDULE.alpha.double(), SCHEDULE.sigma.double())
    noisy = exact.add_noise(clean, noise, t)
    weighted = []
    for prediction in PREDICTIONS:
        right, off = (exact.convert(x, "sample", prediction, noisy, t) for x in (clean, wrong))
        weighted.append((right - off).square().mean((1, 2, 3)) * weighting.table(exact, prediction)[t])
    for other in weighted[1:]:
        torch.testing.assert_close(other, weighted[0], rtol=1e-6, atol=0)


def test_uniform_counts_one():
    assert torch.equal(Uniform().table(SCHEDULE, "epsilon"), torch.ones(1000))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_tables_are_finite_at_zero_terminal_snr(prediction):
    ends = NoiseSchedule.of(DDIMScheduler(rescale_betas_zero_snr=True))
    assert ends.alpha[-1] == 0
    table = MinSNR(5.0).table(ends, prediction)
    assert bool(table.isfinite().all())
    assert float(table[-1]) == (1.0 if prediction == "epsilon" else 0.0)
    for weighting in (Velocity(), TruncatedSNR()):
        if prediction == "epsilon":
            with pytest.raises(ValueError, match="an error of epsilon counts infinitely at timestep 999"):
                weighting.table(ends, prediction)
        else:
            assert bool(weighting.table(ends, prediction).isfinite().all())


def test_truncated_snr_is_what_the_paper_has():
    """max(α²/σ², 1) of a squared error of the image, which in velocities is max(α², σ²)."""
    snr = SCHEDULE.alpha**2 / SCHEDULE.sigma**2
    torch.testing.assert_close(TruncatedSNR().table(SCHEDULE, "sample"), snr.clamp(min=1), rtol=1e-4, atol=0)
    velocity = torch.maximum(SCHEDULE.alpha**2, SCHEDULE.sigma**2)
    torch.testing.assert_close(TruncatedSNR().table(SCHEDULE, "v_prediction"), velocity, rtol=1e-4, atol=0)


def test_refusals():
    for spec, sentence in (("min_snr(0)", "gamma must be positive"), ("minsnr2", "min_snr")):
        with pytest.raises(ValueError, match=sentence):
            registry.resolve(spec, Weighting)
    for weighting in (MinSNR(), Velocity()):
        with pytest.raises(ValueError, match="prediction must be"):
            weighting.table(SCHEDULE, "noise")


def test_a_name_alone_has_the_papers_settings_which_stay():
    assert registry.resolve("min_snr", Weighting) == MinSNR(gamma=5.0)
    for weighting in (Uniform(), MinSNR(), TruncatedSNR(), Velocity()):
        with pytest.raises(FrozenInstanceError):
            weighting.gamma = 1.0


def test_the_first_timestep_at_which_an_error_counts_infinitely_is_named():
    schedule = NoiseSchedule(torch.tensor([1.0, 0.6, 0.0, 0.0]), torch.tensor([0.0, 0.8, 1.0, 1.0]))
    with pytest.raises(ValueError, match="velocity weighting: an error of epsilon counts infinitely at timestep 2"):
        Velocity().table(schedule, "epsilon")
    with pytest.raises(ValueError, match="truncated_snr weighting: an error of sample counts infinitely at timestep 0"):
        TruncatedSNR().table(schedule, "sample")
