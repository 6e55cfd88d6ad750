"""Warnings of the library reach a terminal as text."""

from __future__ import annotations

import logging

import click
import pytest
from click.testing import CliRunner

from aria.cli import main


@pytest.fixture
def shown(monkeypatch):
    """What a command that warns of a text shows on standard error."""

    def show(*message):
        @click.command()
        def command():
            logging.getLogger("aria.somewhere").warning(*message)
            logging.getLogger("aria.somewhere").info("not this")

        monkeypatch.setattr(main, "get_command", lambda ctx, name: command)
        result = CliRunner().invoke(main, ["check"])
        assert result.exit_code == 0, result.output
        return result.stderr

    return show


def test_a_warning_is_one_line_without_control_codes(shown):
    assert shown("%s is damaged; trying an older one", "a\x1b[2J\n\u202eb") == (
        "a\\x1b[2J\\n\\u202eb is damaged; trying an older one\n"
    )
    assert shown("100%") == "100%\n", "once for each call, however often the command ran"
