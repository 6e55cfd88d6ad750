"""The logs of a run: two files, a progress bar, and accelerate's trackers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from aria import checks, run_log
from aria.distill.engine.distiller import Callback, Distiller
from aria.progress import bar, silent
from aria.run_log import DISCREPANCIES, LOSSES


class Log(Callback):
    """Writes, every ``every`` steps, the mean loss of each term and a row for each region that was observed: the number
    of samples, the mean discrepancy, the mean square, the probability of drawing it, the number of the tracker's
    updates that observed it since the previous rows, and the number of the last update.

    Samples are not counted where the tracker does not get them: at noise levels whose mean has no estimate yet, which
    at the first step is all of them.

    ``losses.jsonl`` has one line each time, ``discrepancies.jsonl`` one line per region each time; ``aria-sim
    check-log`` reads the second. A resumed run first deletes what was logged after its checkpoint.
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
                run_log.drop_after(self.output / name, distiller.step_count)
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
        """Only this and :meth:`_write_regions` synchronise with the device."""
        distiller.check()
        sums, steps = distiller.tally.losses_so_far(), distiller.tally.steps
        distiller.tally.clear_losses()
        losses = {name: float(value) / steps for name, value in sums.items()}
        seconds = time.monotonic() - self._clock
        rate = (distiller.step_count - self._from) / seconds if seconds > 0 else 0.0  # some clocks stand still
        row = {"step": distiller.step_count, **losses, "lr": distiller.learning_rate.get_last_lr()[0]}
        self._progress.show(**{name: f"{value:.4g}" for name, value in losses.items()})
        if distiller.accelerator.is_main_process:
            run_log.append(self.output / LOSSES, [{**row, "steps_per_second": round(rate, 4)}])
        if self.trackers:
            values = {f"train/{name}": value for name, value in row.items() if name != "step"}
            distiller.accelerator.log(values, step=distiller.step_count)

    def _write_regions(self, distiller: Distiller) -> None:
        """Write the rows of regions; between two updates of the tracker, wait for the next."""
        if distiller.step_count % distiller.sampler.every:
            return
        sums = {name: value.cpu() for name, value in distiller.tally.seen_so_far().items()}
        probs, update = distiller.sampler.probs().cpu(), distiller.sampler.updates
        distiller.tally.clear_regions(distiller.step_count)
        if distiller.accelerator.is_main_process:
            run_log.append(self.output / DISCREPANCIES, _rows(distiller.step_count, update, sums, probs))


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
