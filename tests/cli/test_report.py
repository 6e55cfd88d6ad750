"""``aria report``: writes one file, and reports mistakes in one line. What is on the page: tests/distill."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from aria import Pool, partitioners, registry
from aria.cli.commands.report import command
from theory import bounds


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
    assert "not known: [Errno 2] No such file or directory" in output.read_text()
    assert [path.name for path in begun.iterdir()] == ["config.json"], "a report leaves the run as it is"


def test_the_page_says_what_allocation_is_worth(begun, tmp_path):
    """Four regions with equal shares, discrepancies 1, 2, 4 and 8 and exponent ½."""
    regions = registry.partitioner("labels('region')").fit(Pool(columns={"region": list("abcd")}))
    partitioners.save(regions, begun / "partition.safetensors")
    losses, rows = [], []
    for step in range(1, 201):
        losses.append({"step": step, "output": 4 * step**-0.5, "lr": 1e-3, "steps_per_second": 1.0})
        for region in range(4):
            mean = 2**region * step**-0.5
            rows.append({"step": step, "region": region, "n": 4, "mean": mean, "square": 1.01 * mean**2, "q": 0.25})
    for name, lines in (("losses", losses), ("discrepancies", rows)):
        (begun / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = tmp_path / "page.html"
    assert run(begun, "--output", output).exit_code == 0
    gain = 100 * bounds.worth([0.25] * 4, [1, 2, 4, 8])
    (shown,) = re.findall(r"these 4 regions can gain at most ([\d.]+) % \[[\d.]+, [\d.]+\]", output.read_text())
    assert float(shown) == pytest.approx(gain, rel=0.05)


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
