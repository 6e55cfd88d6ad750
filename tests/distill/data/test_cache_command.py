"""``aria cache``: what it writes, that kills and full disks only delay it, and how it reports mistakes."""

from __future__ import annotations

import errno
import json
import os

import pytest
import torch
from click.testing import CliRunner

from aria.cli.commands.cache import command
from aria.distill.data import Conditions
from aria.distill.data.cache import chosen
from aria.distill.data.latents import Latents
from aria.distill.models.pipelines import open_pipeline
from tests.processes import run_script

PROMPTS = [f"{animal} {i}" for i in range(6) for animal in ("cat", "dog")]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join([*PROMPTS, "", PROMPTS[0]]))
    return path


def run(teacher, prompts, output, *more):
    arguments = ["--pretrained_model_name_or_path", teacher, "--prompts", prompts, "--output_dir", output, *more]
    return CliRunner().invoke(command, list(map(str, arguments)))


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def contents(folder):
    latents = Latents(folder / "latents")
    return Conditions(folder / "conditions").gather(torch.arange(13)) | dict(
        zip(("x0", "condition"), latents.gather(torch.arange(len(latents))))
    )


@pytest.mark.parametrize("teacher", ["sd_folder", "sdxl_folder"])
def test_a_cache_opens_with_its_teacher(teacher, prompts, tmp_path, request):
    folder = request.getfixturevalue(teacher)
    result = done(folder, prompts, tmp_path / "c", "--num_images", 5, "--num_inference_steps", 2, "--json")
    record = json.loads(result.stdout)
    assert record == json.loads((tmp_path / "c" / "cache.json").read_text())
    assert record["conditions"]["rows"] == 13 and record["conditions"]["distinct"] == 12
    assert record["prompts"]["skipped"] == 1 and record["latents"]["rows"] == 5
    assert record["settings"]["num_inference_steps"] == 2 and record["settings"]["dtype"] == "fp16"
    pipeline = open_pipeline(folder)
    assert len(Conditions(tmp_path / "c" / "conditions", pipeline=pipeline)) == 13
    latents = Latents(tmp_path / "c" / "latents", pipeline=pipeline)
    assert latents.conditions().tolist() == chosen(13, 5, 0).tolist() and latents.gather(torch.tensor([0]))[0].any()


def test_conditions_alone_and_the_table(sd_folder, prompts, tmp_path):
    result = done(sd_folder, prompts, tmp_path / "c", "--dtype", "bf16")
    assert "12 distinct, 1 empty ones skipped" in result.stdout and "written to" in result.stdout
    assert "prompts" in result.stderr and not (tmp_path / "c" / "latents").exists()


def test_a_cache_grows(sd_folder, prompts, tmp_path):
    few, more = ("--num_images", 3, "--num_inference_steps", 1), ("--num_images", 15, "--num_inference_steps", 1)
    done(sd_folder, prompts, tmp_path / "c", *few)
    done(sd_folder, prompts, tmp_path / "c", *more)
    done(sd_folder, prompts, tmp_path / "at-once", *more)
    for name, x in contents(tmp_path / "at-once").items():
        torch.testing.assert_close(contents(tmp_path / "c")[name], x, rtol=2e-3, atol=2e-3)
    whole = contents(tmp_path / "c")
    assert json.loads(done(sd_folder, prompts, tmp_path / "c", *few, "--json").stdout)["latents"]["rows"] == 15
    assert all(torch.equal(contents(tmp_path / "c")[name], x) for name, x in whole.items())


def test_captions_of_images_join_the_pool(sd_folder, prompts, tmp_path):
    from PIL import Image

    (tmp_path / "data").mkdir()
    for name, caption in (("a", "dog 0"), ("b", "a fox")):
        Image.new("RGB", (20, 20), "red").save(tmp_path / "data" / f"{name}.png")
        (tmp_path / "data" / f"{name}.txt").write_text(caption)
    arguments = ("--train_data_dir", tmp_path / "data", "--num_images", 2, "--num_inference_steps", 1, "--json")
    record = json.loads(done(sd_folder, prompts, tmp_path / "c", *arguments).stdout)
    assert record["prompts"]["captions_joined"] == 1 and record["conditions"]["rows"] == 14
    conditions, latents = Conditions(tmp_path / "c" / "conditions"), Latents(tmp_path / "c" / "latents")
    assert [conditions.prompts.texts[i] for i in latents.conditions()[2:].tolist()] == ["dog 0", "a fox"]


KILLED = """
import os, random, signal, sys, time, torch
from aria.cli.commands.cache import command
from aria.distill.models import pipelines
from aria.distill.data import store

torch.set_num_threads(1)
opened = pipelines.open_pipeline(sys.argv[2])
pipelines.open_pipeline = lambda *_, **__: opened  # every child has it from its parent
store.SECONDS = 0.0  # a shard for every batch
kills, chance, ended = 0, random.Random(0), False
while not ended:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        command(sys.argv[1:], standalone_mode=False)
        os._exit(0)
    deadline = time.monotonic() + chance.uniform(0, 0.1 * 1.6**kills)  # patience grows until one comes through
    while time.monotonic() < deadline and not ended:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
assert status == 0, status
print(kills)
"""


@pytest.mark.slow
def test_a_cache_that_is_killed_again_and_again_is_the_same(sd_folder, prompts, tmp_path):
    settings = ["--num_images", 6, "--num_inference_steps", 1, "--batch_size", 1]
    flags = ["--pretrained_model_name_or_path", sd_folder, "--prompts", prompts, "--output_dir", tmp_path / "killed"]
    (tmp_path / "killed.py").write_text(KILLED)
    run = run_script(tmp_path / "killed.py", *flags, *settings, output=tmp_path / "output")
    assert run.code == 0, run.stderr
    assert int(run.stdout.split()[-1]) >= 2, "it was hardly ever killed"
    done(sd_folder, prompts, tmp_path / "whole", *settings)
    killed, whole = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    for name, x in whole.items():
        torch.testing.assert_close(killed[name], x, rtol=2e-3, atol=2e-3)


# ------------------------------------------------------------------------------------------------------------- mistakes


def refused(sentence, *arguments):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr and "Traceback" not in result.output
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error")]) == 1


def test_mistakes_exit_with_2_and_one_line(sd_folder, prompts, tmp_path):
    refused("none.txt' does not exist", sd_folder, tmp_path / "none.txt", tmp_path / "c")
    refused("is no pipeline folder", tmp_path, prompts, tmp_path / "c")
    arguments = (sd_folder, prompts, tmp_path / "c")
    refused("none' does not exist", *arguments, "--train_data_dir", tmp_path / "none")
    refused("resolution must be a multiple of 2", *arguments, "--resolution", 15)
    refused("no column 'x'", *arguments, "--caption_column", "x")
    refused("'int8' is not one of", *arguments, "--dtype", "int8")
    assert not (tmp_path / "c").exists(), "mistakes are found before anything is written"
    refused(f"{prompts}: File exists, and it is not a folder", sd_folder, prompts, prompts)


def test_resuming_with_other_settings_is_refused(sd_folder, sdxl_folder, prompts, tmp_path):
    done(sd_folder, prompts, tmp_path / "c", "--num_images", 1, "--num_inference_steps", 1)
    refused("was made with steps = 1, this is 2", sd_folder, prompts, tmp_path / "c",
            "--num_images", 1, "--num_inference_steps", 2)  # fmt: skip
    refused("use another folder", sdxl_folder, prompts, tmp_path / "c")


def test_a_cache_follows_its_prompts(sd_folder, prompts, tmp_path):
    done(sd_folder, prompts, tmp_path / "c", "--num_images", 13, "--num_inference_steps", 1)
    prompts.write_text("\n".join(["a fox", *PROMPTS[:3]]))
    result = done(sd_folder, prompts, tmp_path / "c", "--num_images", 4, "--num_inference_steps", 1)
    assert "4 distinct" in result.stdout and "9 rows of removed prompts" in result.stdout
    conditions, latents = Conditions(tmp_path / "c" / "conditions"), Latents(tmp_path / "c" / "latents")
    assert list(conditions.prompts.texts) == ["a fox", *PROMPTS[:3]]
    assert sorted(latents.conditions().tolist()) == [0, 1, 2, 3]


def test_a_full_disk_is_one_line(sd_folder, prompts, tmp_path, monkeypatch):
    real, room = os.fsync, [8]

    def full(handle):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        refused(f"the disk is full: free some space for {tmp_path / 'c'}", sd_folder, prompts, tmp_path / "c")
    done(sd_folder, prompts, tmp_path / "c")


def test_more_images_than_conditions():
    several = chosen(3, 7, 0).tolist()
    assert sorted(several[:3]) == [0, 1, 2] and several == (several[:3] * 3)[:7]
    assert torch.equal(chosen(1000, 10, 4), chosen(1000, 500, 4)[:10])
    assert not torch.equal(chosen(1000, 10, 4), chosen(1000, 10, 5))
