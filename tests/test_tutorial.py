"""The tutorial, command by command as it stands on the page, on a very small teacher and with smaller numbers."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from aria.cli import main

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs diffusers", allow_module_level=True)

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")

SMALLER = {
    "kmeans(64)": "kmeans(3)",  # the page shows twelve prompts
    "--num_images 2000": "--num_images 4 --num_inference_steps 2",
    "--max_train_steps 20000": "--max_train_steps 2 --logging_steps 1",
    "--train_batch_size 16": "--train_batch_size 2",
    "--validation_steps 1000": "--validation_steps 1",
    "--output owls.png": "--output owls.png --num_inference_steps 2",
    '"cuda"': '"cpu"',
    "KMeans(64)": "KMeans(3)",
    "steps=20000": "steps=2",
    '"a photo of a red fox in the snow")': '"a photo of a red fox in the snow", num_inference_steps=2)',
}
"""What is written on the page, and what the test runs in its place. The teacher's folder is called as on the page."""

LEAVES = {
    "prune": ["student/student.json", "student/diffusion_pytorch_model.safetensors"],
    "cache": ["cache/cache.json"],
    "partition": [],
    "distill": ["distilled/model_index.json", "distilled/samples/step-00000002.png", "distilled/validation.jsonl"],
    "sample": ["owls.png"],
    "report": ["report.html"],
}
"""The six commands in order, and files that each has written when it ends."""


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


def smaller(text):
    for written, run in SMALLER.items():
        text = text.replace(written, run)
    return text


def commands():
    """The words of each ``aria`` command on the page."""
    lines = [block.removeprefix("$ ").replace("\\\n", " ") for block in blocks("console")]
    return [shlex.split(smaller(line))[1:] for line in lines if line.startswith("aria ")]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what the reader has: a teacher and the prompts on the page."""
    from accelerate.state import AcceleratorState

    from tests.distill import pipelines

    pipelines.save_sd(tmp_path / "stable-diffusion-v1-5")
    (prompts,) = blocks("csv")
    (tmp_path / "prompts.csv").write_text(prompts)
    monkeypatch.chdir(tmp_path)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision, this page another
    yield tmp_path
    AcceleratorState._reset_state(reset_partial_state=True)


def test_the_tutorial_works_as_written(desk):
    assert [words[0] for words in commands()] == list(LEAVES)
    for words in commands():
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, f"{words}: {result.output}"
        for name in LEAVES[words[0]]:
            assert (desk / name).is_file(), name
    assert "finished: 2 steps" in (desk / "report.html").read_text()
    assert "without their prompts" not in (desk / "report.html").read_text()
    for code in blocks("python"):
        exec(smaller(code), {})
    assert (desk / "fox.png").is_file() and (desk / "by-hand" / "config.json").is_file()


@pytest.mark.parametrize("written", SMALLER)
def test_what_is_replaced_is_on_the_page(written):
    assert written in PAGE
