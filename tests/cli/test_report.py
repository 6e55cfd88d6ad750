"""``aria report``: writes one file, and reports mistakes in one line. What is on the page: tests/distill."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from aria.cli.commands.report import command


def run(*arguments):
    return CliRunner().invoke(command, list(map(str, arguments)))


@pytest.fixture
def begun(tmp_path):
    """A run that has only written its settings."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"training": {"max_train_steps": 7}}))
    return folder


def test_a_run_that_has_just_begun_gets_a_page(begun, tmp_path):
    output = tmp_path / "page.html"
    result = run(begun, "--output", output)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(output)
    assert "nothing logged yet (0 of 7 steps)" in output.read_text()
    assert [path.name for path in begun.iterdir()] == ["config.json"], "a report leaves the run as it is"


def test_mistakes_exit_with_2_and_one_line(begun, tmp_path):
    def refused(sentence, *arguments):
        result = run(*arguments)
        assert result.exit_code == 2
        assert sentence in result.stderr and len(result.stderr.splitlines()) == 1

    refused("is no folder of a run: it has no config.json", tmp_path / "nowhere")
    refused("there is no folder", begun, "--output", tmp_path / "nowhere" / "page.html")
    refused("is a folder, give a file", begun, "--output", tmp_path)
    (begun / "config.json").write_text("{")
    refused("does not hold the settings of a run", begun, "--output", tmp_path / "page.html")
    (begun / "config.json").write_text("[1]")
    refused("does not hold the settings of a run", begun, "--output", tmp_path / "page.html")
