"""``aria-sim`` recommend, run, sweep and check-log: numbers that agree with the bounds, and one line for mistakes."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import optimize

from aria.distill.settings.config import Config
from theory import bounds, limits
from theory.cli import main
from theory.commands import check_log
from theory.regimes import DESCRIBED


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


@pytest.mark.parametrize(("sigma", "drift", "batch"), [(1.0, 0.05, 1), (0.3, 0.002, 4), (2.0, 1.0, 2)])
def test_recommended_rates_are_the_least_of_formulas_written_out_here(sigma, drift, batch):
    """Oblivious: bias² + variance. Adaptive: the root mean square grows by D a step before it shrinks by 1-b."""

    def oblivious(b):
        return (drift * (1 - b) / b) ** 2 + sigma**2 / batch * b / (2 - b)

    def adaptive(b):
        v = 0.0
        for _ in range(2000):
            v = ((1 - b) ** 2 * (v + drift) ** 2 + b**2 * sigma**2 / batch) ** 0.5
        return v**2

    found = json.loads(run("recommend", "--sigma", sigma, "--drift", drift, "--batch", batch, "--json").stdout)
    rows = {row["drift_is"]: row for row in found["settings"] if row["tracker"] == "ema"}
    for name, mse in (("oblivious", oblivious), ("adaptive", adaptive)):
        best = optimize.minimize_scalar(mse, bounds=(1e-3, 1), method="bounded", options={"xatol": 1e-8})
        assert rows[name]["setting"] == pytest.approx(best.x, rel=1e-3)
        assert rows[name]["mse"] == pytest.approx(best.fun, rel=1e-6)
        limit = limits.linear_limit(sigma, drift, batch=batch)
        assert rows[name]["times_limit"] == pytest.approx(best.fun / limit, rel=1e-6)


def test_recommended_windows_are_the_least_of_all_sizes():
    found = json.loads(run("recommend", "--sigma", 1, "--drift", 0.05, "--json").stdout)
    row = next(row for row in found["settings"] if row["tracker"] == "window" and row["drift_is"] == "oblivious")
    by_size = {size: (0.05 * (size - 1) / 2) ** 2 + 1 / size for size in range(1, 50)}
    best = min(by_size, key=by_size.__getitem__)
    assert (row["setting"], row["mse"]) == (best, pytest.approx(by_size[best]))


def test_recommend_averages_the_certificate_gain_over_visits_as_a_loop_does():
    """Visits with probability 0.3; the gain counts the squared lag twice, since it fixes tomorrow's bias too."""
    sigma, drift, q = 1.0, 0.05, 0.3
    row = json.loads(run("recommend", "--sigma", sigma, "--drift", drift, "--visit-rate", q, "--json").stdout)
    found = next(row for row in row["settings"] if row["tracker"] == "certificate_gain")["mse"]
    draw, mse, lag, noise = random.Random(0), [], 0.0, sigma**2
    for _ in range(60_000):
        lag += drift
        if draw.random() < q:
            gain = (2 * lag**2 + noise) / (2 * lag**2 + noise + sigma**2)
            lag, noise = (1 - gain) * lag, (1 - gain) ** 2 * noise + gain**2 * sigma**2
        mse.append(lag**2 + noise)
    assert found == pytest.approx(np.mean(mse), rel=0.05)


def test_recommend_estimates_noise_and_drift_from_a_log(log):
    """6000 observations: σ to 5 % (its relative standard error is 1 %) and the planted drift to 20 %."""
    found = json.loads(run("recommend", "--from-log", log, "--json").stdout)
    assert found["sigma"] == pytest.approx(0.5, rel=0.05)
    assert found["drift"] == pytest.approx(0.002, rel=0.2)


def summed(values):
    flat = np.ravel(values)
    return {"n": flat.size, "mean": flat.mean(), "square": (flat**2).mean()}


def summed_log(folder, together, drift):
    """40 000 steps, an update at every second one, of which a third sees the region; rows only where it was seen."""
    draw, path, held = random.Random(3), folder / "run.jsonl", []
    with path.open("w") as file:
        for step in range(2, 40_001, 2):
            if draw.random() < 1 / 3:
                held.append([2 + drift / 2 * step + draw.gauss(0, 0.5) for _ in range(2)])
            if step // 2 % together == 0 and held:
                row = {"step": step, "region": 0, **summed(held), "visits": len(held), "update": step // 2}
                file.write(json.dumps(row) + "\n")
                held = []
    return path


@pytest.mark.parametrize("together, drift", [(1, 0.002), (10, 0.002), (100, 0.002), (1, 0.03), (10, 0.03)])
def test_estimates_from_a_log_do_not_depend_on_how_many_updates_a_row_sums_up(tmp_path, monkeypatch, together, drift):
    """Noise, visit rate and drift are the planted ones; time is counted in updates of the tracker.

    The verdicts need no more than the last 4,000 updates: the slowest average forgets within 1,000.
    """
    monkeypatch.setattr(check_log, "REPLAYED", 4_000)
    path = summed_log(tmp_path, together, drift)
    found = json.loads(run("recommend", "--from-log", path, "--json").stdout)
    assert found["visit_rate"] == pytest.approx(1 / 3, rel=0.03)
    assert found["batch"] == pytest.approx(2)
    assert found["sigma"] == pytest.approx(0.5, rel=0.05 * max(1, together**0.5 / 4))
    assert found["drift"] == pytest.approx(drift, rel=0.05)
    best = float(bounds.asynchronous_best_rate(1 / 3, 0.5, drift, 2, adaptive=False))
    rate = next(row["setting"] for row in found["settings"] if row["drift_is"] == "oblivious")
    assert rate == pytest.approx(best, rel=0.1)
    assert not any("within one logged row" in note for note in found["notes"])
    for factor, verdict in ((1.0, "well set"), (0.1, "too slow")):
        result = json.loads(run("check-log", path, "--tracker", f"ema(rate={factor * best})", "--json").stdout)
        assert result["regions"][0]["verdict"] == verdict and ("measured" in result["regions"][0]) == (together == 1)


def test_rows_that_sum_up_more_movement_than_noise_are_reported(tmp_path):
    """The time of a visit within a row is not known, so movement within the row is taken for noise."""
    found = json.loads(run("recommend", "--from-log", summed_log(tmp_path, 100, 0.05), "--json").stdout)
    assert any("within one logged row: log more often" in note for note in found["notes"])


def test_a_row_of_more_updates_than_are_replayed_is_refused(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("step,region,n,mean,visits,update\n0,0,9,1,1,0\n20000,0,9,1,1,20000\n")
    result = run("check-log", path, "--tracker", "ema")
    assert result.exit_code == 2 and "its last rows sum up 20000 updates, more than 10000 to replay" in result.stderr


def run_of(folder, steps, allocator=None, visit_rate=1.0):
    """The log of a run of ``aria distill`` with this allocator, and its config.json unless the allocator is None."""
    draw = random.Random(4)
    lines = [
        {"step": step, "region": 0, "value": 5 + 0.01 * step + draw.gauss(0, 0.5)}
        for step in range(steps)
        if draw.random() < visit_rate
    ]
    (folder / "discrepancies.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if allocator is not None:
        Config().with_values({"allocator": allocator}).save(folder / "config.json")
    return folder / "discrepancies.jsonl"


@pytest.mark.parametrize("visit_rate", [1.0, 0.3])
@pytest.mark.parametrize("allocator", ["proportional", "thompson", None])
def test_a_run_whose_allocator_may_react_gets_the_adaptive_rate(tmp_path, allocator, visit_rate):
    log = run_of(tmp_path, 4000, allocator, visit_rate)
    found = json.loads(run("recommend", "--from-log", log, "--json").stdout)
    best = bounds.asynchronous_best_rate(found["visit_rate"], found["sigma"], found["drift"])
    assert found["drift_is"] == "adaptive" and found["recommended"] == f"ema(rate={best:.4g})"
    assert (allocator or "is not known") in found["notes"][0]
    assert f"note: {found['notes'][0]}" in run("recommend", "--from-log", log).output


@pytest.mark.parametrize("visit_rate", [1.0, 0.3])
@pytest.mark.parametrize("allocator", ["pool", "uniform"])
def test_a_run_whose_allocator_ignores_the_estimates_gets_the_oblivious_rate(tmp_path, allocator, visit_rate):
    found = json.loads(run("recommend", "--from-log", run_of(tmp_path, 4000, allocator, visit_rate), "--json").stdout)
    rows = [row for row in found["settings"] if row["drift_is"] == "oblivious" and row["tracker"] != "window"]
    best = min(rows, key=lambda row: row["mse"])
    assert found["drift_is"] == "oblivious" and found["recommended"] == best["spec"]
    assert allocator in found["notes"][0]


def test_regions_with_too_few_steps_are_not_judged(tmp_path):
    """Region 0 has 20 logged steps of the 32 that it takes, region 1 has 32."""
    path, draw = tmp_path / "run.csv", random.Random(0)
    rows = [f"{step},{k},{5 + draw.gauss(0, 0.5)}" for step in range(32) for k in (0, 1) if k or step < 20]
    path.write_text("\n".join(["step,region,value", *rows]) + "\n")
    text = run("check-log", path, "--tracker", "ema").output
    assert text.count("not judged: 20 of 32 steps") == 2  # in the table and below it
    assert "assumptions plausible in 1 of 2 regions, 1 not judged" in text
    assert "region 0: not judged: 20 of 32 steps" in run("check-log", path).output
    found = json.loads(run("check-log", path, "--json").stdout)
    assert (found["plausible_regions"], found["judged_regions"], found["steps_needed"]) == (1, 1, 32)
    assert [(row["judged"], row["steps"]) for row in found["regions"]] == [(False, 20), (True, 32)]
    notes = json.loads(run("recommend", "--from-log", path, "--json").stdout)["notes"]
    assert "region 0: not judged: 20 of 32 steps" in notes


PRINTS = [
    ("run", "--steps", 5),
    ("sweep", "--values", "0.1,0.2", "--replicas", 2, "--steps", 4),
    ("sweep", "--tracker", "window", "--values", "2,3", "--replicas", 2, "--steps", 4),
    ("sweep", "--allocator", "uniform", "--replicas", 2, "--steps", 3),
    ("recommend", "--sigma", 1, "--drift", 0.1),
    ("check-log", "run.csv", "--tracker", "ema"),
]


@pytest.mark.parametrize("arguments", PRINTS, ids=lambda arguments: " ".join(map(str, arguments)))
def test_help_explains_every_column(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.csv").write_text("step,region,value\n" + "".join(f"{step},0,{step % 3}\n" for step in range(40)))
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    heads = next(line for line in result.output.splitlines() if re.search(r"\S  +\S.*  ", line) and "=" not in line)
    explained = {name for head in explained_columns(arguments[0]) for name in head.removesuffix(", …").split(", ")}
    assert set(re.split(r"  +", heads.strip())) <= explained


def explained_columns(command):
    """Headings in the section "Columns" of the help, each of which has a sentence."""
    section = run(command, "--help").output.split("\nColumns:\n")[1]
    rows = [line[2:] for line in section.splitlines() if re.match(r"  \S", line)]
    return [re.split(r"  +", row)[0] for row in rows if len(re.split(r"  +", row)) > 1]


def test_regimes_lists_every_regime_with_its_parameters():
    found = json.loads(run("regimes", "--json").stdout)["regimes"]
    assert [row["regime"] for row in found] == list(DESCRIBED)
    text = " ".join(run("regimes").output.split())
    for row in found:
        named = DESCRIBED[row["regime"]]
        assert row["description"] == named.description and f"{row['regime']} {named.description} [" in text
        for kind in ("drift", "noise", "visits"):
            part = getattr(named.regime, kind)
            given = row["parameters"][kind]
            assert given["class"] == type(part).__name__ and given.keys() - {"class"} == vars(part).keys()
    closed = next(row for row in found if row["regime"] == "closed-loop")["parameters"]
    assert closed["level"] == [1, 2, 4, 8] and closed["visits"]["floor"] == 0.2 and closed["noise"]["sigma"] == 0.2


def test_check_log_judges_the_tracker(log, monkeypatch):
    monkeypatch.setattr(check_log, "REPLAYED", 600)  # neither rate is forgotten later than after 200
    result = run("check-log", log, "--tracker", "ema(rate=0.9)")
    assert result.exit_code == 0, result.output
    assert result.output.count("too fast") == 2
    assert "too fast" not in run("check-log", log, "--tracker", "ema(rate=0.04)").output


def test_check_log_reports_the_error_of_the_tracker(log, tmp_path):
    """Certified and × limit are those of the bounds at the noise and drift it read; the start is 1 % of the steps."""
    result = run("check-log", log, "--tracker", "ema(rate=0.04)", "--json", "--plot", tmp_path / "log.svg")
    found = json.loads(result.stdout)
    assert (found["rows"], found["torn"], found["plausible_regions"]) == (6000, True, 2)
    assert (tmp_path / "log.svg").stat().st_size > 5000
    for row in found["regions"]:
        s, d = row["sigma"], row["drift"]
        assert abs(s - 0.5) < 5 * row["sigma_plus_minus"] < 0.05
        assert abs(d - 0.002) < 5 * row["drift_plus_minus"] < 0.001
        certified = bounds.ema_mse(0.04, s, d, adaptive=False)
        assert row["certified"] == pytest.approx(certified, rel=0.05)
        assert row["times_limit"] == pytest.approx(row["certified"] / limits.linear_limit(s, d), rel=1e-9)
        best = bounds.ema_best_mse(s, d, adaptive=False)
        assert row["times_best"] == pytest.approx(row["certified"] / best, rel=1e-9)
        assert abs(row["measured"] - row["certified"]) < 5 * row["measured_plus_minus"]
        assert row["verdict"] == "well set"


def test_check_log_reads_the_lines_of_a_training_run(tmp_path, monkeypatch):
    """One line for each region visited: n, mean and q; the noise comes from the scatter between visits."""
    monkeypatch.setattr(check_log, "REPLAYED", 200)  # no number asked for below comes from the replay
    draw = random.Random(1)
    path = tmp_path / "run.jsonl"
    with path.open("w") as file:
        for step in range(2000):
            for region in range(3):
                n = draw.choice([0, 1, 4])
                if n:
                    mean = 5 + region - 0.001 * step + draw.gauss(0, 0.5 / n**0.5)
                    file.write(json.dumps({"step": step, "region": region, "n": n, "mean": mean, "q": 0.1}) + "\n")
    found = json.loads(run("check-log", path, "--tracker", "bank", "--json").stdout)
    assert not found["torn"]
    for row in found["regions"]:
        assert row["sigma"] == pytest.approx(0.5, abs=5 * row["sigma_plus_minus"])
        assert row["drift"] == pytest.approx(0.001, abs=5 * row["drift_plus_minus"])
        assert row["visit_rate"] == pytest.approx(2 / 3, abs=0.05)
        assert row["batch"] == pytest.approx(2 / (1 + 1 / 4), abs=0.1)
        assert row["verdict"] == "not certified"  # the bank's gains depend on the data


def test_run_lags_behind_a_line_by_what_the_bound_says():
    """Mean over 6000 steps: its standard error is that of white noise, s/√T, as the weights add up to 1."""
    found = json.loads(run("run", "--tracker", "ema(rate=0.2)", "--steps", 6_000, "--json").stdout)["trackers"][0]
    assert found["bias"] == pytest.approx(-0.05 * 0.8 / 0.2, abs=5 / 6_000**0.5)
    assert found["rmse"] ** 2 == pytest.approx(bounds.ema_mse(0.2, 1.0, 0.05, adaptive=False), rel=0.05)
    assert found["coverage"] >= 0.95


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


def closed_loop(allocate, use_truth, replicas=300, steps=150):
    """(R,) what is left of four discrepancies that shrink by 2 % of their visits: batches of 2, a floor of 0.2, an
    average of rate 0.1 over noise of 0.2."""
    draw = np.random.default_rng(5)
    truth = np.tile([1.0, 2.0, 4.0, 8.0], (replicas, 1))
    estimate, visits = np.full(truth.shape, np.nan), np.zeros(truth.shape)
    for _ in range(steps):
        seen = truth if use_truth else estimate
        top = np.fmax.reduce(seen, axis=1, keepdims=True, initial=-np.inf)
        wanted = allocate(np.where(np.isnan(seen), np.where(top > -np.inf, top, 1.0), np.maximum(seen, 0)))
        probs = 0.2 / 4 + 0.8 * wanted / wanted.sum(1, keepdims=True)
        truth = truth * (1 - 0.02 * np.minimum(1, 2 * probs))
        ends = 2 * np.cumsum(probs, axis=1) + draw.random((replicas, 1))
        n = np.diff(np.floor(ends), axis=1, prepend=0.0)
        mean = truth + 0.2 * draw.normal(size=truth.shape) / np.sqrt(np.maximum(n, 1))
        visits += n > 0
        gain = 0.1 / (1 - 0.9 ** np.maximum(visits, 1)) * (n > 0)
        estimate = np.where(visits > 0, np.nan_to_num(estimate) * (1 - gain) + gain * mean, np.nan)
    return truth.mean(1) / 3.75


RULES = {"proportional": lambda d: d, "proportional(power=3)": lambda d: d**3, "uniform": np.ones_like}


@pytest.mark.parametrize(("spec", "allocate"), RULES.items())
def test_closed_loops_leave_what_a_simulation_written_out_here_leaves(spec, allocate):
    """Two means within five standard errors of each other; with the true values the result is deterministic."""
    arguments = ("--tracker", "ema(rate=0.1)", "--replicas", 300, "--json")
    (row,) = json.loads(run("sweep", "--allocator", spec, *arguments).stdout)["rows"]
    here, oracle = closed_loop(allocate, False), closed_loop(allocate, True)
    uniform = closed_loop(np.ones_like, False)
    assert row["oracle"] == pytest.approx(oracle.mean(), rel=1e-12)
    assert row["uniform"] == pytest.approx(uniform.mean(), rel=1e-12)
    stderr = here.std() / 300**0.5
    assert row["left"] == pytest.approx(here.mean(), abs=5 * 2**0.5 * stderr + 1e-12)
    assert row["plus_minus"] == pytest.approx(2.576 * stderr, rel=0.3, abs=1e-12)
    if spec != "uniform":
        share = (uniform.mean() - here.mean()) / (uniform.mean() - oracle.mean())
        assert row["times_won"] == pytest.approx(share, abs=0.03)


def test_sweep_draws_a_figure(tmp_path):
    result = run("sweep", "--values", "0.1,0.2", "--replicas", 20, "--steps", 100, "--plot", tmp_path / "a.pdf")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.pdf").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("recommend", "--sigma", "nan", "--drift", "0.1"), "sigma must be"),
        (("recommend", "--sigma", "1", "--drift", "1e300"), "--drift must be 0 or from 1e-40 to 1e+40, got 1e+300"),
        (("recommend", "--sigma", "1e-320", "--drift", "1"), "--sigma must be 0 or from 1e-40 to 1e+40, got"),
        (("recommend", "--sigma", "1", "--drift", "1", "--visit-rate", "1.5"), "visit_rate must lie in (0, 1]"),
        (("recommend", "--sigma", "1", "--drift", "1", "--visit-rate", "0"), "--visit-rate must be from 1e-40"),
        (("recommend", "--sigma", "1", "--drift", "1", "--batch", "1e300"), "--batch must be at most 1e+12"),
        (("recommend", "--sigma", "1", "--drift", "1", "--batch", "0"), "batch must be at least 1 and finite, got 0.0"),
        (("run", "--steps", "0"), "0 is not in the range 1<=x<=1000000"),
        (("run", "--region", "1"), "--region must be below 1, the regions of 'linear', got 1"),
        (("run", "--plot", "a.txt"), "'a.txt' must end in one of .png, .svg, .pdf"),
        (("run", "--tracker", "second_moment"), "trackers must estimate the mean, got one of the second moment"),
        (("sweep", "--values", "0.1,inf"), "--values must be at most 1e+06, got inf"),
        (("sweep", "--values", "nan"), "--values must be at most 1e+06, got nan"),
        (("sweep", "--values", "0.1,x"), "--values must be numbers separated by commas, got '0.1,x'"),
        (("sweep", "--tracker", "ema(rate=0.1)"), "rate is swept: leave it out of --tracker, got 'ema(rate=0.1)'"),
        (("sweep", "--tracker", "bank"), "give --over, the setting of 'bank' to sweep"),
        (("sweep", "--allocator", "greedy"), "unknown allocator 'greedy'"),
        (("sweep", "--allocator", "uniform", "--regime", "linear"), "a regime whose visits an allocator decides"),
        (("recommend", "--sigma", "-1", "--drift", "0.1"), "sigma must be non-negative and finite, got -1.0"),
        (("recommend",), "give --sigma and --drift, or --from-log FILE"),
        (("run", "--regime", "nowhere", "--tracker", "ema"), "unknown regime 'nowhere'; there are: asynchronous, "),
        (("run", "--regime", "linear", "--tracker", "emma"), "unknown tracker 'emma' (did you mean 'ema'?)"),
        (("run", "--regime", "linear", "--tracker", "ema(rate=2)"), "rate must lie in (0, 1], got 2"),
        (("check-log", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_a_mistake_is_one_line(arguments, sentence):
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


@pytest.mark.parametrize("command", [("run", "--steps", "5"), ("sweep", "--over", "size", "--values", "1,2")])
def test_a_failure_in_a_custom_tracker_is_one_line(command, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from aria.trackers import Window\nclass Wrong(Window):\n    def estimate(self, state):\n        return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, [*command, "--tracker", "mine.py:Wrong"])
    assert found.exit_code == 1 and found.stderr.splitlines()[-1].startswith("Error: Wrong failed: AttributeError")
