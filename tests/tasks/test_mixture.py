"""The exact teacher against integrals done by hand and on a grid."""

from __future__ import annotations

import math

import pytest
import torch

from aria.tasks.concepts import scaled_linear
from aria.tasks.mixture import MixtureTeacher

SCHEDULE = scaled_linear(1000)
LATE = (150, 400, 800)


def turned(angle, *variances):
    """Eigenvectors and eigenvalues of a covariance in the plane."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64), torch.tensor(variances, dtype=torch.float64)


def plane():
    """Three conditions of two templates each, unlike in frequency."""
    templates = torch.tensor(
        [[[1.0, 0.5], [-1.2, 0.3]], [[0.2, -1.5], [0.0, 1.0]], [[2.0, 2.0], [-0.5, -0.5]]], dtype=torch.float64
    )
    share = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    basis, spectrum = turned(0.7, 0.5, 0.08)
    return MixtureTeacher(templates, share, basis, spectrum, SCHEDULE), templates, share, basis, spectrum


def noise_on_a_grid(x, timestep, means, weight, covariance, side=6.0, count=601):
    """E[ε | x_t] by summing over a grid of images x₀: weight of each is p(x₀) N(x_t; α x₀, σ² I)."""
    alpha, sigma = SCHEDULE.alpha[timestep].double(), SCHEDULE.sigma[timestep].double()
    line = torch.linspace(-side, side, count, dtype=torch.float64)
    image = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 2)
    precision = torch.linalg.inv(covariance)
    away = image[:, None] - means  # (G, J, 2)
    prior = (weight * torch.exp(-0.5 * torch.einsum("gji,ik,gjk->gj", away, precision, away))).sum(1)
    seen = prior * torch.exp(-0.5 * (x - alpha * image).square().sum(1) / sigma**2)
    clean = (seen[:, None] * image).sum(0) / seen.sum()
    return (x - alpha * clean) / sigma


@pytest.mark.parametrize("timestep", LATE)
@pytest.mark.parametrize("concept", [0, 1, 2, 3])
def test_it_is_the_posterior_mean_in_the_plane(concept, timestep):
    """Conditions 0 to 2, and 3: the null condition, whose images are those of all by their shares."""
    model, templates, share, basis, spectrum = plane()
    covariance = basis @ spectrum.diag() @ basis.T
    if concept < 3:
        means, weight = templates[concept], torch.ones(2, dtype=torch.float64)
    else:
        means, weight = templates.flatten(0, 1), share.repeat_interleave(2)
    for x in torch.tensor([[0.3, -0.8], [1.5, 1.0]], dtype=torch.float64):
        given = model(x.view(1, 1, 1, 2), torch.tensor([timestep]), torch.tensor([concept])).flatten()
        wanted = noise_on_a_grid(x, timestep, means, weight, covariance)
        torch.testing.assert_close(given, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("timestep", (0, 10, *LATE, 999))
def test_one_gaussian_on_a_line_in_closed_form(timestep):
    """x₀ ~ N(m, s): E[ε | x] = σ (x − α m) / (α² s + σ²)."""
    mean, variance = 0.7, 0.3
    one = torch.ones(1, 1, dtype=torch.float64)
    model = MixtureTeacher(mean * one[None], one[0], one, variance * one[0], SCHEDULE)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    when = torch.full((9,), timestep)
    alpha, sigma = SCHEDULE.alpha[timestep].double(), SCHEDULE.sigma[timestep].double()
    wanted = sigma * (x - alpha * mean) / (alpha**2 * variance + sigma**2)
    for concept in (0, 1):  # with one condition the null condition is that condition
        torch.testing.assert_close(model(x, when, torch.full((9,), concept)), wanted)


def test_nobody_predicts_better_and_the_true_condition_helps():
    """The error of noise predictions falls from a wrong condition over the null condition to the true one.

    Paired over 20 000 samples; each mean difference must be five standard errors from 0 (chance 3e-7 each if it were).
    """
    model, templates, _, basis, spectrum = plane()
    generator = torch.Generator().manual_seed(0)
    count = 20_000
    concept = torch.full((count,), 0)
    which = torch.randint(2, (count,), generator=generator)
    texture = torch.randn(count, 2, generator=generator, dtype=torch.float64) * spectrum.sqrt() @ basis.T
    clean = (templates[concept, which] + texture).view(-1, 1, 1, 2)
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    when = torch.full((count,), 500)
    noisy = SCHEDULE.add_noise(clean, noise, when)

    def error(condition):
        return (model(noisy, when, torch.full((count,), condition)) - noise).square().flatten(1).sum(1)

    for better, worse in ((0, 3), (3, 2)):
        gain = error(worse) - error(better)
        assert gain.mean() > 5 * gain.std() / math.sqrt(count), (better, worse)
    shifted = (model(noisy, when, concept) + 0.05 - noise).square().flatten(1).sum(1) - error(0)
    assert shifted.mean() > 5 * shifted.std() / math.sqrt(count)


def test_a_batch_may_mix_conditions_and_the_null_condition():
    model, *_ = plane()
    x = torch.randn(5, 1, 1, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    when, conditions = torch.tensor([3, 900, 40, 500, 500]), torch.tensor([0, 3, 2, 3, 1])
    alone = [model(x[i : i + 1], when[i : i + 1], conditions[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(model(x, when, conditions), torch.cat(alone))
