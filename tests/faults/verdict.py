"""What became of a command that was attacked: a process with a time limit, and what it left."""

from __future__ import annotations

import re
import signal
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
UNTOUCHED = "the attack came too late"
"""The detail of a same result that says nothing."""
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


def of(
    forks: Forks, arguments: list[Any], differs: Callable[[], str], canary: Path | None = None, *, summary: bool = False
) -> Verdict:
    """Run ``aria`` to its end; if it succeeds, ``differs()`` says what is not as it should be.

    ``canary`` is a file that must not change.
    """
    begin = time.monotonic()
    ended = forks.run(*arguments, seconds=LIMIT)
    verdict = judged(ended, time.monotonic() - begin, differs, summary=summary)
    if canary is not None and (not canary.is_file() or canary.read_text() != CANARY):
        return Verdict(TOUCHED, f"{canary.name} holds {canary.read_bytes()[:80]!r}" if canary.is_file() else "removed")
    return verdict


def called(forks: Forks, work: Callable[[], Any], differs: Callable[[], str], *, judges: bool = False) -> Verdict:
    """The same for a function that is called in a process of its own."""
    begin = time.monotonic()
    ended = forks.of(work, seconds=LIMIT)
    return judged(ended, time.monotonic() - begin, differs, judges=judges)


CANARY = "nobody writes here\n"
STOPPED = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of a process that was sent a signal."""
BESIDE = re.compile(
    r"[\w ]+: \d+ of \d+ \(\d+ %\).*|.*\d+%\|.*|.*; trying an older one|waiting for the process that fills .*|"
    r"[\d,]+ of [\d,]+ prompts are longer than the text encoder's .*"
)
"""Lines on standard error that are none of an error: progress, and warnings that are meant."""


def judged(
    ended: Ended, seconds: float, differs: Callable[[], str], *,
    judges: bool = False, signalled: bool = False, summary: bool = False,
) -> Verdict:  # fmt: skip
    """The verdict on a command that ended after so many seconds.

    Args:
        judges: its exit code is 1 where what it judges does not hold.
        signalled: it was sent a signal, which may have ended it.
        summary: it shows a summary on standard error before it works.
    """
    shown = ended.stdout + ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.strip() and not BESIDE.fullmatch(line)]
    last = lines[-1] if lines else ""
    if seconds >= LIMIT:
        return Verdict(HANG, last)
    if "Traceback (most recent call last)" in shown:
        return Verdict(TRACEBACK, last)
    if codes := acting(shown):
        return Verdict(CONTROL, codes)
    if ended.code in STOPPED and signalled and len(lines) <= 1:
        return Verdict(REFUSED, f"code {ended.code}: {last}")
    if ended.code == 1 and judges and not lines:
        return Verdict(REFUSED, "judged false")
    if ended.code != 0:
        line = last.startswith("Error: ") and (len(lines) == 1 or summary)
        return Verdict(REFUSED if line and ended.code == 2 else TRACEBACK, f"code {ended.code}: " + " / ".join(lines))
    found = differs()
    return Verdict(CHANGED, found) if found else Verdict(SAME)


def acting(text: str) -> str:
    """What of a text a terminal obeys, or which reorders it; empty if there is nothing. Progress bars use carriage
    returns."""
    found = {letter for letter in text if letter not in "\n\r\t" and unicodedata.category(letter) in ("Cc", "Cf")}
    return repr("".join(sorted(found))) if found else ""
