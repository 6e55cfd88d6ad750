"""``aria sample``: the same noise and prompts for both, a picture, and correct numbers."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from aria.cli.commands.sample import command
from aria.distill.evaluation.students import read_scheduler

PROMPTS = ["a cat", "a dog", "an owl"]


def run(teacher, student, *more):
    arguments = ["--pretrained_model_name_or_path", teacher, "--student", student, "--num_inference_steps", 2, *more]
    return CliRunner().invoke(command, list(map(str, arguments)))


def record(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_picture_and_a_gap_for_each_prompt(sd_folder, student_folder, tmp_path):
    prompts, output = tmp_path / "prompts.txt", tmp_path / "grid.png"
    prompts.write_text("\n".join(PROMPTS))
    found = record(sd_folder, student_folder, "--prompts", prompts, "--num_prompts", 2, "--output", output)
    assert [row["prompt"] for row in found["prompts"]] == PROMPTS[:2]
    assert found["gap"] == pytest.approx(sum(row["gap"] for row in found["prompts"]) / 2) and found["gap"] > 0
    with Image.open(output) as picture:
        assert picture.format == "PNG" and picture.width > 256 < picture.height
    shown = run(sd_folder, student_folder, "--prompt", "a cat", "--output", output).stdout
    assert f"{found['prompts'][0]['gap']:.4g}  a cat" in shown  # the noise of a row does not depend on the others
    assert f"written to {output}" in shown


@pytest.mark.parametrize("teacher", ["sd_folder", "sdxl_folder"])
def test_a_teacher_is_no_distance_from_itself(teacher, request, tmp_path):
    folder = request.getfixturevalue(teacher)
    found = record(folder, folder, "--prompt", "a cat", "--prompt", "a dog", "--output", tmp_path / "same.png")
    assert [row["gap"] for row in found["prompts"]] == [0.0, 0.0]


def test_a_pipelines_model_is_sampled_by_the_pipelines_scheduler(sd_folder, tmp_path):
    """A student with another prediction type than its teacher is sampled with its own."""
    run_folder = shutil.copytree(sd_folder, tmp_path / "run")
    path = run_folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "v_prediction"}))
    shutil.copytree(run_folder / "unet", tmp_path / "alone")
    arguments = ("--prompt", "a cat", "--output", tmp_path / "a.png")
    whole, inside, alone = (
        record(sd_folder, shown, *arguments)["gap"] for shown in (run_folder, run_folder / "unet", tmp_path / "alone")
    )
    assert whole == inside > 0 == alone


def test_the_gap_is_that_of_the_pipelines_themselves(sd_folder, student_folder, tmp_path):
    from aria.distill.data.latents import generator
    from aria.distill.models.pipelines import open_model, open_pipeline

    found = record(sd_folder, student_folder, "--prompt", "a cat", "--seed", 5, "--output", tmp_path / "a.png")
    pipeline = open_pipeline(sd_folder)
    noise = torch.randn((4, 8, 8), generator=generator(5, 0))[None]
    settings = {"num_inference_steps": 2, "output_type": "latent", "return_dict": False}
    teacher = pipeline("a cat", latents=noise, **settings)[0]
    pipeline.unet = open_model(student_folder)
    student = pipeline("a cat", latents=noise, **settings)[0]
    assert found["gap"] == pytest.approx(float((teacher - student).square().mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ((), "give either --prompt TEXT"),
        (("--prompt", "a cat", "--prompts", "p.txt"), "give either --prompt TEXT"),
        (("--prompts", "nowhere.txt"), "there is no prompt file nowhere.txt"),
        (("--prompt", "a cat", "--output", "a.jpg"), "must be a .png file, got a.jpg"),
        (("--prompt", "a cat", "--output", "nowhere/a.png"), "there is no folder nowhere"),
        (("--prompt", "a cat", "--resolution", "7"), "multiple of 2"),
        (("--prompt", "a cat", "--student", "nowhere"), "nowhere is no model folder"),
    ],
)
def test_mistakes_exit_with_2_and_one_line(sd_folder, student_folder, more, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(sd_folder, student_folder, *more)
    assert result.exit_code == 2
    assert sentence in result.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("*.png"))


def test_for_an_unfinished_run_its_checkpoint_is_suggested(sd_folder, student_folder, tmp_path):
    model = tmp_path / "run" / "checkpoint-20" / "unet_ema"
    shutil.copytree(student_folder, model)
    (tmp_path / "run" / "checkpoint-3" / "unet_ema").mkdir(parents=True)
    arguments = "--prompt", "a cat", "--output", tmp_path / "a.png"
    result = run(sd_folder, tmp_path / "run", *arguments)
    assert result.exit_code == 2 and f"has not ended; give a model of a checkpoint, such as {model}" in result.stderr
    assert run(sd_folder, model, *arguments).exit_code == 0


@pytest.mark.parametrize("names", [("transformer", "transformer_ema"), ("transformer",)])
def test_for_an_unfinished_run_of_a_transformer_its_checkpoint_is_suggested(names, tmp_path):
    for name in names:
        (tmp_path / "run" / "checkpoint-20" / name).mkdir(parents=True)
        (tmp_path / "run" / "checkpoint-20" / name / "config.json").touch()
    (tmp_path / "model_index.json").touch()
    result = run(tmp_path, tmp_path / "run", "--prompt", "a cat", "--output", tmp_path / "a.png")
    assert result.exit_code == 2 and result.stderr.endswith(f"such as {tmp_path}/run/checkpoint-20/{names[-1]}\n")


def test_a_student_of_other_latents_is_refused(sd_folder, sdxl_folder, tmp_path):
    result = run(sd_folder, sdxl_folder, "--prompt", "a cat", "--output", tmp_path / "a.png")
    assert result.exit_code == 2 and "the student's cross_attention_dim is 16" in result.stderr


FOREIGN = [{"trained_betas": True, "set_alpha_to_one": False}, {"num_train_timesteps": {"x": 1}}, {"beta_schedule": []}]


@pytest.mark.parametrize("values", FOREIGN)
def test_a_scheduler_of_foreign_values_is_named(values, tmp_path):
    """diffusers checks no types: each of these fails somewhere else in it."""
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps({"_class_name": "DDIMScheduler", **values}))
    with pytest.raises(ValueError, match="scheduler_config.json describes no DDIMScheduler: "):
        read_scheduler(path)
