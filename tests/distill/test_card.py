"""What a card says of how its pipeline is called."""

from __future__ import annotations

import re

import pytest

from aria.distill import card
from aria.distill.config import Config


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({}, []),
        ({"guidance_max": 4.0}, ["pipeline(prompt, guidance_scale=2.5)"]),
        ({"halve_from": 8}, ["pipeline(prompt, num_inference_steps=4, guidance_scale=1)"]),
        ({"halve_from": 8, "guidance_max": 4.0}, ["pipeline(prompt, num_inference_steps=4, guidance_scale=2.5)"]),
    ],
)
def test_one_call_says_all_that_matters(settings, calls):
    said = "\n".join(card._use(Config().with_values(settings)))
    assert re.findall(r"`(pipeline\(.*?\))`", said) == calls
    assert ("without guidance" in said) == (settings == {"halve_from": 8})
