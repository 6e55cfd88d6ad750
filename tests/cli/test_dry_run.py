"""``aria distill --dry_run`` and the summary before training: they describe the run, and write nothing."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from aria.cli import main

ONE = ("--partitioner", "one_region")
pytestmark = pytest.mark.usefixtures("teachers_once")


@pytest.fixture(scope="module")
def flags(tmp_path_factory, sd_folder, student_folder):
    folder = tmp_path_factory.mktemp("dry-run")
    (folder / "prompts.txt").write_text("".join(f"a cat, number {n}\n" for n in range(24)))
    inputs = {"pretrained_model_name_or_path": sd_folder, "student": student_folder}
    settings = inputs | {"prompts": folder / "prompts.txt", "num_images": 4, "num_inference_steps": 2}
    return [str(word) for name, value in settings.items() for word in (f"--{name}", value)]


def distil(flags, output, *more):
    return CliRunner().invoke(main, ["distill", *flags, "--output_dir", str(output), *map(str, more)])


def test_a_dry_run_prints_what_would_happen_and_writes_nothing(flags, tmp_path):
    more = ("--train_batch_size", 4, "--gradient_accumulation_steps", 2, "--max_train_steps", 30)
    ended = distil(flags, tmp_path / "out", *more, "--dry_run")
    assert ended.exit_code == 0, ended.output
    rows = dict(line.split(maxsplit=1) for line in ended.stdout.split("\n\n")[0].splitlines())
    assert rows["pool"].startswith("24 prompts of") and rows["steps"] == "30"
    assert rows["regions"] == "auto = kmeans(3, seed=0)"
    assert rows["batch"] == "8 samples per step (4 per pass x 2 passes)"
    assert rows["output"] == str(tmp_path / "out") and not (tmp_path / "out").exists()
    assert "UNet2DConditionModel" in rows["teacher"] and "trained" in rows["student"]


def test_memory_grows_with_the_batch_and_falls_with_checkpointing_of_gradients(flags, tmp_path):
    def activations(*more):
        text = distil(flags, tmp_path / "out", "--dry_run", *more).stdout
        row = next(line for line in text.splitlines() if "activations" in line)
        return float(row.split()[-2])

    small, large = activations("--train_batch_size", 64), activations("--train_batch_size", 128)
    assert large == pytest.approx(2 * small, rel=0.1)
    assert activations("--train_batch_size", 128, "--gradient_checkpointing") < 0.8 * large


def test_a_run_begins_with_the_same_summary(flags, tmp_path):
    dry = distil(flags, tmp_path / "out", *ONE, "--max_train_steps", 1, "--dry_run").stdout.split("\n\n")[0]
    ended = distil(flags, tmp_path / "out", *ONE, "--max_train_steps", 1)
    assert ended.exit_code == 0 and ended.stderr.startswith(dry.strip())
    quiet = distil(flags, tmp_path / "quiet", *ONE, "--max_train_steps", 1, "--quiet")
    (warning,) = quiet.stderr.splitlines()  # which is no progress, and is shown
    assert warning.startswith("24 of 24 prompts are longer than the text encoder's 12 tokens")


def test_a_run_cannot_be_shortened(flags, tmp_path):
    assert distil(flags, tmp_path / "out", *ONE, "--max_train_steps", 2).exit_code == 0
    ended = distil(flags, tmp_path / "out", *ONE, "--max_train_steps", 1)
    assert ended.exit_code == 2 and "checkpoint-2 is beyond max_train_steps=1" in ended.stderr.splitlines()[-1]
