"""Low-rank layers: the best of their rank, smaller, and recovered after being multiplied out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from aria.checks import InvalidSetting
from aria.distill.models.denoisers.guidance import take_guidance
from aria.distill.settings.config import Config
from aria.distill.students import factorise, unfactorise
from aria.distill.students.factorise import Product, is_factorised, rank_of
from tests.distill import pipelines


def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(6, 10, 1, stride=2), nn.Flatten(1), nn.Linear(40, 12), nn.Linear(12, 8, bias=False))


def shown():
    return torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(1))


def test_the_product_is_the_nearest_matrix_of_its_rank():
    plain, thin = layers(), factorise(layers(), 0.5)
    for place in (0, 2, 3):
        wanted, found = plain[place].weight.flatten(1), thin[place].weight.flatten(1)
        rank = rank_of(*wanted.shape, 0.5)
        size = torch.linalg.svdvals(wanted)
        assert torch.linalg.matrix_rank(found, rtol=1e-4) == rank
        torch.testing.assert_close((found - wanted).norm(), size[rank:].norm())  # Eckart and Young


def test_it_computes_the_product_with_its_weight():
    thin = factorise(layers(), 0.5)
    torch.testing.assert_close(thin(shown()), unfactorise(copy.deepcopy(thin))(shown()))


def test_the_fraction_is_kept():
    plain, thin = nn.Linear(64, 48), factorise(nn.Sequential(nn.Linear(64, 48)), 0.25)[0]
    kept = thin.first.weight.numel() + thin.second.weight.numel()
    assert 0.2 < kept / plain.weight.numel() <= 0.25
    assert rank_of(2, 2, 0.1) == 1


def test_multiplied_out_it_is_found_again():
    """A delivered student is plain; its weights keep their rank, so nothing is lost by factorising it once more."""
    thin = factorise(pipelines.unet(), 0.5)
    names = set(pipelines.unet().state_dict())
    plain = unfactorise(copy.deepcopy(thin))
    assert set(plain.state_dict()) == names and not is_factorised(plain)
    again = factorise(copy.deepcopy(plain), 0.5)
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in thin.parameters())
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in plain.parameters())
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.randn(2, 5, 8)
    with torch.no_grad():
        outputs = [model.eval()(*inputs, return_dict=False)[0] for model in (thin, plain, again)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs[0], outputs[2], rtol=1e-4, atol=1e-5)


def test_the_layer_of_the_guidance_scale_stays_whole():
    """A student with factorised layers gets it at full rank, and the opened student is factorised again."""
    student = take_guidance(factorise(pipelines.unet(), 0.5))
    wanted = student.time_embedding.cond_proj.weight.detach().normal_().clone()
    again = factorise(unfactorise(student), 0.5)
    assert isinstance(again.time_embedding.linear_1, Product)
    assert torch.equal(again.time_embedding.cond_proj.weight, wanted)


def test_only_pointwise_convolutions_and_both_factors_train():
    model = factorise(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=2)), 0.5)
    assert [isinstance(part, Product) for part in model] == [False, True, False]
    model[1](torch.randn(1, 4, 2, 2)).sum().backward()
    assert all(value.grad is not None for value in model[1].parameters())


def test_refusals():
    with pytest.raises(ValueError, match=r"rank_ratio must lie in \(0, 1\), got 1"):
        factorise(layers(), 1.0)
    with pytest.raises(InvalidSetting) as caught:
        Config().with_values({"low_rank": 2, "rank_ratio": 0.5})
    assert (caught.value.setting, caught.value.kind) == ("rank_ratio", "conflict")
    with pytest.raises(ValueError, match="factorised already"):
        factorise(factorise(layers(), 0.5), 0.5)
    with pytest.raises(ValueError, match="ReLU has no linear layer to factorise"):
        factorise(nn.ReLU(), 0.5)
