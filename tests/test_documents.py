"""The documents: links lead somewhere, options exist, and every code block is run or at least parsed."""

from __future__ import annotations

import ast
import gc
import json
import re
import shlex
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

import click
import pytest
from click.testing import CliRunner

from aria.bench import summary
from aria.bench.matrix import MATRICES
from aria.tasks.emoji.kinds import KINDS
from benchmarks import credit, matrix_table, response, rules
from docs._tools import api_pages, commands_page

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
PROGRAMS = commands_page.programs()

RUN_ELSEWHERE = {"tutorial.md", "benchmark.md"}
"""Pages whose Python without prompts is run by a test of its own."""
SHORT = ("aria plugins", "aria-sim recommend --sigma 1 --drift 0.01")
"""Commands on the pages that are run here as they stand."""
FOR_OTHERS = {"CHANGELOG.md", "CONTRIBUTING.md"}
"""Pages whose options are those of pytest and of earlier versions."""
NOT_OURS = {
    "--num_processes", "--multi_gpu", "--use_fsdp", "--num_machines", "--machine_rank", "--main_process_ip",
    "--main_process_port", "--standalone", "--nproc_per_node", "--nnodes", "--rdzv_backend", "--rdzv_id",
    "--rdzv_endpoint",
}  # fmt: skip
"""Options of accelerate and torchrun."""


def named(page: Path) -> str:
    return page.name


def test_every_page_with_prompts_is_run():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    shown = {str(page.relative_to(ROOT)) for page in PAGES if "\n>>> " in page.read_text()}
    assert shown - set(settings["testpaths"]) == set()


# --------------------------------------------------------------------------------------------------------- front page


def changes(world: str, arm: str, against: str) -> list[float]:
    """By how many per cent an arm's generation gap differs from another's at the end, uniformly, seed by seed."""
    results = json.loads((ROOT / "benchmarks" / "results" / f"bench-{world}-cpu.json").read_text())
    rows = [row for row in results["records"] if (row["metric"], row["group"]) == ("gap", "uniform")]
    ends = {(row["arm"], row["seed"]): row["value"] for row in sorted(rows, key=lambda row: row["step"])}
    return [100 * (ends[arm, seed] / ends[against, seed] - 1) for seed in results["seeds"]]


def test_the_front_page_states_what_was_measured():
    exact = ["arms", "wide", "unlearnable", "homogeneous", "unskewed", "long"]
    falls = [-mean(changes(world, "aria", "rc")) for world in exact]
    adds = [mean(changes(world, "aria", "aria-static")) for world in (*exact, "digits")]
    trained, tracked = changes("shapes-5", "aria", "rc"), changes("shapes-5", "aria", "aria-static")
    error = stdev(tracked) / len(tracked) ** 0.5
    page = " ".join((ROOT / "README.md").read_text().split())
    for measured in (
        f"{min(falls):.0f} to {max(falls):.0f} % in six synthetic worlds with exact teachers",
        f"{-mean(changes('digits', 'aria', 'rc')):.0f} % on digits",
        f"{-mean(trained):.0f} ± {stdev(trained) / len(trained) ** 0.5:.0f} % with a small trained",
        f"changes the distance by −{-min(adds):.1f} to +{max(adds):.1f} %",
        f"a further {-mean(tracked):.1f} ± {error:.1f} % off what the static mix leaves (five seeds)",
    ):
        assert measured in page


def test_the_front_page_states_what_the_matrix_says():
    rows = matrix_table.rows()
    page = " ".join((ROOT / "README.md").read_text().split())
    found = summary.summary(rows)
    assert f"{len(rows)} of {len(MATRICES['emoji-core'])} rows" in page
    over = {arm: found["rc"]["groups"]["uniform"][arm] for arm in ("aria", "static")}
    shown = {arm: f"{-one['median']:.1f} %" for arm, one in over.items()}
    ranges = {arm: f"({-one['highest']:.1f} to {-one['lowest']:.1f} %)" for arm, one in over.items()}
    assert f"ARIA lowers it by {shown['aria']} in the median {ranges['aria']}" in page
    assert f"the best static mix, chosen on other seeds, by {shown['static']} {ranges['static']}" in page
    beside = found["static"]["groups"]["uniform"]["aria"]
    counts = "in {better} rows, not shown to differ in {equal}, worse in {worse}".format(**beside)
    assert f"ARIA is better than the mix {counts}" in page
    assert found["static"]["groups"]["head"]["aria"]["highest"] < 0
    pays = ["tail" in row["aria"]["pays"] for row in found["static"]["rows"].values()]
    assert f"frequent captions gain in all rows, and rare ones pay in {sum(pays)}" in page


def test_the_benchmark_shows_the_tables_of_the_matrix():
    page, rows = (ROOT / "docs" / "benchmark.md").read_text(), matrix_table.rows()
    assert rows and matrix_table.by_row(rows) in page and matrix_table.by_group(rows) in page


def test_the_benchmark_shows_how_the_default_was_chosen():
    found = json.loads((ROOT / "benchmarks" / "results" / "rules-cpu.json").read_text())
    assert rules.table(found) in (ROOT / "docs" / "benchmark.md").read_text()


def test_when_it_pays_shows_what_was_measured():
    page, results = (ROOT / "docs" / "when-it-pays.md").read_text(), ROOT / "benchmarks" / "results"
    words = " ".join(page.split())
    answers = json.loads((results / "response-cpu.json").read_text())
    assert response.table(answers) in page
    assert credit.table(json.loads((results / "credit-cpu.json").read_text())["kinds"]) in page
    for row in answers["rows"].values():
        assert f"{row['predicted']:.1f} for {row['measured']:.1f} %".replace("-", "−") in words
        assert 0.5 <= row["predicted"] / row["measured"] <= 2, "the page says: within a factor of two"


def test_the_benchmark_says_how_good_the_teachers_are():
    found = json.loads((ROOT / "benchmarks" / "results" / "emoji-teachers-cpu.json").read_text())["accuracy"]
    page = " ".join((ROOT / "docs" / "benchmark.md").read_text().split())
    shown = {name: f"{value['accuracy'] - 1e-6:.2f}"[1:] for name, value in found.items()}
    assert f"in {shown['real']} of the real pictures, in {shown['autoencoder']} of them after the autoencoder" in page
    assert all(f"{shown[name]} (`{name}`)" in page for name in KINDS)


def test_the_front_page_is_one_screen():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 70


# --------------------------------------------------------------------------------------------------------------- links


def broken_links(text: str, folder: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    return [link for link in links if not (folder / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    assert broken_links(page.read_text(), page.parent) == []


def test_a_broken_link_is_noticed():
    assert broken_links("[a](nowhere.md) [b](README.md) [c](https://example.org)", ROOT) == ["nowhere.md"]


# -------------------------------------------------------------------------------------------------------------- frames


def frames(text: str) -> Iterator[tuple[str, str]]:
    """(language, content) of every fenced frame."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def lines_of(language: str, content: str) -> Iterator[list[str]]:
    """The words of every command in a frame, comments left out: lines after a ``$``, or all where none has one."""
    for line in content.replace("\\\n", " ").splitlines():
        if line.startswith("$ ") or (language != "console" and line.strip()):
            yield shlex.split(line.removeprefix("$ "), comments=True)


def mistakes_in(words: list[str]) -> list[str]:
    """Mistakes in a command of this package: parameters that do not exist, are missing or are of the wrong type."""
    program, *rest = words
    if not rest or rest[0].startswith("-"):
        return []
    group = PROGRAMS[program]
    known = {name: (command, context) for name, command, context in commands_page.subcommands(group)}
    if rest[0] not in known:
        return [f"{program} has no command {rest[0]!r}"]
    command, context = known[rest[0]]
    try:
        values, left, _ = command.make_parser(context).parse_args(rest[1:])
        mistakes = [f"{left} is too much"] if left else []
        for param in command.get_params(context):
            value = values.get(param.name)
            if param.required and (value is None or param.value_is_missing(value)):
                mistakes.append(f"{param.name} is missing")
            elif isinstance(value, str) and not isinstance(param.type, click.Path):
                param.type.convert(value, param, context)
    except click.UsageError as error:
        return [error.format_message()]
    return mistakes


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def unread(language: str, content: str, page: str) -> list[str]:
    """Why a frame is neither run nor read by any test; empty where it is fine."""
    match language:
        case "python" if content.startswith(">>> "):
            return []  # a doctest
        case "python" | "csv":
            return [] if page in RUN_ELSEWHERE else ["Python without prompts is not run"]
        case "toml":
            tomllib.loads(content)
        case "json":
            json.loads(content)
        case "console" | "bash" | "sh":
            return [mistake for words in lines_of(language, content) for mistake in unread_command(words)]
        case _:
            return [f"nobody reads {language or 'a frame without a language'}"]
    return []


def unread_command(words: list[str]) -> list[str]:
    match words:
        case [program, *_] if program in PROGRAMS:
            return mistakes_in(words)
        case ["make", *rest]:
            return [f"no target {word}" for word in rest if "=" not in word and word not in targets()]
        case ["python", "-m" | "-c", *_] | ["pip", "install", *_] | [".", *_] | ["export", _]:
            return []
        case ["python", script, *_]:
            return [] if (ROOT / script).is_file() else [f"no script {script}"]
        case ["accelerate" | "torchrun", *rest] if "aria.cli" in rest:
            return mistakes_in(["aria", *rest[rest.index("aria.cli") + 1 :]])
    return [f"unknown command {words[0]}"]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_whatever_is_in_a_frame_is_run_or_read(page):
    mistakes = [why for language, content in frames(page.read_text()) for why in unread(language, content, page.name)]
    assert mistakes == []


@pytest.mark.parametrize(
    ("language", "content", "why"),
    [
        ("python", "import aria\n", "is not run"),
        ("console", "$ aria bench --quik\n", "--quik"),
        ("console", "$ aria bench --steps many\n", "many"),
        ("console", "$ aria bensch --quick\n", "no command 'bensch'"),
        ("console", "$ aria prune --preset bk-base\n", "is missing"),
        ("console", "$ aria report\n", "run is missing"),
        ("console", "$ make supper\n", "no target supper"),
        ("console", "$ python examples/none.py\n", "no script"),
        ("", "x\n", "without a language"),
    ],
)
def test_a_frame_that_is_wrong_is_noticed(language, content, why):
    assert why in " ".join(unread(language, content, "page.md"))


def not_exported(code: str) -> list[str]:
    """Imports of this package's names that no list exports; a module that has a list may be imported itself."""
    lists, found = api_pages.exported(), []
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in ("aria", "theory"):
                listed = {*lists.get(module, ()), *(name.removeprefix(f"{module}.") for name in lists)}
                found += [f"{module}.{alias.name}" for alias in names if alias.name not in listed]
    return found


def codes(page: Path) -> Iterator[str]:
    """The Python of a page, without prompts and output."""
    for language, content in frames(page.read_text()):
        if language == "python":
            prompted = re.findall(r"^(?:>>>|\.\.\.)(?: (.*))?$", content, flags=re.MULTILINE)
            yield "\n".join(prompted) if content.startswith(">>> ") else content


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("examples/*.py"))], ids=named)
def test_documents_import_what_is_exported(page):
    shown = [page.read_text()] if page.suffix == ".py" else codes(page)
    assert [name for code in shown for name in not_exported(code)] == []


def test_an_import_of_what_is_not_exported_is_noticed():
    code = "from aria import Pool\nfrom aria.allocators import reading\nfrom theory import bounds\n"
    assert not_exported(code) == [] and any("import" in code for page in PAGES for code in codes(page))
    wrong = "from aria.pool import Pool\nfrom aria.tasks import film"
    assert not_exported(wrong) == ["aria.pool.Pool", "aria.tasks.film"]


@pytest.mark.parametrize("line", SHORT)
def test_short_commands_run_as_they_stand(line):
    shown = {" ".join(words) for page in PAGES for language, content in frames(page.read_text())
             if language == "console" for words in lines_of(language, content)}  # fmt: skip
    assert line in shown
    program, *rest = shlex.split(line)
    result = CliRunner().invoke(PROGRAMS[program], rest)
    assert result.exit_code == 0, result.output


def test_the_code_that_reads_a_benchmarks_result_runs(tmp_path, monkeypatch, capsys):
    from tests.bench.test_report import made

    page = (ROOT / "docs" / "benchmark.md").read_text()
    (code,) = (content for language, content in frames(page) if language == "python")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "results.json").write_text(json.dumps(made()))
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a snippet may leave its file to the interpreter
        exec(code, {})
        gc.collect()
    assert "aria-q -19.3999" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------- options


def options() -> set[str]:
    """Every option of every command."""
    found = {"--help", "--version"}
    for program in PROGRAMS.values():
        for _, command, context in commands_page.subcommands(program):
            for param in command.get_params(context):
                found |= {*param.opts, *param.secondary_opts}
    return found


def unknown_options(text: str, known: set[str]) -> list[str]:
    """Options that the code in a text names and no command has."""
    shown = (content for language, content in frames(text) if language in {"console", "sh"})
    code = [*re.findall(r"`([^`\n]+)`", text), *shown]
    commands = [part for part in code if not part.startswith(("$ pip", "$ make"))]
    return sorted({word for part in commands for word in re.findall(r"(?<![\w-])--\w[\w-]*", part)} - known - NOT_OURS)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in FOR_OTHERS], ids=named)
def test_options_that_are_named_exist(page):
    assert unknown_options(page.read_text(), options()) == []


def test_an_option_that_does_not_exist_is_noticed():
    assert unknown_options("use `--learning_rat 1` or `--seed`", options()) == ["--learning_rat"]


# -------------------------------------------------------------------------------------------- the page of the commands


def test_every_command_and_option_is_on_the_page():
    page, count = commands_page.page(), 0
    for name, program in PROGRAMS.items():
        for sub, command, context in commands_page.subcommands(program):
            section, count = page.partition(f"### {name} {sub}\n")[2].partition("\n### ")[0], count + 1
            assert (command.help or "").split("\n")[0] in section
            for param in command.get_params(context):
                argument = isinstance(param, click.Argument)
                names = [param.make_metavar(context)] if argument else [*param.opts, *param.secondary_opts]
                assert [name for name in names if name not in section] == []
    assert page.count("\n### ") == count > 10
    assert "--learning_rate FLOAT" in page and "--from-log FILE" in page
    assert broken_links(page, ROOT / "docs") == []


def test_every_module_of_the_programming_interface_is_described():
    rows = re.findall(r"^- \[`([\w.]+)`\]\(\1\.md\)  \n  (\S.*)$", api_pages.index(), flags=re.MULTILINE)
    assert [name for name, _ in rows] == sorted(api_pages.exported())
    assert {"aria.interfaces", "aria.testing"} < {name for name, _ in rows}
