"""The small student."""

from __future__ import annotations

import torch

from aria.tasks.concepts import scaled_linear
from aria.tasks.film import FilmMLP

SCHEDULE = scaled_linear(1000)


def make(seed=0):
    return FilmMLP(64, 36, 8, SCHEDULE, seed=seed)


def inputs(count=4):
    generator = torch.Generator().manual_seed(0)
    noisy, tokens = torch.randn(count, 1, 8, 8, generator=generator), torch.randn(count, 3, 12, generator=generator)
    return noisy, torch.tensor([0, 300, 600, 999])[:count], tokens


def test_the_output_is_noise_computed_from_a_velocity():
    """With a last layer of zeros the velocity is 0 and the output σ x; with a bias b it is σ x + α b."""
    model, (noisy, timestep, tokens) = make(), inputs()
    alpha, sigma = SCHEDULE.levels(timestep, noisy)
    for value in (model.leave.weight, model.leave.bias):
        value.data.zero_()
    torch.testing.assert_close(model(noisy, timestep, tokens), sigma * noisy)
    model.leave.bias.data.fill_(2.0)
    torch.testing.assert_close(model(noisy, timestep, tokens), sigma * noisy + 2 * alpha)


def test_the_output_depends_on_condition_time_and_image_of_the_same_sample_only():
    model, (noisy, timestep, tokens) = make(), inputs()
    output = model(noisy, timestep, tokens)
    for changed in ((noisy + 1, timestep, tokens), (noisy, timestep.flip(0), tokens), (noisy, timestep, -tokens)):
        assert not torch.allclose(model(*changed), output, atol=1e-3)
    torch.testing.assert_close(model(noisy[1:2], timestep[1:2], tokens[1:2]), output[1:2])


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = make(3), make(3), make(4)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in one.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert not torch.equal(one.enter.weight, other.enter.weight)


def test_schedules_are_no_part_of_what_is_saved():
    assert not {"alpha", "sigma"} & make().state_dict().keys()
