"""Saving while training, and at the end of a run that is asked to stop."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from aria import checks
from aria.distill.engine.distiller import Callback, Distiller
from aria.distill.runs import checkpoint

AGREE = 10
"""Steps between two times at which several ranks ask each other whether to stop: asking waits for the device."""


class Checkpoints(Callback):
    """A checkpoint every so many steps, at the end, and where SIGTERM or SIGINT asks the run to stop."""

    def __init__(self, output: Path, *, every: int = 500, limit: int | None = None, settings: dict[str, Any]) -> None:
        checks.whole("checkpointing_steps", every, least=1)
        if limit is not None:
            checks.whole("checkpoints_total_limit", limit, least=1)
        self.output, self.every, self.limit, self.settings = output, every, limit, settings
        self.asked: int | None = None
        self._before: dict[int, Any] = {}
        self._saved = -1

    def begin(self, distiller: Distiller) -> None:
        self._saved = distiller.step_count
        self._whole_updates(distiller)
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread is told of signals
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._ask)

    def _whole_updates(self, distiller: Distiller) -> None:
        """On several ranks the sampler can be saved only where they have just exchanged what they saw."""
        every = distiller.sampler.every
        for name, steps in (("checkpointing_steps", self.every), ("max_train_steps", distiller.steps)):
            if steps % every and distiller.accelerator.num_processes > 1:
                raise ValueError(f"on several processes {name} must be a multiple of every={every}, got {steps}")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number

    def step(self, distiller: Distiller) -> None:
        if self._agreed(distiller):
            distiller.stop, distiller.stopped_by = True, self.asked or signal.SIGTERM
        elif distiller.step_count % self.every == 0:
            self._save(distiller)

    def _agreed(self, distiller: Distiller) -> bool:
        """Whether any rank was asked to stop: they agree on it together, so that none waits for another."""
        if distiller.accelerator.num_processes == 1:
            return self.asked is not None
        if distiller.step_count % (AGREE * distiller.sampler.every):
            return False
        asked = torch.tensor(int(self.asked is not None), device=distiller.device)
        return bool(distiller.accelerator.reduce(asked, "sum"))

    def end(self, distiller: Distiller) -> None:
        if self._saved != distiller.step_count:
            self._save(distiller)

    def close(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _save(self, distiller: Distiller) -> None:
        distiller.check()
        checkpoint.save(
            distiller.state(),
            self.output,
            distiller.step_count,
            settings=self.settings,
            accelerator=distiller.accelerator,
            limit=self.limit,
        )
        self._saved = distiller.step_count
