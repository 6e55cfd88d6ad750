"""The commands: what they print, and how they report mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from aria.cli import main
from aria.cli.errors import Refusal, refusals

PLUG_IN = """
from aria import Allocator

class Never(Allocator):
    def __call__(self, estimate, mass):
        return mass * 0
"""


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_plugins_lists_what_specs_can_name():
    names = json.loads(run("plugins", "--json").output)
    assert {"ema", "bank"} <= set(names["tracker"])
    assert {"proportional", "oracle"} <= set(names["allocator"])
    assert {"kmeans", "labels"} <= set(names["partitioner"])
    assert {"output", "feature"} <= set(names["objective"]) and "min_snr" in names["weighting"]
    assert "window_ucb" in run("plugins").output


@pytest.mark.parametrize(
    "arguments", [("tracker", "window(4)"), ("allocator", "ucb(scale=2)"), ("partitioner", "labels('style')")]
)
def test_check_passes_what_conforms(arguments):
    result = run("check", *arguments)
    assert result.exit_code == 0, result.output
    assert "conforms" in result.output


def test_check_fails_what_does_not(tmp_path):
    (tmp_path / "never.py").write_text(PLUG_IN)
    result = run("check", "allocator", f"{tmp_path}/never.py:Never")
    assert result.exit_code == 1
    assert "Never returned weights whose total is not positive" in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("check", "allocator", "sofmax"), "unknown allocator 'sofmax' (did you mean 'softmax'?)"),
        (("check", "tracker", "ema(rate=7)"), "rate must lie in (0, 1], got 7"),
        (("check", "tracker", "nowhere.py:Thing"), "there is no file 'nowhere.py'"),
        (("check", "gadget", "ema"), "'gadget' is not one of"),
    ],
)
def test_mistakes_exit_with_2_and_one_line(arguments, sentence):
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_a_mistake_in_a_spec_is_reported_in_one_line():
    for spec in ("sofmax", "ema(rate=7)"):
        result = run("check", "tracker", spec)
        assert result.exit_code == 2 and len(result.output.splitlines()) == 1


def test_errors_of_libraries_are_joined_into_one_line():
    for error in (OSError("torn:\n  no footer\n"), ValueError("torn:\n  no footer\n")):
        with pytest.raises(Refusal, match="torn: no footer$"), refusals("a file"):
            raise error


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from aria.cli import main;"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0;"
        "print([name for name in ('torch', 'numpy', 'scipy', 'diffusers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_command_is_refused_in_one_line():
    result = CliRunner().invoke(main, ["distil"])
    assert result.exit_code == 2
    assert result.output.strip().splitlines() == [result.output.strip()]
    assert "did you mean 'distill'?" in result.output


@pytest.mark.parametrize(
    "words",
    [["distill", "--alocator", "x"], ["sample"], ["bench", "--jobs", "x"], ["--foo"], ["bench", "--task"]],
    ids=" ".join,
)
def test_a_mistyped_command_line_is_refused_in_one_line(words):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and result.stdout == ""
    assert re.fullmatch(r"Error: [^\n]+\n", result.stderr), result.stderr


def test_a_program_without_words_shows_its_help():
    assert CliRunner().invoke(main, []).output.startswith("Usage: ")


def test_a_missing_package_is_one_line_and_a_missing_module_of_this_one_is_a_bug():
    def needs(name):
        try:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        except ModuleNotFoundError as error:
            raise ImportError(f"clustering needs {name}: pip install it") from error

    with pytest.raises(Refusal, match="^clustering needs sklearn.cluster: pip install it$"), refusals():
        needs("sklearn.cluster")
    for name in ("aria.nothing", "theory"):
        with pytest.raises(ImportError), refusals():
            needs(name)
    with pytest.raises(ImportError), refusals():
        raise ImportError("cannot import name 'x' from 'torch'")
