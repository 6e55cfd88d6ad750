"""What the model card states about calling its pipeline."""

from __future__ import annotations

import inspect
import re

import diffusers
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


@pytest.mark.parametrize("family", denoisers.FAMILIES)
def test_the_card_shows_a_call_that_the_pipeline_takes(family):
    """The scale has the pipeline's name for it, and a prompt without a name is the first argument."""
    text = card._use(resolve(Config().with_values({"halve_from": 8})), family())[0]
    first, *named = re.findall(r"`pipeline\((.*?)\)`", text)[0].split(", ")
    for pipeline in family.pipelines:
        takes = inspect.signature(getattr(diffusers, pipeline).__call__).parameters
        assert {argument.split("=")[0] for argument in named} <= takes.keys()
        assert first == "prompt=prompt" or list(takes)[1] in ("prompt", "class_labels")
    assert f"{family.scale_argument}={family.unguided:g}" == named[-1]


def test_parameters_are_counted_in_units_that_show_them():
    assert summary.count(nn.Linear(100, 121)) == "12.2 k"
    assert summary.count(nn.Linear(2, 3)) == "9"
    assert [summary.in_units(number) for number in (999, 1000, 859_520_964)] == ["999", "1.0 k", "859.5 M"]
