"""What a run tells while it goes on: two logs, a progress bar, and the trackers of accelerate."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from aria import checks
from aria.distill.callbacks import lines
from aria.distill.distiller import Callback, Distiller

LOSSES, DISCREPANCIES = "losses.jsonl", "discrepancies.jsonl"


class Log(Callback):
    """Every so many steps: the mean loss of each term, and for each region that was seen the number of samples, the
    mean discrepancy, the mean square, the probability with which it is drawn, and of how many updates of the tracker
    since the row before how many visits saw it.

    ``losses.jsonl`` has one line a time, ``discrepancies.jsonl`` one line a region and time; ``aria-sim check-log``
    reads the second. A resumed run first drops what was logged after its checkpoint.
    """

    def __init__(self, output: Path, *, every: int = 10, trackers: bool = False, quiet: bool = False) -> None:
        checks.whole("logging_steps", every, least=1)
        self.output, self.every, self.trackers, self.quiet = output, every, trackers, quiet
        self._bar: Any = None

    def begin(self, distiller: Distiller) -> None:
        from tqdm.auto import tqdm

        self._clock, self._from = time.monotonic(), distiller.step_count
        main = distiller.accelerator.is_main_process
        if main:
            for name in (LOSSES, DISCREPANCIES):
                lines.drop_after(self.output / name, distiller.step_count)
        self._bar = tqdm(
            total=distiller.steps,
            initial=distiller.step_count,
            file=sys.stderr,
            disable=self.quiet or not main,
            unit="step",
            dynamic_ncols=True,
        )

    def step(self, distiller: Distiller) -> None:
        self._bar.update()
        if distiller.step_count % self.every == 0:
            self._write(distiller)

    def end(self, distiller: Distiller) -> None:
        if distiller.tally.steps and distiller.step_count == distiller.steps:
            self._write(distiller)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _write(self, distiller: Distiller) -> None:
        """The only place that waits for the device."""
        distiller.check()
        sums = {name: value.cpu() for name, value in distiller.tally.sums().items()}
        probs, steps, updates = distiller.sampler.probs().cpu(), distiller.tally.steps, distiller.tally.updates
        distiller.tally.clear_losses()
        if seen := updates > 0 or distiller.step_count == distiller.steps:  # else the running update is not over
            distiller.tally.clear_regions()
        losses = {name.removeprefix("loss."): float(v) / steps for name, v in sums.items() if name.startswith("loss.")}
        rate = (distiller.step_count - self._from) / (time.monotonic() - self._clock)
        row = {"step": distiller.step_count, **losses, "lr": distiller.learning_rate.get_last_lr()[0]}
        self._bar.set_postfix({**{name: f"{value:.4g}" for name, value in losses.items()}})
        if distiller.accelerator.is_main_process:
            lines.append(self.output / LOSSES, [{**row, "steps_per_second": round(rate, 4)}])
            if seen:
                lines.append(self.output / DISCREPANCIES, _regions(distiller.step_count, sums, probs, updates))
        if self.trackers:
            told = {f"train/{name}": value for name, value in row.items() if name != "step"}
            distiller.accelerator.log(told, step=distiller.step_count)


def _regions(step: int, sums: dict[str, Any], probs: Any, updates: int) -> list[dict[str, Any]]:
    n, total, square, visits = (sums[name] for name in ("n", "total", "square", "visits"))
    return [
        {
            "step": step,
            "region": region,
            "n": int(n[region]),
            "mean": float(total[region] / n[region]),
            "square": float(square[region] / n[region]),
            "q": float(probs[region]),
            # samples of an update that is not over come with the row: as one visit, where they are all
            "visits": max(int(visits[region]), 1),
            "updates": max(updates, 1),
        }
        for region in n.nonzero().flatten().tolist()
    ]
