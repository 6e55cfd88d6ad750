"""docs/theory.md shows what the commands print and describes every regime as the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from theory.cli import main
from theory.regimes import DESCRIBED

TEXT = (Path(__file__).parents[2] / "docs/theory.md").read_text(encoding="utf-8")
SESSIONS = [
    block.split("\n", 1) for block in re.findall(r"```console\n\$ aria-sim (.*?)```", TEXT, re.DOTALL) if "\n" in block
]


@pytest.mark.parametrize(("command", "output"), SESSIONS)
def test_commands_print_what_is_shown(command, output):
    result = CliRunner().invoke(main, shlex.split(command))
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == output.strip()


def test_the_page_begins_with_an_example():
    example, _, _ = TEXT.partition("\n| ")
    assert SESSIONS and f"$ aria-sim {SESSIONS[0][0]}" in example and ">>>" in example


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_regime_is_in_the_table(name):
    named = DESCRIBED[name]
    assert f"| `{name}` | {named.description} | `{named.parts}` |" in TEXT


def test_the_table_has_no_other_regimes():
    section = TEXT.split("\n## Regimes\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)`", section, re.MULTILINE) == list(DESCRIBED)
