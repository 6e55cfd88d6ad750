"""``aria-sim`` recommend, run, sweep and check-log: numbers that agree with the bounds, and one line for mistakes."""

from __future__ import annotations

import json
import random

import pytest
from click.testing import CliRunner

from theory import bounds
from theory.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Two regions that drift by 0.002 a step under noise of deviation 0.5, and a last line torn off."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    with path.open("w") as file:
        for step in range(3000):
            for region in range(2):
                value = 5 + 0.002 * step + draw.gauss(0, 0.5)
                file.write(json.dumps({"step": step, "region": region, "value": value}) + "\n")
        file.write('{"step": 3000, "reg')
    return path


def test_recommend_names_the_best_rate():
    found = json.loads(run("recommend", "--sigma", 1, "--drift", 0.05, "--json").stdout)
    oblivious = next(row for row in found["settings"] if row["tracker"] == "ema" and row["drift_is"] == "oblivious")
    assert oblivious["setting"] == pytest.approx(bounds.ema_best_rate(1.0, 0.05, adaptive=False), rel=1e-6)
    assert oblivious["mse"] == pytest.approx(0.15039, rel=1e-4)
    assert "ema(rate=" in found["recommended"]


def test_recommend_reads_noise_and_drift_off_a_log(log):
    """6000 observations: σ to 5 % (its relative standard error is 1 %) and the planted drift to 20 %."""
    found = json.loads(run("recommend", "--from-log", log, "--json").stdout)
    assert found["sigma"] == pytest.approx(0.5, rel=0.05)
    assert found["drift"] == pytest.approx(0.002, rel=0.2)


def test_check_log_judges_the_tracker(log):
    result = run("check-log", log, "--tracker", "ema(rate=0.9)")
    assert result.exit_code == 0, result.output
    assert result.output.count("too fast") == 2
    assert "too fast" not in run("check-log", log, "--tracker", "ema(rate=0.04)").output


def test_run_draws_a_figure(tmp_path):
    result = run(
        "run", "--regime", "linear", "--tracker", "ema(rate=0.2)", "--steps", 100, "--plot", tmp_path / "a.png"
    )
    assert result.exit_code == 0, result.output
    assert "coverage" in result.output
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_sweep_finds_the_optimum_where_theory_has_it():
    found = run("sweep", "--tracker", "ema", "--over", "rate", "--regime", "linear")
    assert found.exit_code == 0, found.output
    rows = [
        line.split() for line in found.output.splitlines() if len(line.split()) == 5 and line.split()[0][0].isdigit()
    ]
    ratios = [float(row[4]) for row in rows]
    assert len(ratios) > 5
    assert all(0.95 < ratio < 1.05 for ratio in ratios)
    assert "theoretical optimum: 0.1882" in found.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("recommend", "--sigma", "-1", "--drift", "0.1"), "sigma must be non-negative and finite, got -1.0"),
        (("recommend",), "give --sigma and --drift, or --from-log FILE"),
        (("run", "--regime", "nowhere", "--tracker", "ema"), "unknown regime 'nowhere'; there are: asynchronous, "),
        (("run", "--regime", "linear", "--tracker", "emma"), "unknown tracker 'emma' (did you mean 'ema'?)"),
        (("run", "--regime", "linear", "--tracker", "ema(rate=2)"), "rate must lie in (0, 1], got 2"),
        (("check-log", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_mistakes_are_answered_in_one_line(arguments, sentence):
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("step,region,value\n", "holds no rows"),
        ("step,region\n1,2\n", "value"),
        ("step,region,value\n0,0,nan\n1,0,1.0\n", "nan"),
    ],
)
def test_bad_logs_are_named(tmp_path, text, sentence):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    result = run("check-log", path)
    assert result.exit_code == 2
    assert sentence in result.output.lower()
    assert "Traceback" not in result.output
