"""Shared by the tests of hostile files."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture
def alarm():
    """A pipe that is opened, or a model of ten million layers, would hang: the test fails after a minute."""

    def fail(number, frame):
        pytest.fail("it hangs")  # which no `except Exception` of the tested code catches

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
