"""The tutorial, command by command as it stands on the page, with smaller numbers."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from aria.cli import main

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs diffusers", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")

SMALLER = {
    "--num_images 8": "--num_images 4 --num_inference_steps 2",
    "--max_train_steps 200": "--max_train_steps 2 --logging_steps 1",
    "--train_batch_size 16": "--train_batch_size 2",
    "--validation_steps 100": "--validation_steps 1",
    "--output owls.png": "--output owls.png --num_inference_steps 2",
    "steps=200": "steps=2",
    '"a photo of a red fox in the snow")': '"a photo of a red fox in the snow", num_inference_steps=2)',
}
"""What is written on the page, and what the test runs in its place."""

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


def commands(program):
    """The words of each command of a program on the page."""
    lines = "".join(blocks("console")).replace("\\\n", " ").splitlines()
    return [shlex.split(smaller(line))[2:] for line in lines if line.startswith(f"$ {program} ")]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what the reader has: the teacher that the page makes, and its prompts."""
    from accelerate.state import AcceleratorState

    monkeypatch.chdir(tmp_path)
    ((script, *rest),) = commands("python")
    monkeypatch.setattr(sys, "argv", [script, *rest])
    runpy.run_path(str(ROOT / script), run_name="__main__")
    (prompts,) = blocks("csv")
    (tmp_path / "prompts.csv").write_text(prompts)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision, this page perhaps another
    yield tmp_path
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
def test_the_tutorial_works_as_written(desk):
    assert [words[0] for words in commands("aria")] == list(LEAVES)
    for words in commands("aria"):
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
