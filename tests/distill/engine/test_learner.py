"""Students as they are trained: projections, and every parameter's gradient on real UNets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aria.distill.engine.learner import Learner, compile_blocks, freeze, projections, same_latents
from aria.distill.models.denoisers import StableDiffusion, StableDiffusionXL
from tests.distill import pipelines


def learner(kind, pairs=(), checkpointing=False):
    torch.manual_seed(0)
    if kind == "sd":
        model, denoiser = pipelines.unet(), StableDiffusion()
        condition = {"prompt_embeds": torch.randn(2, 5, 8)}
    else:
        model, denoiser = pipelines.sdxl_unet(), StableDiffusionXL()
        condition = {"prompt_embeds": torch.randn(2, 5, 16), "pooled": torch.randn(2, 8)}
        condition["time_ids"] = torch.tensor([[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]]).expand(2, 6)
    model.train()
    if checkpointing:
        model.enable_gradient_checkpointing()
    side = 2 * pipelines.SIDE  # else the innermost stage has one pixel, of which self-attention learns nothing
    noisy = torch.randn(2, 4, side, side)
    names = [name for _, name in pairs]
    return Learner(denoiser, model, names), (noisy, torch.tensor([3, 700]), condition)


STAGES = {
    "sd": [f"{side}_blocks.{k}" for side in ("down", "up") for k in range(4)] + ["mid_block"],
    "sdxl": [f"{side}_blocks.{k}" for side in ("down", "up") for k in range(3)] + ["mid_block"],
}
INNER = ["down_blocks.1.attentions.1.proj_out", "up_blocks.1.resnets.1", "down_blocks.1.resnets.0.conv1"]
"""Modules inside the blocks that gradient checkpointing recomputes."""


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_through_the_output_every_parameter_learns(kind, checkpointing):
    trained, inputs = learner(kind, checkpointing=checkpointing)
    output, _ = trained(*inputs)
    output.square().mean().backward()
    without = [name for name, value in trained.named_parameters() if value.grad is None]
    assert without == []
    assert [name for name, value in trained.named_parameters() if not bool(value.grad.abs().sum() > 0)] == []


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_through_features_every_parameter_before_the_last_of_them_learns(kind):
    trained, inputs = learner(kind, [(name, name) for name in STAGES[kind]])
    _, features = trained(*inputs)
    assert [feature.requires_grad for feature in features] == [True] * len(STAGES[kind])
    sum((feature - 1).square().mean() for feature in features).backward()
    without = {name.split(".")[1] for name, value in trained.named_parameters() if value.grad is None}
    assert without == {"conv_norm_out", "conv_out"}  # they stand after the last stage


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_gradient_checkpointing_changes_no_gradient(kind):
    names = STAGES[kind] + INNER
    grads = []
    for checkpointing in (False, True):
        trained, inputs = learner(kind, [(name, name) for name in names], checkpointing)
        output, features = trained(*inputs)
        (output.square().mean() + sum((feature - 1).square().mean() for feature in features)).backward()
        grads.append({name: value.grad for name, value in trained.named_parameters()})
        assert not any(module._forward_hooks for module in trained.modules())
    assert all(grad is not None for grad in grads[1].values())
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-5, atol=1e-7)


def test_projections_are_where_widths_differ():
    student = [torch.zeros(1, 3, 2, 2), torch.zeros(1, 4, 2, 2), torch.zeros(1, 7, 3)]
    teacher = [torch.zeros(1, 5, 2, 2), torch.zeros(1, 4, 2, 2), torch.zeros(1, 7, 6)]
    made = projections(student, teacher, [("a", "b")] * 3)
    assert [type(layer) for layer in made] == [nn.Conv2d, nn.Identity, nn.Linear]
    assert [layer(x).shape for layer, x in zip(made, student, strict=True)] == [x.shape for x in teacher]
    video = torch.zeros(1, 3, 2, 4, 4)
    assert projections([video], [torch.zeros(1, 5, 2, 4, 4)], [("a", "b")])[0](video).shape == (1, 5, 2, 4, 4)
    for other in (torch.zeros(1, 3, 4, 4), torch.zeros(1, 7, 3)):
        with pytest.raises(ValueError, match="only their channels may differ"):
            projections(student[:1], [other], [("a", "b")])


def test_frozen_models_neither_learn_nor_drop():
    model = freeze(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    assert not model.training and not any(value.requires_grad for value in model.parameters())


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"cross_attention_dim": 16}, "cross_attention_dim"),
        ({"in_channels": 8}, "in_channels"),
        ({"out_channels": 8}, "out_channels"),
        ({"sample_size": 16}, "sample_size"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
    ],
)
def test_students_of_other_latents_or_conditions_are_refused(changes, name):
    with pytest.raises(ValueError, match=f"the student's {name} is .*, the teacher's .*: they cannot be compared"):
        same_latents(pipelines.unet(), pipelines.unet(**changes))
    same_latents(pipelines.unet(), pipelines.unet(block_out_channels=(2, 4, 4, 4)))
    same_latents(nn.Identity(), nn.Identity())


def test_the_compiler_is_let_make_every_kind_of_block():
    """Its limit is one for all blocks, and beyond it they would go uncompiled."""
    config = torch._dynamo.config
    names = "recompile_limit", "accumulated_recompile_limit"
    with config.patch({name: getattr(config, name) for name in names}):
        before = [getattr(config, name) for name in names]
        models = pipelines.unet(), pipelines.unet(block_out_channels=(4, 8, 12, 16))
        compile_blocks(*models, backend="eager")
        kinds = 2 + 4  # three stages and the middle attend, in as many widths
        assert [getattr(config, name) for name in names] == [value + 8 * kinds for value in before]
    with pytest.raises(ValueError, match="Identity does not name its repeated blocks"):
        compile_blocks(pipelines.unet(), nn.Identity())
