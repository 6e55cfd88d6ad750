"""The device of a comparison, which changes nothing but the speed."""

from __future__ import annotations

import pytest
import torch

from aria.bench import device
from aria.bench.exam import Exam
from tests.bench import small

NEAR = {"rtol": 1e-3, "atol": 1e-4}
"""Rounding differences of float32 between devices after a few steps of AdamW."""


def test_cuda_is_the_default_device_where_available(monkeypatch):
    for there, wanted in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert device.chosen(None) == wanted and device.chosen("cpu") == "cpu"
    with pytest.raises(ValueError, match="device 'cuda': there is no CUDA device here"):
        device.chosen("cuda")
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', got 'tpu'"):
        device.chosen("tpu")


def test_results_record_the_device_and_its_precision(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some Maker's 1")
    assert device.described("cpu") == {"device": "cpu", "accelerator": None, "tf32": None}
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    try:
        cases = (False, False, None), (True, False, "products"), (True, True, "products, convolutions")
        for *allowed, wanted in cases:
            for flag, value in zip(flags, allowed, strict=True):
                flag.allow_tf32 = value
            assert device.described("cuda") == {"device": "cuda", "accelerator": "Some Maker's 1", "tf32": wanted}
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def test_a_precision_set_by_its_name_is_read_by_it(monkeypatch):
    """As in PyTorch since 2.9, where reading the older flag is then an error."""

    class Backend:
        fp32_precision = "tf32"

        @property
        def allow_tf32(self):
            raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some Maker's 1")
    monkeypatch.setattr(torch.backends.cuda, "matmul", Backend())
    assert "products" in device.described("cuda")["tf32"]


def test_a_world_is_moved_by_its_teacher_alone():
    """To the meta device: the copy's teacher is there; the source of batches and the original are not."""
    world = small.TASK.world(0)
    moved = world.to("meta")
    assert moved.device.type == "meta" and world.device.type == "cpu"
    assert {value.device.type for value in moved.teacher.model.buffers()} == {"meta"}
    assert {value.device.type for value in world.teacher.model.buffers()} == {"cpu"}
    assert moved.images is world.images and moved.conditions is world.conditions and moved.pool is world.pool


@pytest.mark.gpu
@pytest.mark.parametrize("task", [small.TASK, small.UNET], ids=("mlp", "unet"))
def test_a_run_on_cuda_is_the_cpus(task):
    """Teacher, batches, losses, allocation, weights, examination and oracle, over three decisions of the sampler."""
    arms = [small.ARMS[name] for name in ("rc", "aria-q", "aria", "oracle")]
    here, there = (small.stacked(*arms, seeds=(0, 1), steps=9, task=task, device=name) for name in ("cpu", "cuda"))
    for key, value in here.parameters.items():
        assert there.parameters[key].is_cuda
        torch.testing.assert_close(there.parameters[key].cpu(), value, **NEAR)
        torch.testing.assert_close(there.average[key].cpu(), here.average[key], **NEAR)
    for one, other in zip(here.sources, there.sources, strict=True):
        torch.testing.assert_close(other.sampler.probs(), one.sampler.probs(), rtol=1e-2, atol=1e-4)
    marks = [Exam(made.worlds[1], 1).mark(made, slice(4, 8)) for made in (here, there)]
    for name, value in marks[0].items():
        torch.testing.assert_close(marks[1][name], value, rtol=1e-2, atol=1e-4)


@pytest.mark.gpu
def test_the_teacher_gives_the_same_outputs_on_cuda_as_on_the_cpu():
    world, generator = small.TASK.world(0), torch.Generator().manual_seed(0)
    noisy, timestep = torch.randn(64, 1, 8, 8, generator=generator), torch.arange(64) * 15
    concept = torch.randint(len(world.pool) + 1, (64,), generator=generator)
    concept[::3] = len(world.pool)
    output = world.to("cuda").teacher.model(noisy.cuda(), timestep.cuda(), concept.cuda())
    torch.testing.assert_close(output.cpu(), world.teacher.model(noisy, timestep, concept), rtol=1e-3, atol=1e-4)
