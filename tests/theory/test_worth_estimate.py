"""Estimates of worth from the logs of simulated runs, whose learning curves are known."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from aria import Pool, Sampler, partitioners, registry
from theory import bounds
from theory.cli import main
from theory.log import VisitTable
from theory.worth_estimate import NotEnough, decline, estimate

REGIONS, BATCH, STEPS, EXPONENT = 32, 64, 400, 0.4
MASS = np.arange(1, REGIONS + 1) / (REGIONS * (REGIONS + 1) / 2)


def partition():
    names = [name for name in range(REGIONS) for _ in range(name + 1)]
    return registry.partitioner("labels('region')").fit(Pool(columns={"region": names}))


@functools.cache
def rows_of_run(allocator, spread, seed, noise=0.7, transfer=0.0, relative=False):
    """One row per step and region, and the losses of a run of the shipped sampler; the true worth of its regions."""
    choose = np.random.default_rng(seed)
    hard = MASS**EXPONENT * np.exp(spread * choose.standard_normal(REGIONS))
    sampler = Sampler(partition(), registry.tracker("ema(rate=0.1)"), registry.allocator(allocator), seed=seed)
    effort, rows, losses = BATCH * MASS, [], []
    for step in range(STEPS):
        region = sampler.draw(BATCH).region
        learned = (1 - transfer) * effort + transfer * MASS * effort.sum()
        level = hard * learned**-EXPONENT
        losses.append(float((MASS * level).sum()))
        seen = level[region.numpy()] * choose.gamma(noise**-2, noise**2, BATCH) / (losses[-1] if relative else 1)
        sampler.observe(region, torch.from_numpy(seen))
        count = np.bincount(region.numpy(), minlength=REGIONS)
        total, square = (np.bincount(region.numpy(), x, REGIONS) for x in (seen, seen**2))
        for k in np.flatnonzero(count):
            rows.append({"step": step, "region": int(k), "n": int(count[k]), "mean": total[k] / count[k],
                         "square": square[k] / count[k]})  # fmt: skip
        effort = effort + count
    return rows, losses, bounds.worth(MASS, hard * MASS**-EXPONENT, EXPONENT, transfer=transfer)


def table(rows):
    order = sorted(rows, key=lambda row: (row["region"], row["step"]))
    region, step, n, mean, square = (
        np.array([row[name] for row in order]) for name in ("region", "step", "n", "mean", "square")
    )
    one = np.ones(len(order))
    return VisitTable(region, step, n.astype(float), mean, n * np.maximum(square - mean**2, 0), n - 1.0, one, one)


def worth_of(allocator, spread, seed, **how):
    rows, losses, truth = rows_of_run(allocator, spread, seed, **how)
    return estimate(table(rows), MASS, (np.arange(STEPS) + 1.0, np.array(losses))), truth


@pytest.mark.parametrize("allocator", ["pool", "proportional"])
@pytest.mark.parametrize("relative", [False, True])
def test_the_true_worth_is_found_whatever_the_allocation_was(allocator, relative):
    found = [worth_of(allocator, 0.7, seed, relative=relative) for seed in range(4)]
    assert np.mean([worth.gain.value / truth for worth, truth in found]) == pytest.approx(1, abs=0.15)
    assert sum(worth.gain.low <= truth <= worth.gain.high for worth, truth in found) >= 3
    assert np.mean([worth.exponent.value for worth, _ in found]) == pytest.approx(EXPONENT, abs=0.08)
    so_far = [worth.so_far.value / truth for worth, truth in found]
    if allocator == "pool":
        assert np.abs(so_far).max() < 0.05
    else:
        assert 0.7 < np.mean(so_far) <= 1.15


def test_noise_is_not_taken_for_spread():
    worth, truth = worth_of("pool", 0.0, 0, noise=1.0)
    assert truth == pytest.approx(0, abs=1e-9)
    assert worth.spread.value < 0.08 and worth.gain.value < 0.002


def test_transfer_only_lowers_the_gain():
    rows, losses, truth = rows_of_run("pool", 0.7, 1, transfer=0.8)
    data = table(rows), MASS, (np.arange(STEPS) + 1.0, np.array(losses))
    unknown, known = estimate(*data), estimate(*data, transfer=0.8)
    assert unknown.gain.low < truth < unknown.gain.value
    assert known.gain.value == pytest.approx(truth, rel=0.25) and known.transfer.low == known.transfer.high == 0.8


def test_rare_regions_are_left_out_and_counted():
    rows, losses, _ = rows_of_run("pool", 0.7, 2)
    kept = [row for row in rows if row["region"] != REGIONS - 1]
    worth = estimate(table(kept), MASS, (np.arange(STEPS) + 1.0, np.array(losses)))
    assert worth.regions == REGIONS - 1 and worth.seen == pytest.approx(1 - MASS[-1])


@pytest.mark.parametrize("slope", [0.2, 1.0])
def test_the_exponent_of_a_noisy_decline(slope):
    t = np.arange(1, 4001.0)
    found = [decline(t, t**-slope * np.random.default_rng(seed).gamma(4, 0.25, t.size)) for seed in range(40)]
    missed = [abs(one.value - slope) > 2.5 * one.error for one in found]
    assert np.mean([one.value for one in found]) == pytest.approx(slope, abs=0.02) and sum(missed) <= 4


def test_logs_that_say_too_little():
    rows, losses, _ = rows_of_run("pool", 0.3, 3)
    steps = np.arange(STEPS) + 1.0
    with pytest.raises(NotEnough, match="does not decline clearly"):
        estimate(table(rows), MASS, (steps, np.full(STEPS, 1.0) + 0.01 * np.sin(steps)))
    with pytest.raises(NotEnough, match="2 regions have enough samples"):
        estimate(table([row for row in rows if row["region"] > REGIONS - 3]), MASS, (steps, np.array(losses)))
    without = table(rows)._replace(freedom=np.zeros(len(rows)))
    with pytest.raises(NotEnough, match="no squares"):
        estimate(without, MASS, (steps, np.array(losses)))
    with pytest.raises(NotEnough, match="too few steps for an exponent"):
        decline(np.array([1.0, 2.0]), np.array([2.0, 1.0]))


# ---------------------------------------------------------------------------------------------------------- the command


def run(*arguments):
    return CliRunner().invoke(main, ["worth", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a run: log, losses and partition."""
    rows, losses, _ = rows_of_run("proportional", 0.7, 4)
    place = tmp_path_factory.mktemp("run")
    (place / "discrepancies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [{"step": step + 1, "output": loss, "lr": 1.0, "steps_per_second": 1.0} for step, loss in enumerate(losses)]
    (place / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 401, "out')
    partitioners.save(partition(), place / "partition.safetensors")
    return place


def test_a_folder_and_its_log_give_the_same(folder):
    found, same = run("--from-log", folder, "--json"), run("--from-log", folder / "discrepancies.jsonl", "--json")
    assert found.exit_code == 0 and found.output == same.output
    result = json.loads(found.output)
    gain = next(row for row in result["worth"] if row["quantity"] == "gain")
    assert gain["low"] <= gain["value"] <= gain["high"] and f"at most {gain['value']:.2g} %" in result["sentence"]
    assert result["sentence"] in run("--from-log", folder).output and not result["notes"]


def test_a_log_alone_counts_regions_alike(folder, tmp_path):
    copy = tmp_path / "log.jsonl"
    copy.write_bytes((folder / "discrepancies.jsonl").read_bytes())
    assert "note: without a partition beside the log, all regions count the same" in run("--from-log", copy).output


def test_a_given_spread_agrees_with_the_formula():
    rows = {row["quantity"]: row["value"] for row in json.loads(run("--spread", 0.9, "--json").output)["worth"]}
    assert rows["gain"] == rows["proportional"] == pytest.approx(100 * bounds.worth_of_spread(0.9))
    rows = {
        row["quantity"]: row["value"]
        for row in json.loads(run("--spread", 0.9, "--transfer", 0.9, "--json").output)["worth"]
    }
    assert 0 < rows["proportional"] < rows["gain"] < 100 * bounds.worth_of_spread(0.9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --spread or --from-log"),
        (["--spread", 1, "--from-log", "x"], "give either --spread or --from-log"),
        (["--spread", -1], "spread must be non-negative and finite, got -1.0"),
        (["--spread", 1, "--exponent", 0], "exponent must be positive and finite, got 0.0"),
        (["--spread", 1, "--transfer", 1], "transfer must lie in [0, 1), got 1.0"),
        (["--from-log", "nothing.jsonl"], "nothing.jsonl: No such file or directory"),
    ],
)
def test_mistakes_get_one_line(arguments, message):
    found = run(*arguments)
    assert found.exit_code and found.output.strip().splitlines() == [f"Error: {message}"]


def test_damaged_files_get_one_line(folder, tmp_path):
    for name in ("discrepancies.jsonl", "losses.jsonl", "partition.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    text = (tmp_path / "losses.jsonl").read_text()
    (tmp_path / "losses.jsonl").write_text(text.replace('"output"', "output", 1))
    assert "losses.jsonl, line 1: no JSON" in run("--from-log", tmp_path).output
    (tmp_path / "losses.jsonl").write_text(text)
    line = json.dumps({"step": 700, "region": REGIONS, "n": 1, "mean": 1.0, "square": 1.0})
    with (tmp_path / "discrepancies.jsonl").open("a") as file:
        file.write(line + "\n")
    assert f"has region {REGIONS}, its partition only {REGIONS} regions" in run("--from-log", tmp_path).output
