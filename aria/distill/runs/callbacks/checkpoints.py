"""Saves checkpoints during training, at its end, and when a signal stops it."""

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
"""Sampler updates between two agreements of the ranks on whether to stop, since each synchronises with the device."""


class Checkpoints(Callback):
    """Saves a checkpoint every ``every`` steps, at the end, and after SIGTERM or SIGINT, which stop the run."""

    def __init__(self, output: Path, *, every: int = 500, limit: int | None = None, settings: dict[str, Any]) -> None:
        checks.whole("checkpointing_steps", every, least=1)
        if limit is not None:
            checks.whole("checkpoints_total_limit", limit, least=1)
        self.output, self.every, self.limit, self.settings = output, every, limit, settings
        self.signal: int | None = None
        self._before: dict[int, Any] = {}
        self._saved = -1

    def begin(self, distiller: Distiller) -> None:
        self._saved = distiller.step_count
        self._check_intervals(distiller)
        if threading.current_thread() is not threading.main_thread():
            return  # Python handles signals in the main thread only
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._receive)

    def _check_intervals(self, distiller: Distiller) -> None:
        """Refuse to save between sampler updates on several ranks: their observations have not been exchanged yet."""
        every = distiller.sampler.every
        for name, steps in (("checkpointing_steps", self.every), ("max_train_steps", distiller.steps)):
            if steps % every and distiller.accelerator.num_processes > 1:
                raise ValueError(f"on several processes {name} must be a multiple of every={every}, got {steps}")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

    def step(self, distiller: Distiller) -> None:
        if self._agreed(distiller):
            distiller.stop, distiller.stopped_by = True, self.signal or signal.SIGTERM
        elif distiller.step_count % self.every == 0 and distiller.step_count < distiller.steps:
            self._save(distiller)  # the last one is saved at the end, when its losses have been logged

    def _agreed(self, distiller: Distiller) -> bool:
        """Whether any rank received a signal. Collective: all ranks stop at the same step, so that none waits."""
        if distiller.accelerator.num_processes == 1:
            return self.signal is not None
        if distiller.step_count % (AGREE * distiller.sampler.every):
            return False
        received = torch.tensor(int(self.signal is not None), device=distiller.device)
        return bool(distiller.accelerator.reduce(received, "sum"))

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
