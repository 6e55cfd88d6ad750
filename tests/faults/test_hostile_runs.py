"""`aria report` of a run's folder that someone else has made or that a disk has damaged: a page, or one line.

Each accident is seeded; a mutation that no schema, link or limit refuses would end in a traceback or hang here.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import random
import shutil
import sys
from types import SimpleNamespace

import pytest

if importlib.util.find_spec("diffusers") is None or importlib.util.find_spec("matplotlib") is None:
    pytest.skip("needs diffusers and matplotlib", allow_module_level=True)

import numpy as np
from click.testing import CliRunner

from aria import plots
from aria.cli import main
from aria.distill.evaluation.report import Record, figures, page
from aria.distill.evaluation.report.page import _written
from aria.distill.evaluation.report.record import PICTURE
from tests.distill.evaluation.test_report import read, write_run

pytestmark = pytest.mark.usefixtures("alarm")

SECRET = b"a line of another file"
STRANGE = [
    None, True, -1, 0, 3, 1e308, -1e308, 5e-324, float("nan"), float("inf"), 10**18, 10**400, 1.5, "", "x",
    "\x1b]0;title\x07\u202e\ud800", [], {}, [1], [[[[1]]]], {"a": {"b": 1}}, ["x", None],
]  # fmt: skip
LINES = ["{}", "[]", "null", '{"step": true}', '{"step": -1}', '{"step": 3, "region": -1, "n": 1, "mean": 1, "q": 1}']
QUANTISED = {
    "bytes": {"before": 4e6, "after": 1e6}, "discrepancy": {"before": 0.1, "after": 0.2}, "samples": 6, "student": "x",
    "regions": [{"region": 0, "n": 3, "before": 0.1, "after": 0.2}, {"region": 1, "n": 3, "before": 0.0, "after": 0.2}],
}  # fmt: skip
FILES = ("config.json", "losses.jsonl", "validation.jsonl", "discrepancies.jsonl", "quantised/quantisation.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("runs") / "whole", steps=8, regions=3)
    (folder / "quantised").mkdir()
    (folder / "quantised" / "quantisation.json").write_text(json.dumps(QUANTISED))

    return folder


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


@pytest.fixture
def undrawn(monkeypatch):
    """Draw no figures, which takes the longest, but compute what they show."""

    def painted(chart, name):
        _, axes = zip(*(chart._blank(1) for _ in range(chart.panels)))
        chart.paint([axis for (axis,) in axes])
        return ["<svg></svg>"] * chart.panels

    monkeypatch.setattr(plots.Chart, "svg", painted)


def report(run, tmp_path):
    """The page, or the line that refuses it."""
    output = tmp_path / "page.html"
    output.unlink(missing_ok=True)
    result = CliRunner().invoke(main, ["report", str(run), "--output", str(output)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 2)
    line = result.stderr.strip("\n")
    assert result.exit_code == 0 or (line.startswith("Error: ") and "\n" not in line and line.isprintable()), line
    return output.read_text() if result.exit_code == 0 else line


def places(value, at=()):
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def changed(rng, value):
    """One value, somewhere inside, removed or replaced by a strange one."""
    value = json.loads(json.dumps(value))
    *way, last = rng.choice(list(places(value)))
    holder = value
    for key in way:
        holder = holder[key]
    if rng.random() < 0.25:
        del holder[last]
    else:
        holder[last] = rng.choice(STRANGE)
    return value


def damage(rng, path):
    text = path.read_text()
    rows = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]
    match rng.choice(["value", "value", "value", "column", "line", "cut", "literal"]):
        case "value":
            place = rng.randrange(len(rows))
            rows[place] = changed(rng, rows[place])
        case "column":
            key, strange = rng.choice(sorted(rows[0])), rng.choice(STRANGE)
            rows = [row | {key: strange} for row in rows]
        case "line":
            return path.write_text(text + rng.choice(LINES) + "\n")
        case "cut":
            return path.write_text(text[: rng.randrange(len(text))])
        case "literal":
            return path.write_text(rng.choice(["{}", "[]", "null", "", "\n", "[" * 5000, '{"a":' * 5000, "9" * 5000]))
    ending = "\n" if path.suffix == ".jsonl" else ""
    return path.write_text("".join(json.dumps(row) + ending for row in rows))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", FILES)
def test_any_damage_gives_a_page_or_one_line(name, run, whole, tmp_path):
    rng = random.Random(f"5309-{name}")
    refused = 0
    for _ in range(16):
        damage(rng, run / name)
        refused += report(run, tmp_path).startswith("Error: ")
        shutil.copy(whole / name, run / name)
    assert 2 < refused < 16, "some damage has to be refused, and some not"
    assert not report(run, tmp_path).startswith("Error: ")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", [*FILES, "partition.safetensors"])
def test_what_is_no_file_of_the_run_is_refused_by_name(name, run, tmp_path):
    path = run / name
    (tmp_path / "other").write_bytes(SECRET)
    path.unlink()
    for make, word in (
        (lambda: path.symlink_to(tmp_path / "other"), "is a link"),
        (lambda: path.symlink_to(tmp_path / "nowhere"), "is a link"),
        (lambda: path.symlink_to("/dev/zero"), "is a link"),
        (lambda: os.mkfifo(path), "is a pipe"),
        (path.mkdir, "is a folder"),
    ):
        make()
        line = report(run, tmp_path)
        assert line.startswith("Error: ")
        assert (str(path) in line and word in line) or "it has no config.json" in line
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.usefixtures("undrawn")
def test_only_pngs_of_the_run_are_embedded(run, tmp_path):
    """Grids are left out with a line, since the rest of the page does not depend on them."""
    grids = sorted((run / "samples").iterdir())
    shown, (first, last) = report(run, tmp_path), grids
    assert shown.count("<img ") == 2
    (tmp_path / "other.png").write_bytes(first.read_bytes() + SECRET)
    hidden = base64.b64encode(SECRET).decode()[:20]

    def left_out(reason):
        text = report(run, tmp_path)
        assert text.count("<img ") == 1 and hidden not in text
        assert f"The image of step 4 is left out: {first}" in text and reason in text

    first.unlink()
    first.symlink_to(tmp_path / "other.png")
    left_out("is a link")
    first.unlink()
    os.mkfifo(first)
    left_out("is a pipe")
    first.unlink()
    first.write_bytes(SECRET)
    left_out("is no PNG file")
    with first.open("wb") as file:
        file.write(last.read_bytes())
        file.truncate(PICTURE + 1)
    left_out("is larger than")
    first.unlink()
    (run / "samples" / "step-x.png").write_bytes(last.read_bytes())  # no grid's name: a run writes none such
    assert report(run, tmp_path).count("<img ") == 1
    shutil.move(run / "samples", tmp_path / "elsewhere")
    (run / "samples").symlink_to(tmp_path / "elsewhere")
    text = report(run, tmp_path)
    assert "<img " not in text and "their folder is a link" in text
    assert "The image of step" not in text, "not even the names of its files are shown"


@pytest.mark.usefixtures("undrawn")
def test_a_partition_of_another_run_is_refused_in_one_line(run, tmp_path):
    other = write_run(tmp_path / "other", steps=2, regions=2)
    shutil.copy(other / "partition.safetensors", run / "partition.safetensors")
    assert "names region 2" not in report(run, tmp_path)  # the third region is never seen
    row = {"step": 9, "region": 2, "n": 1, "mean": 1.0, "q": 0.5}
    with (run / "discrepancies.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    assert "names region 2, the run has 2 regions" in report(run, tmp_path)


def test_extreme_numbers_are_drawn(run, tmp_path):
    """What a float32 can hold and a log may contain never ends in a warning of numpy or matplotlib."""
    for name, values in {
        "losses.jsonl": {"output": [1e38, float("inf"), 1e-300, float("nan")]},
        "validation.jsonl": {"gap": [float("inf"), 0.0]},
        "discrepancies.jsonl": {"q": [1e-300, 1.0], "mean": [float("nan"), 3e38, float("inf")]},
    }.items():
        rows = [json.loads(line) for line in (run / name).read_text().splitlines()]
        rows = [row | {key: some[place % len(some)] for key, some in values.items()} for place, row in enumerate(rows)]
        (run / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not report(run, tmp_path).startswith("Error: ")


@pytest.mark.parametrize("seconds", [1e12, 1e20, -1e20])
def test_a_time_that_no_calendar_has_is_unknown(seconds):
    log = SimpleNamespace(stat=lambda: SimpleNamespace(st_mtime=seconds))
    folder = type("Folder", (), {"__truediv__": lambda self, name: log})()
    assert _written(SimpleNamespace(folder=folder)) == "unknown"


@pytest.mark.usefixtures("undrawn")
def test_prompts_may_change_when_a_run_is_resumed(run):
    rows = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    rows[-1]["prompts"] = [{"prompt": "new", "gap": 1.0}, *rows[-1]["prompts"]]
    (run / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read(page(Record(run)))


def test_a_mean_over_what_is_known():
    found = figures.running_mean(np.array([np.nan, 2.0, np.nan, 4.0]), 2)
    assert np.isnan(found[0]) and found[1:].tolist() == [2.0, 2.0, 4.0]


@pytest.mark.usefixtures("undrawn")
def test_a_page_does_not_grow_with_the_square_of_the_regions(run, monkeypatch):
    """A partition file of a few kilobytes can have a million regions: their sums are taken once, not once for each."""
    seen = Record(run).seen()
    assert seen.samples is seen.samples
    monkeypatch.setattr(sys.modules[Record.__module__], "CELLS", 7)
    assert Record(run).seen().n.shape == (2, 3)  # 6 cells at most
    module = sys.modules[page.__module__]
    monkeypatch.setattr(module, "ROWS", 1)
    monkeypatch.setattr(module, "MOST", 2)
    words = read(page(Record(run)))
    assert "1 more regions" in words and "1 further regions are left out" in words


def test_every_line_has_the_terms_of_the_first(run, tmp_path):
    rows = [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]
    del rows[-1]["feature"]
    (run / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert report(run, tmp_path) == f"Error: {run / 'losses.jsonl'}, line 8: feature is missing"
