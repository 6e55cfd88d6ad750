"""An experiment: arms × seeds on one task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from aria import checks
from aria.bench.arms import ORACLE, Arm
from aria.bench.settings import SETTINGS, Setting
from aria.checks import InvalidSetting
from aria.tasks.base import AnyTask


@dataclass(frozen=True)
class Experiment:
    """Runs of ``arms`` × ``seeds`` on ``task`` that differ in nothing else.

    >>> from aria.bench import STANDARD
    >>> from aria.tasks import Concepts
    >>> Experiment(Concepts(), STANDARD[:2], seeds=range(3)).setting.replacement
    'exponential(5.0)'
    """

    task: AnyTask
    arms: Sequence[Arm]
    seeds: Sequence[int]
    setting: Setting = SETTINGS["rc"]
    _: KW_ONLY
    steps: int | None = None
    """Number of training steps of every run; by default the task's."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Other training settings that all runs share: fields of :class:`aria.bench.Recipe` for a task in memory, settings
    of ``aria distill`` for a task on disk."""
    exams: int = 8
    """Number of evaluations during a run, at equal distances; the last one is at the end."""
    lookahead: bool = False
    """Whether greedy lookahead over all arms (:mod:`aria.bench.lookahead`) is run as well."""
    device: str | None = None
    """Where models compute: ``"cpu"`` or ``"cuda"``; by default CUDA if it is available. Runs on disk draw their random
    numbers there, so their results are kept apart by device; those in memory draw them on the CPU."""

    def __post_init__(self) -> None:
        for what, many in (("arms", [arm.name for arm in self.arms]), ("seeds", list(self.seeds))):
            if not many:
                raise InvalidSetting(what, "missing", f"there is nothing to compare: no {what}")
            if repeated := [str(name) for name, count in Counter(many).items() if count > 1]:
                message = f"{what} must be different from one another, got {', '.join(repeated)} more than once"
                raise InvalidSetting(what, "conflict", message)
        checks.whole("exams", self.exams, least=1)
        if not self.task.exact and any(arm.allocator == ORACLE for arm in self.arms):
            message = "the oracle needs exact discrepancies, which no task on disk has: leave that arm out"
            raise InvalidSetting("arms", "conflict", message)
        if self.steps is not None:
            checks.whole("steps", self.steps, least=1)
