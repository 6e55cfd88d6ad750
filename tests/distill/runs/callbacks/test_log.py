"""The logs of a run: sums over the steps since the last line, by term and by region."""

from __future__ import annotations

import json

import pytest
import torch

from aria.distill.runs.callbacks import Log
from tests.distill import tiny
from theory import log as theory_log


def rows(output, name):
    return [json.loads(line) for line in (output / f"{name}.jsonl").read_text().splitlines()]


def test_every_sample_is_counted_once(tmp_path):
    """Compared with sums computed from the batches."""
    distiller = tiny.make(steps=7, objective=("output", "task"), of={"allocator": "proportional"})
    seen, losses, observe = [], [], distiller._observe

    def watched(batch, by_name):
        seen.append(batch), losses.append(by_name)
        observe(batch, by_name)

    distiller._observe = watched
    distiller.fit([Log(tmp_path, every=3, quiet=True)])
    logged = rows(tmp_path, "losses")
    assert [row["step"] for row in logged] == [3, 6, 7]
    assert [set(row) for row in logged] == [{"step", "output", "task", "lr", "steps_per_second"}] * 3
    for row, first, last in zip(logged, (0, 3, 6), (3, 6, 7), strict=True):
        for name in ("output", "task"):
            assert row[name] == pytest.approx(float(torch.cat([step[name] for step in losses[first:last]]).mean()))
        assert row["lr"] == 5e-5 and row["steps_per_second"] > 0
    regions = rows(tmp_path, "discrepancies")
    for step, first, last in ((3, 0, 3), (6, 3, 6), (7, 6, 7)):
        region = torch.cat([batch.region[~batch.null] for batch in seen[first:last]])
        value = torch.cat([
            step["output"][~batch.null] for step, batch in zip(losses[first:last], seen[first:last], strict=True)
        ]).double()
        lines = [row for row in regions if row["step"] == step]
        assert [row["region"] for row in lines] == sorted(set(region.tolist()))
        for row in lines:
            own = value[region == row["region"]]
            assert row["n"] == len(own)
            assert row["mean"] == pytest.approx(float(own.mean()))
            assert row["square"] == pytest.approx(float(own.square().mean()))
            assert 0 < row["q"] < 1
            batches = [region for batch in seen[first:last] for region in [batch.region[~batch.null]]]
            assert row["visits"] == sum(bool((batch == row["region"]).any()) for batch in batches)
            assert row["update"] == step
    assert sum(row["q"] for row in regions if row["step"] == 6) == pytest.approx(1.0)


def test_rows_count_the_updates_of_the_tracker_and_wait_for_one(tmp_path):
    """Updates end at every third step, and what is not reported by then is left out."""
    for every, steps, expected in ((1, 7, {3: 1, 6: 2}), (5, 16, {6: 2, 12: 4, 15: 5}), (4, 24, {6: 2, 9: 3, 12: 4})):
        output = tmp_path / str(every)
        output.mkdir()
        distiller = tiny.make(steps=steps, of={"every": 3})
        distiller.fit([Log(output, every=every, quiet=True)])
        regions = rows(output, "discrepancies")
        assert {row["step"]: row["update"] for row in regions if row["step"] <= 16} == expected
        assert all(1 <= row["visits"] <= row["n"] for row in regions)
        counted = [visits for visits in theory_log.Log(output / "discrepancies.jsonl").visits()]
        assert sum(float(part.n.sum()) for part in counted) == sum(row["n"] for row in regions) > 0
        assert len(rows(output, "losses")) == -(-steps // every)


def test_lines_logged_after_the_checkpoint_are_dropped_on_resuming(tmp_path):
    for name in ("losses", "discrepancies"):
        (tmp_path / f"{name}.jsonl").write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"st')
    distiller = tiny.make(steps=4)
    distiller.step_count = 4
    distiller.fit([Log(tmp_path, quiet=True)])
    for name in ("losses", "discrepancies"):
        assert (tmp_path / f"{name}.jsonl").read_text() == '{"step": 2}\n{"step": 4}\n'


def test_a_run_that_stops_early_writes_no_short_line(tmp_path):
    """The partial sums are saved in its checkpoint and continue in the line that the resumed run writes."""
    from aria.distill.runs.callbacks import Callback

    class Stop(Callback):
        def step(self, distiller):
            distiller.stop = distiller.step_count == 5

    distiller = tiny.make(steps=9)
    distiller.fit([Log(tmp_path, every=3, quiet=True), Stop()])
    assert [row["step"] for row in rows(tmp_path, "losses")] == [3] and distiller.tally.steps == 2


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="logging_steps must be a whole number of at least 1, got 0"):
        Log(tmp_path, every=0)
