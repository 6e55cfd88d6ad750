"""The mutation run on a toy: the constants it finds and leaves alone, and the mutants that are killed or survive."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mutations.changes import KINDS, find
from benchmarks.mutations.equivalents import Equivalent

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TOY = '''"""A toy with 3 constants and a docstring."""

from dataclasses import dataclass

LIMIT = 40


@dataclass
class Rule:
    size: int = 9
    fade: float = 0.99

    def double(self, x):
        """Twice, 2 times."""
        if x < 0:
            raise ValueError(f"{x} is below {0}")
        return 2.0 * x

    def last(self, x):
        return x[-1] + x[1 : 2 + 1]

    @classmethod
    def examples(cls):
        return [cls(size=7)]


def total(x, axis: int = 0):
    return x.sum(-1) + x.mean(axis=1) + max(x[0], 1)


def unused():
    return 5
'''
TESTS = """from toy import LIMIT, Rule


def test_invalid_settings_are_refused():
    assert (Rule().size, Rule().fade, LIMIT) == (9, 0.99, 40)


def test_double():
    assert Rule().double(3) == 6
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.mutations", "--root", str(folder)]
    command += ["--source", "toy.py", "--tests", "test_toy.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "test_toy.py").write_text(TESTS)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    return tmp_path


def test_constants_are_found_and_changed(toy: Path) -> None:
    listed = run(toy, "--list").stdout.splitlines()
    changes = [line.split(": ", 1)[1].split("  ->  ") for line in listed]
    assert changes == [
        ["LIMIT = 40", "LIMIT = 44"],
        ["size: int = 9", "size: int = 10"],
        ["fade: float = 0.99", "fade: float = 0.989"],
        ["if x < 0:", "if x < 0.1:"],
        ["return 2.0 * x", "return 2.2 * x"],
        ["return x[-1] + x[1 : 2 + 1]", "return x[-1] + x[1 : 3 + 1]"],
        ["return x[-1] + x[1 : 2 + 1]", "return x[-1] + x[1 : 2 + 2]"],
        ["def total(x, axis: int = 0):", "def total(x, axis: int = 1):"],
        ["return x.sum(-1) + x.mean(axis=1) + max(x[0], 1)", "return x.sum(-1) + x.mean(axis=1) + max(x[0], 1.1)"],
        ["return 5", "return 5.5"],
    ]


LOGIC = """def clip(x: int | None, low=True):
    if x is None or not low:
        return -x
    if (
        0 <= x
        and x * 2 < 3
    ):
        raise ValueError("no" if x > 1 else "yes")
    return [y for y in x if y in x] if ~x else x
"""


def test_decisions_are_mutated_on_request(toy: Path) -> None:
    (toy / "toy.py").write_text(LOGIC)
    listed = run(toy, "--list", "--kinds", "operator,comparison,condition,flag").stdout.splitlines()
    last = "return [y for y in x if y in x] if ~x else x"
    assert [line.split(": ", 1)[1].split("  ->  ") for line in listed] == [
        ["def clip(x: int | None, low=True):", "def clip(x: int | None, low=False):"],
        ["if x is None or not low:", "if not (x is None or not low):"],
        ["if x is None or not low:", "if x is None and not low:"],
        ["if x is None or not low:", "if x is not None or not low:"],
        ["if x is None or not low:", "if x is None or low:"],
        ["return -x", "return x"],
        ["0 <= x", "not (0 <= x"],  # to the end of the next line
        ["and x * 2 < 3", "or x * 2 < 3"],
        ["0 <= x", "0 < x"],
        ["and x * 2 < 3", "and x * 2 <= 3"],
        ["and x * 2 < 3", "and x / 2 < 3"],
        [last, "return [y for y in x if y in x] if not (~x) else x"],
        [last, "return [y for y in x if y in x] if x else x"],
        [last, "return [y for y in x if y not in x] if ~x else x"],
    ]
    refused = run(toy, "--list", "--kinds", "flag,statement")
    assert refused.returncode == 2 and "there is no kind 'statement'; there are constant, operator" in refused.stderr


def test_mutants_are_killed_or_reported(toy: Path) -> None:
    output = toy / "found.json"
    done = run(toy, "--output", str(output))
    assert done.returncode == 1, done.stderr
    assert "survived: toy.py:32 return 5  ->  return 5.5" in done.stdout
    record = json.loads(output.read_text())
    ends = {row["before"]: (row["status"], row["test"]) for row in record["mutations"]}
    assert ends["size: int = 9"] == ("killed", "test_toy.py::test_invalid_settings_are_refused")
    assert ends["return 2.0 * x"] == ("killed", "test_toy.py::test_double")
    assert ends["return 5"] == ("survived", "")
    assert record["summary"]["killed"] == 4 and record["summary"]["not run yet"] == 0
    assert sorted(line.split(" | ")[2] for line in record["skipped"]) == [
        "axis", "axis", "example", "index", "index", "index", "message",
    ]  # fmt: skip
    assert (toy / "toy.py").read_text() == TOY

    (toy / "test_toy.py").write_text(TESTS + "\n\ndef test_unused():\n    import toy\n    assert toy.unused() == 5\n")
    again = run(toy, "--output", str(output), "--only", "unused")  # what survived is run again, the rest is kept
    assert "[1/1" in again.stdout and "killed test_toy.py::test_unused" in again.stdout
    record = json.loads(output.read_text())
    assert record["summary"]["killed"] == 5
    assert [entry["mutants"] for entry in record["runs"]] == [10, 1]
    assert record["runs"][1]["command"].startswith("python -m benchmarks.mutations --root")


def test_tests_that_fail_anyway_are_refused(toy: Path) -> None:
    (toy / "test_toy.py").write_text("def test_nothing():\n    import toy\n    assert not toy.LIMIT\n")
    done = run(toy, "--output", str(toy / "found.json"))
    assert done.returncode == 1 and "tests fail without any change: test_toy.py::test_nothing" in done.stderr


def test_a_mutant_that_never_ends_is_a_timeout(toy: Path) -> None:
    (toy / "toy.py").write_text("def stop():\n    return 1\n")
    (toy / "test_toy.py").write_text("import toy\n\n\ndef test_stop():\n    while toy.stop() != 1:\n        pass\n")
    output = toy / "found.json"
    done = run(toy, "--output", str(output), "--patience", "1")
    assert done.returncode == 0, done.stderr
    assert json.loads(output.read_text())["mutations"][0]["status"] == "timeout"


def test_an_entry_excuses_its_constants_or_the_one_change_it_names(toy: Path) -> None:
    changes = {change.after: change for change in find(toy, "toy.py", KINDS).found if change.before == "if x < 0:"}
    assert set(changes) == {"if x <= 0:", "if x < 0.1:", "if not (x < 0):"}
    constants, named = Equivalent("toy.py", "x < 0", "why"), Equivalent("toy.py", "x < 0", "why", "x <= 0")
    assert [after for after, change in changes.items() if constants.covers(change)] == ["if x < 0.1:"]
    assert [after for after, change in changes.items() if named.covers(change)] == ["if x <= 0:"]
    assert not any(Equivalent("other.py", "x < 0", "why").covers(change) for change in changes.values())
