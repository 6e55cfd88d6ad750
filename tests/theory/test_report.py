"""``aria-sim report``: one page that needs nothing else, and one line for whoever mistypes."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser
from types import MappingProxyType

import pytest
from click.testing import CliRunner

from aria import html
from theory import claims, figures
from theory.cli import main
from theory.figures import closed_loop, error_vs_rate


def run(*arguments):
    return CliRunner().invoke(main, ["report", *(str(argument) for argument in arguments)])


class Outline(HTMLParser):
    """Checks that elements close in order, and collects ids, links and what is loaded."""

    VOID = ("meta",)

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.loads, self.tags = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href"):
                self.links.append(value)
            if name in ("src", "srcset", "data", "action"):
                self.loads.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(page):
    found = Outline()
    found.feed(page)
    assert not found.open
    return found


@pytest.fixture(scope="module")
def small():
    """A report of two claims and two figures with few points."""
    some = {name: figures.FIGURES[name] for name in ("closed-loop", "error-vs-rate")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "CLAIMS", claims.CLAIMS[:2])
        patch.setattr(figures, "FIGURES", MappingProxyType(some))
        patch.setattr(closed_loop, "DRIFTS", closed_loop.DRIFTS[::3])
        patch.setattr(error_vs_rate, "RATES", error_vs_rate.RATES[::4])
        yield


@pytest.fixture(scope="module")
def page(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    result = run("--out", path)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 claims, 0 fallen")
    return path.read_text(encoding="utf-8")


def test_the_page_is_whole_and_loads_nothing(page):
    found = outline(page)
    assert found.tags.count("svg") == 2
    assert not found.loads and "script" not in found.tags and "@import" not in page and "url(http" not in page
    assert all(link.startswith("#") for link in found.links)
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert len(set(found.ids)) == len(found.ids)
    assert "prefers-color-scheme: dark" in page


def test_the_page_says_what_was_claimed_and_measured(page):
    for claim in claims.CLAIMS:
        assert html.text(claim.name) in page
    assert page.count(">holds<") == 2 and "FALLS" not in page
    assert "A closed loop breaks the textbook bound" in page
    assert "--quick --seed 0" in page


def test_the_same_seed_gives_the_same_page(page, tmp_path):
    again, other = tmp_path / "again.html", tmp_path / "other.html"
    assert run("--out", again).exit_code == run("--out", other, "--seed", 1).exit_code == 0
    assert again.read_text(encoding="utf-8") == page != other.read_text(encoding="utf-8")


def test_a_claim_that_falls_is_reported_and_exits_with_1(small, monkeypatch, tmp_path):
    wrong = claims.CLAIMS[0].checks[0]._replace(reference=1e-6)
    monkeypatch.setattr(claims, "CLAIMS", (dataclasses.replace(claims.CLAIMS[0], checks=(wrong,), mutants=()),))
    monkeypatch.setattr(figures, "FIGURES", MappingProxyType({}))
    path = tmp_path / "report.html"
    result = run("--out", path)
    assert result.exit_code == 1, result.output
    assert "1 fallen" in result.stdout and "FALLS" in path.read_text(encoding="utf-8")


def test_figures_alone(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("--figures", tmp_path)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["closed-loop.svg", "error-vs-rate.svg"]
    assert "<svg" in (tmp_path / "closed-loop.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--out", "nowhere/report.html"), "there is no folder nowhere to write report.html to"),
        (("--out", "."), ". is a folder, give a file"),
        (("--figures", "nowhere"), "there is no folder nowhere"),
        (("--seed", "-1"), "--seed"),
        (("--seed", "x"), "'x' is not a valid integer"),
        (("--ouf", "a"), "--ouf"),
    ],
)
def test_mistakes_are_one_line(small, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == "" and message in result.stderr and len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused_before_anything_runs(small, tmp_path, monkeypatch):
    monkeypatch.setattr("aria.files.os.access", lambda path, mode: False)
    result = run("--out", tmp_path / "report.html")
    assert result.exit_code == 2
    assert "permission denied" in result.stderr and len(result.stderr.splitlines()) == 1


def test_what_fails_while_writing_is_one_line_too(small, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", MappingProxyType({}))
    monkeypatch.setattr("theory.commands.report._page", lambda *_: "x")
    monkeypatch.setattr("theory.commands.report.Path.write_text", _full)
    result = run("--out", tmp_path / "report.html")
    assert result.exit_code == 2
    assert "the disk is full: free some space for report.html" in result.stderr and "Traceback" not in result.stderr


def _full(*_, **__):
    raise OSError(28, "No space left on device", "report.html")


def test_what_is_not_installed_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("theory.commands.report.find_spec", lambda name: None)
    result = run("--out", tmp_path / "report.html")
    assert result.exit_code == 2
    assert "aria-distill[sim]" in result.stderr and len(result.stderr.splitlines()) == 1


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from theory.cli import main;"
        "assert CliRunner().invoke(main, ['report', '--help']).exit_code == 0;"
        "print([name for name in ('torch', 'numpy', 'scipy', 'matplotlib', 'diffusers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------------------- the html


def test_everything_is_escaped():
    hostile = "<script>alert(\"1\")</script> & 'x'"
    for made in (
        html.text(hostile),
        html.tag("p", hostile, title=hostile),
        html.table([{hostile: hostile}]),
        html.page(hostile, hostile),
    ):
        assert "<script" not in made
        outline(made)


def test_what_is_html_stays():
    assert html.tag("p", html.tag("b", "x")) == "<p><b>x</b></p>"


def test_tables_show_numbers_and_what_is_unknown():
    made = html.table([{"a": 0.123456, "b": None, "c": True}, {"a": float("nan"), "b": "y", "c": False}])
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", made)
    assert cells == ["0.1235", "–", "True", "–", "y", "False"]
    assert made.count('class="number"') == 3
    assert html.table([]) == "<p>(none)</p>"
