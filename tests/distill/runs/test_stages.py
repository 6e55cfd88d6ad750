"""Guidance as an input and halved steps through ``aria distill``: resumed, on two ranks, and delivered."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner
from diffusers import DDIMScheduler, DiffusionPipeline
from safetensors.torch import load_file

from aria import registry
from aria.cli import main
from aria.distill.models.pipelines import open_model
from aria.distill.students import prune
from tests.distill.forks import Forks
from tests.distill.runs.test_run import PROMPTS, command_line, killed_after, logs, on_two_ranks, same_runs

pytestmark = pytest.mark.slow
GUIDED = {"guidance_max": 4.0}
REGIONS = "product(kmeans(2), bins('guidance', 1.0, 4.0, 2))"
SHORT = {"max_train_steps": 4, "checkpointing_steps": 2, "logging_steps": 1}


@pytest.fixture(scope="module")
def forks(tmp_path_factory, sd_folder):
    made = Forks(tmp_path_factory.mktemp("forks"), sd_folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory, sd_folder, sd_v_folder):
    folder = tmp_path_factory.mktemp("place")
    for name, teacher in (("sd", sd_folder), ("sdv", sd_v_folder)):
        (folder / name).symlink_to(teacher)
    prune(sd_folder, folder / "sd-student", preset="bk-tiny", width=0.5)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    return folder


@pytest.fixture(scope="module")
def first(place, forks, tmp_path_factory):
    """A student of two steps of a guided teacher's four, initialised as a copy of the teacher."""
    output = tmp_path_factory.mktemp("stages") / "first"
    more = SHORT | {"student": place / "sdv", "guidance_max": 3.0, "halve_from": 4, "weighting": "truncated_snr"}
    more |= {"cache_dir": "", "validation_prompts": "cat 1", "validation_steps": 4, "guidance_scale": 2.0}
    forks.done(*without(command_line(place, output, "sdv", **more), "--cache_dir"))
    return output


def without(words, flag):
    """A flag whose value is empty has none in the list."""
    return [word for word in words if word != flag]


def heard(pipeline, **settings):
    """The calls of a pipeline's UNet: the number of rows and the timestep of each."""
    forward, calls = pipeline.unet.forward, []
    pipeline.unet.forward = lambda x, t, *rest, **more: calls.append((len(x), int(t))) or forward(x, t, *rest, **more)
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline("cat 1", output_type="latent", **settings).images
    assert bool(latents.isfinite().all())
    return calls


def test_a_guided_run_is_resumed_and_its_pipeline_evaluates_once_per_step(place, forks, tmp_path):
    more = SHORT | GUIDED | {"partitioner": REGIONS}
    one = tmp_path / "one"
    forks.done(*command_line(place, one, **more))
    other = killed_after(2, one, tmp_path / "other")
    forks.done(*command_line(place, other, **more))
    same_runs(one, other, 4)
    projected = load_file(one / "unet/diffusion_pytorch_model.safetensors")["time_embedding.cond_proj.weight"]
    assert projected.shape[1] == 256 and bool(projected.any())
    pipeline = DiffusionPipeline.from_pretrained(one)
    assert [rows for rows, _ in heard(pipeline, num_inference_steps=2, guidance_scale=3.0)] == [1, 1]
    card = (one / "README.md").read_text()
    assert "takes the guidance scale, from 1 to 4, as an input" in card
    assert "`pipeline(prompt, guidance_scale=2.5)`" in card
    refused = CliRunner().invoke(main, list(map(str, command_line(place, other, **more | {"guidance_max": 5.0}))))
    assert refused.exit_code == 2 and "guidance_max = 4.0, now it is 5.0" in refused.stderr.splitlines()[-1]


def test_two_ranks_train_as_one_and_adapters_train_the_input(place, forks, tmp_path):
    more = SHORT | GUIDED | {"max_train_steps": 2, "adam_epsilon": 1e-3, "low_rank": 2}
    forks.done(*command_line(place, tmp_path / "one", **more))
    on_two_ranks(forks, command_line(place, tmp_path / "two", train_batch_size=2, **more))
    one, two = (load_file(tmp_path / run / "checkpoint-2/unet/diffusion_pytorch_model.safetensors")
                for run in ("one", "two"))  # fmt: skip
    name = next(name for name in one if name.endswith("cond_proj.weight"))
    assert bool(one[name].any())
    apart = torch.cat([(two[key] - one[key]).flatten() for key in one]).norm()
    assert float(apart) < 1e-5 * float(torch.cat([value.flatten() for value in one.values()]).norm())


def test_a_halved_run_is_resumed_and_walks_the_trained_timesteps(first, place, forks, tmp_path):
    pipeline = DiffusionPipeline.from_pretrained(first)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    assert pipeline.scheduler.config.timestep_spacing == "trailing"
    assert heard(pipeline, num_inference_steps=2, guidance_scale=2.0) == [(1, 999), (1, 499)]
    assert "takes 2 sampling steps where its teacher takes 4" in (first / "README.md").read_text()
    assert json.loads((first / "config.json").read_text())["loss"]["objective"] == ["output"]
    assert len(json.loads((first / "validation.jsonl").read_text().splitlines()[-1])["prompts"]) == 1
    assert json.loads((first / "cache/cache.json").read_text())["settings"]["num_inference_steps"] == 4

    more = SHORT | {"pretrained_model_name_or_path": first, "student": first, "guidance_max": 3.0, "halve_from": 2}
    more |= {"guidance_scale": 2.0}
    more |= {"cache_dir": tmp_path / "cache", "gradient_accumulation_steps": 2, "train_batch_size": 2}
    second = tmp_path / "second"
    forks.done(*command_line(place, second, **more))
    other = killed_after(2, second, tmp_path / "other")
    forks.done(*command_line(place, other, **more))
    same_runs(second, other, 4)
    pipeline = DiffusionPipeline.from_pretrained(second)
    assert heard(pipeline, num_inference_steps=1, guidance_scale=2.0) == [(1, 999)]
    assert all(row["output"] > 0 for row in logs(second))
    picture = ["--num_inference_steps", 4, "--student_steps", 1, "--guidance_scale", 2, "--prompt", "cat 1"]
    sampled = CliRunner().invoke(main, list(map(str, [
        "sample", "--pretrained_model_name_or_path", place / "sdv", "--student", second, *picture,
        "--output", tmp_path / "a.png", "--json",
    ])))  # fmt: skip
    assert sampled.exit_code == 0, sampled.output
    assert json.loads(sampled.stdout)["settings"]["student_steps"] == 1


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"guidance_max": 4.0, "objective": "feature"}, "compared by its output: leave feature out of the objective"),
        ({"halve_from": 4, "objective": "task"}, "compared by its output: leave task out of the objective"),
        ({"halve_from": 7, "objective": "output"}, "7 steps cannot be halved"),
        ({"halve_from": 1}, "halve_from must be a whole number of at least 2, got 1"),
        ({"guidance_max": 0.5}, "guidance_max must be at least 1, which is no guidance, got 0.5"),
        ({"guidance_min": 5.0, "guidance_max": 4.0}, "guidance_max=4.0 is below guidance_min=5.0"),
        (GUIDED | {"validation_prompts": "cat 1"}, "guidance_scale=7.5, used for validation images, is outside the"),
        ({"halve_from": 4, "objective": "output", "student_prediction": "v_prediction", "validation_prompts": "cat 1"},
         "guidance_scale=7.5, used for validation images, is not a scale that the student of halve_from=4 is"),
    ],
)
def test_mistakes_are_refused_in_one_line(place, tmp_path, more, sentence):
    result = CliRunner().invoke(main, list(map(str, command_line(place, tmp_path / "run", **more))))
    assert result.exit_code == 2 and sentence in result.stderr.splitlines()[-1]


def test_the_tutorials_commands_use_existing_options():
    """The stages of the page: every flag exists, and each stage starts from the output of the last."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "tutorial.md").read_text(encoding="utf-8")
    part = page[page.index("## Guidance as an input") :]
    lines = "".join(re.findall(r"```sh\n(.*?)```", part, flags=re.DOTALL)).replace("\\\n", " ").splitlines()
    words = [shlex.split(line)[1:] for line in lines]
    assert [line[0] for line in words] == ["distill", "distill", "distill", "sample"]
    for line in words:
        command = main.get_command(click.Context(main), line[0])
        with command.make_context(line[0], list(line[1:])) as context:
            assert not context.args
    options = [dict(zip(line[1::2], line[2::2], strict=True)) for line in words]
    for before, after in pairwise(options[:3]):
        assert after["--pretrained_model_name_or_path"] == after["--student"] == before["--output_dir"]
    assert registry.partitioner(options[0]["--partitioner"])


def test_a_checkpoint_is_sampled_as_its_run_delivers_it(first, place, tmp_path):
    """The teacher predicts velocities at leading timesteps, the halved student's walk is a trailing one."""

    def gap(student, teacher="sdv"):
        command = ["sample", "--pretrained_model_name_or_path", place / teacher, "--student", student, "--json",
                "--num_inference_steps", 4, "--student_steps", 2, "--guidance_scale", 2, "--prompt", "cat 1",
                "--output", tmp_path / "a.png"]  # fmt: skip
        return CliRunner().invoke(main, list(map(str, command)))

    delivered, held = gap(first), gap(first / "checkpoint-4" / "unet_ema")
    assert held.exit_code == 0, held.output
    assert json.loads(held.stdout)["gap"] == json.loads(delivered.stdout)["gap"]
    alone = shutil.copytree(first / "checkpoint-4" / "unet_ema", tmp_path / "alone")
    assert json.loads(gap(alone).stdout)["gap"] != json.loads(held.stdout)["gap"]
    other = gap(first / "checkpoint-4" / "unet_ema", "sd")
    assert other.exit_code == 2 and "was trained with another teacher's scheduler" in other.stderr.splitlines()[-1]


def test_a_teacher_that_takes_the_scale_requires_guidance_settings(first, place, tmp_path):
    more = {"pretrained_model_name_or_path": first, "student": first, "objective": "output"}
    result = CliRunner().invoke(main, list(map(str, command_line(place, tmp_path / "run", **more))))
    assert result.exit_code == 2 and "the teacher takes the guidance scale as an input" in result.stderr
    assert open_model(first).config.time_cond_proj_dim == 256


def test_a_teacher_that_takes_the_scale_samples_no_images_at_others(first, place, tmp_path):
    more = {"pretrained_model_name_or_path": first, "student": first, "guidance_max": 3.0, "objective": "output"}
    result = CliRunner().invoke(main, list(map(str, command_line(place, tmp_path / "run", **more))))
    sentence = "guidance_scale=7.5, used for training images, is outside the range that the teacher takes"
    assert result.exit_code == 2 and sentence in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "config.json").exists()
