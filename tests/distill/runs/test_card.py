"""What the model card states about calling its pipeline."""

from __future__ import annotations

import re

import pytest
from torch import nn

from aria.distill.models import denoisers
from aria.distill.runs import card, summary
from aria.distill.runs.plan import resolve
from aria.distill.settings.config import Config


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({}, []),
        ({"guidance_max": 4.0}, ["pipeline(prompt, guidance_scale=2.5)"]),
        ({"halve_from": 8}, ["pipeline(prompt, num_inference_steps=4, guidance_scale=1)"]),
        ({"halve_from": 8, "guidance_max": 4.0}, ["pipeline(prompt, num_inference_steps=4, guidance_scale=2.5)"]),
    ],
)
def test_the_card_shows_one_call_with_all_that_matters(settings, calls):
    text = "\n".join(card._use(resolve(Config().with_values(settings)), denoisers.StableDiffusion()))
    assert re.findall(r"`(pipeline\(.*?\))`", text) == calls
    assert ("without guidance" in text) == (settings == {"halve_from": 8})


def test_the_card_calls_the_scale_what_the_pipeline_calls_it():
    plan = resolve(Config().with_values({"halve_from": 8}))
    calls = {family: card._use(plan, family())[0] for family in (denoisers.QwenImage, denoisers.ZImage)}
    assert "true_cfg_scale=1)" in calls[denoisers.QwenImage] and "guidance_scale=0)" in calls[denoisers.ZImage]


def test_parameters_are_counted_in_units_that_show_them():
    assert summary.count(nn.Linear(100, 121)) == "12.2 k"
    assert summary.count(nn.Linear(2, 3)) == "9"
    assert [summary.in_units(number) for number in (999, 1000, 859_520_964)] == ["999", "1.0 k", "859.5 M"]
