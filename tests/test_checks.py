"""Checks of settings, on numbers that are none and on those too large for a float."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner

from aria import checks
from aria.cli import main

HUGE = 10**400
CHECKS = checks.open_unit, checks.half_open_unit, checks.closed_unit, checks.positive, checks.non_negative


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", [HUGE, -HUGE, math.inf, -math.inf, math.nan, True, "1", None, 1j],
                         ids=["huge", "-huge", "inf", "-inf", "nan", "True", "text", "None", "1j"])  # fmt: skip
def test_what_is_no_finite_number_is_refused(check, value):
    with pytest.raises(ValueError, match="value must"):
        check("value", value)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", [0.5, Fraction(1, 2), np.float32(0.5)])
def test_any_kind_of_number_is_one(check, value):
    check("value", value)


def test_ends_belong_to_their_intervals_or_not():
    for check, least, most in (
        (checks.half_open_unit, False, True), (checks.closed_unit, True, True), (checks.open_unit, False, False)
    ):  # fmt: skip
        for value, allowed in ((0, least), (1, most)):
            if allowed:
                check("value", value)
            else:
                with pytest.raises(ValueError, match="must lie in"):
                    check("value", value)


def test_a_number_of_four_hundred_digits_is_one_line():
    done = CliRunner().invoke(main, ["check", "tracker", f"ema(rate={'9' * 400})"])
    assert done.exit_code == 2 and "rate must" in done.stderr.splitlines()[-1], done.output
