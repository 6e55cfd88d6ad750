"""The influence of rows: pictures are those of the pipeline, and gradients through their sampling are exact."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("diffusers")
from aria.tasks import presets
from benchmarks import influence

pytestmark = pytest.mark.slow

TASK = "emoji(captions=60, images=20, asked=9, steps=2)"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("influence")
    return influence.world_of(presets.task(TASK), folder)


def test_pictures_are_those_of_the_pipeline(world):
    index, noise = torch.arange(influence.BATCH), torch.randn(influence.BATCH, *world.images.shape[1:])
    with torch.no_grad():
        made = influence._sampled(world, world.teacher, noise, index)
    how = {"steps": world.steps, "guidance": world.guidance}
    wanted = world.denoiser.generate(world.pipeline, world.rows(index, len(index)), world.null, noise, **how)
    assert torch.allclose(made, wanted, atol=1e-4)


def test_influence_is_how_fast_the_gap_falls(world, monkeypatch):
    """With one source and one band: a small step down the gradient of its loss, on the same random numbers."""
    monkeypatch.setattr(influence, "BANDS", 1)
    student = world.teacher
    student = type(student).from_config(student.config)
    student.load_state_dict(world.teacher.state_dict())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.02 * parameter.std().nan_to_num() * torch.randn_like(parameter))
    before = influence.measure(world, student, 1, seed=3)
    generator = torch.Generator().manual_seed(3)
    torch.randint(60, (influence.BATCH,), generator=generator)  # what the gap draws
    torch.randn(influence.BATCH, *world.images.shape[1:], generator=generator)
    loss = influence._row_loss(world, student, "paired", 0, generator)
    assert loss.item() == pytest.approx(before["loss"]["paired"][0])
    loss.backward()
    step = 1e-2 * before["gap"] / abs(before["influence"]["paired"][0])
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.sub_(step * parameter.grad)
    student.zero_grad()
    after = influence.measure(world, student, 1, seed=3)
    assert before["gap"] - after["gap"] == pytest.approx(step * before["influence"]["paired"][0], rel=0.15)


def test_the_command_measures_every_mix(tmp_path):
    out = tmp_path / "out.json"
    words = ["--task", TASK, "--steps", "2", "--batches", "1", "--replacement", "constant(0.5)", "--output", str(out)]
    assert influence.main(words) == 0
    found = json.loads(out.read_text())["mixes"]["constant(0.5)"]
    assert set(found["influence"]) == {"paired", "random"} and len(found["influence"]["random"]) == influence.BANDS
    sums = {source: sum(values) for source, values in found["influence"].items()}
    assert found["share"] == pytest.approx(sums["random"] / (sums["random"] + sums["paired"]))


def test_a_task_in_memory_is_refused(capsys, tmp_path):
    with pytest.raises(SystemExit):
        influence.main(["--task", "default", "--output", str(tmp_path / "out.json")])
    assert "default is in memory: give a task on disk" in capsys.readouterr().err
