"""What a run tells while it goes on: two logs, a progress bar, and the trackers of accelerate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from aria import checks
from aria.distill.engine.distiller import Callback, Distiller
from aria.distill.runs.callbacks import lines
from aria.progress import bar, silent

LOSSES, DISCREPANCIES = "losses.jsonl", "discrepancies.jsonl"


class Log(Callback):
    """Every so many steps: the mean loss of each term, and for each region that was seen the number of samples, the
    mean discrepancy, the mean square, the probability with which it is drawn, how many of the tracker's updates saw it
    since the rows before, and which update was the last.

    The tracker is not told of samples at noise levels whose mean is not known yet, as all are at the first step.

    ``losses.jsonl`` has one line a time, ``discrepancies.jsonl`` one line a region and time; ``aria-sim check-log``
    reads the second. A resumed run first drops what was logged after its checkpoint.
    """

    def __init__(self, output: Path, *, every: int = 10, trackers: bool = False, quiet: bool = False) -> None:
        checks.whole("logging_steps", every, least=1)
        self.output, self.every, self.trackers, self.quiet = output, every, trackers, quiet
        self._progress = silent("steps")

    def begin(self, distiller: Distiller) -> None:
        self._clock, self._from = time.monotonic(), distiller.step_count
        main = distiller.accelerator.is_main_process
        if main:
            for name in (LOSSES, DISCREPANCIES):
                lines.drop_after(self.output / name, distiller.step_count)
        self._progress = bar("steps", hidden=self.quiet or not main)
        self._progress(distiller.step_count, distiller.steps)

    def step(self, distiller: Distiller) -> None:
        if distiller.step_count % self.every == 0:
            self._write_losses(distiller)
        self._progress(distiller.step_count, distiller.steps)
        if distiller.step_count // self.every > distiller.tally.since // self.every:
            self._write_regions(distiller)

    def end(self, distiller: Distiller) -> None:
        if distiller.step_count == distiller.steps:
            if distiller.tally.steps:
                self._write_losses(distiller)
            if distiller.tally.since < distiller.step_count:
                self._write_regions(distiller)

    def close(self) -> None:
        self._progress.close()

    def _write_losses(self, distiller: Distiller) -> None:
        """Here, and where rows of regions are written, alone one waits for the device."""
        distiller.check()
        sums, steps = distiller.tally.losses_so_far(), distiller.tally.steps
        distiller.tally.clear_losses()
        losses = {name: float(value) / steps for name, value in sums.items()}
        rate = (distiller.step_count - self._from) / (time.monotonic() - self._clock)
        row = {"step": distiller.step_count, **losses, "lr": distiller.learning_rate.get_last_lr()[0]}
        self._progress.show(**{name: f"{value:.4g}" for name, value in losses.items()})
        if distiller.accelerator.is_main_process:
            lines.append(self.output / LOSSES, [{**row, "steps_per_second": round(rate, 4)}])
        if self.trackers:
            told = {f"train/{name}": value for name, value in row.items() if name != "step"}
            distiller.accelerator.log(told, step=distiller.step_count)

    def _write_regions(self, distiller: Distiller) -> None:
        """What the tracker was told; while one of its updates is being summed up, rows wait for it."""
        if distiller.step_count % distiller.sampler.every:
            return
        sums = {name: value.cpu() for name, value in distiller.tally.seen_so_far().items()}
        probs, update = distiller.sampler.probs().cpu(), distiller.sampler.updates
        distiller.tally.clear_regions(distiller.step_count)
        if distiller.accelerator.is_main_process:
            lines.append(self.output / DISCREPANCIES, _rows(distiller.step_count, update, sums, probs))


def _rows(step: int, update: int, sums: dict[str, Any], probs: Any) -> list[dict[str, Any]]:
    n, total, square, visits = (sums[name] for name in ("n", "total", "square", "visits"))
    return [
        {
            "step": step,
            "region": region,
            "n": int(n[region]),
            "mean": float(total[region] / n[region]),
            "square": float(square[region] / n[region]),
            "q": float(probs[region]),
            "visits": int(visits[region]),
            "update": update,
        }
        for region in n.nonzero().flatten().tolist()
    ]
