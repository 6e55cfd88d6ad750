"""What became of a command that was attacked: a process with a time limit, and what it left."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.distill.forks import Forks
from tests.processes import Ended

LIMIT = 60.0
"""Seconds after which a command counts as hanging; they take one or two."""

REFUSED, SAME = "refused", "same result"
SURVIVED = (REFUSED, SAME)
CHANGED, TRACEBACK, HANG = "silent change", "traceback", "hang"
TOUCHED, CONTROL, NEEDLESS = "foreign file touched", "control codes", "refused without need"


@dataclass(frozen=True)
class Verdict:
    """How an attack ended."""

    outcome: str
    detail: str = ""

    @property
    def survived(self) -> bool:
        return self.outcome in SURVIVED


def of(forks: Forks, arguments: list[Any], differs: Callable[[], str], canary: Path | None = None) -> Verdict:
    """Run ``aria`` to its end; if it succeeds, ``differs()`` says what is not as it should be.

    ``canary`` is a file that must not change.
    """
    begin = time.monotonic()
    ended = forks.run(*arguments, seconds=LIMIT)
    verdict = judged(ended, time.monotonic() - begin, differs)
    if canary is not None and canary.read_text() != CANARY:
        return Verdict(TOUCHED, f"{canary.name} holds {canary.read_bytes()[:80]!r}")
    return verdict


CANARY = "nobody writes here\n"


def judged(ended: Ended, seconds: float, differs: Callable[[], str]) -> Verdict:
    """The verdict on a command that ended after so many seconds."""
    shown = ended.stdout + ended.stderr
    last = ended.stderr.strip().splitlines()[-1:] or [""]
    if seconds >= LIMIT:
        return Verdict(HANG, last[0])
    if "Traceback (most recent call last)" in shown:
        return Verdict(TRACEBACK, last[0])
    if codes := {letter for letter in shown if _is_control(letter)}:
        return Verdict(CONTROL, repr("".join(sorted(codes))))
    if ended.code != 0:
        line = last[0].startswith("Error: ") or "stopped at step" in last[0]
        return Verdict(REFUSED if line else TRACEBACK, last[0])
    found = differs()
    return Verdict(CHANGED, found) if found else Verdict(SAME)


def _is_control(letter: str) -> bool:
    """What a terminal obeys; progress bars use carriage returns."""
    return letter not in "\n\r\t" and unicodedata.category(letter) in ("Cc", "Cf")
