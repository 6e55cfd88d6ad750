"""The UNet student: a model of diffusers, called as the small student is."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from aria.tasks.concepts import scaled_linear
from aria.tasks.unet import Convolution, TokenUNet

SCHEDULE = scaled_linear(1000, finer=2)


def make(seed=0):
    return TokenUNet(16, 12, 16, SCHEDULE, seed=seed)


def inputs(count=4):
    generator = torch.Generator().manual_seed(0)
    noisy, tokens = torch.randn(count, 1, 16, 16, generator=generator), torch.randn(count, 3, 12, generator=generator)
    return noisy, torch.tensor([0, 300, 600, 999])[:count], tokens


def test_the_output_is_noise_computed_from_a_velocity():
    """With a last layer of zeros the velocity is 0 and the output σ x; with a bias b it is σ x + α b."""
    model, (noisy, timestep, tokens) = make(), inputs()
    alpha, sigma = SCHEDULE.levels(timestep, noisy)
    for value in model.unet.conv_out.parameters():
        value.data.zero_()
    torch.testing.assert_close(model(noisy, timestep, tokens), sigma * noisy)
    model.unet.conv_out.bias.data.fill_(2.0)
    torch.testing.assert_close(model(noisy, timestep, tokens), sigma * noisy + 2 * alpha)


def test_the_output_depends_on_condition_time_and_image_of_the_same_sample_only():
    model, (noisy, timestep, tokens) = make(), inputs()
    output = model(noisy, timestep, tokens)
    for changed in ((noisy + 1, timestep, tokens), (noisy, timestep.flip(0), tokens), (noisy, timestep, -tokens)):
        assert not torch.allclose(model(*changed)[1:], output[1:], atol=1e-3)
    torch.testing.assert_close(model(noisy[1:2], timestep[1:2], tokens[1:2]), output[1:2])


def test_it_is_diffusers_model_by_another_convolution():
    """A plain model of the same configuration takes its weights and gives the same output."""
    model, (noisy, timestep, tokens) = make(), inputs()
    plain = UNet2DConditionModel.from_config(model.unet.config)
    plain.load_state_dict(model.unet.state_dict())
    velocity = plain(noisy, timestep, tokens).sample
    alpha, sigma = SCHEDULE.levels(timestep, noisy)
    torch.testing.assert_close(model(noisy, timestep, tokens), sigma * noisy + alpha * velocity, rtol=1e-4, atol=1e-5)
    assert not any(type(module) is nn.Conv2d for module in model.modules())


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = make(3), make(3), make(4)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in one.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert not torch.equal(one.unet.conv_in.weight, other.unet.conv_in.weight)
    assert not {"alpha", "sigma"} & one.state_dict().keys()


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 1, 0), ((3, 1), (1, 2), (1, 0))])
def test_a_product_over_patches_is_the_convolution(kernel, stride, padding):
    """Outputs and gradients."""
    generator = torch.Generator().manual_seed(0)
    layer = Convolution(3, 5, kernel, stride, padding)
    x = torch.randn(2, 3, 8, 6, generator=generator, requires_grad=True)
    weights = x, layer.weight, layer.bias
    one, other = layer(x), layer.by_product(x)
    torch.testing.assert_close(other, one)
    push = torch.randn(one.shape, generator=generator)
    for actual, expected in zip(*(torch.autograd.grad(y, weights, push) for y in (other, one)), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [0, -8, 12])
def test_a_width_that_cannot_be_halved_into_groups_is_refused(width):
    with pytest.raises(ValueError, match=f"the width of a UNet must be a multiple of 8, got {width}"):
        TokenUNet(16, 12, width, SCHEDULE)
