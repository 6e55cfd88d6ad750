"""Explanations of the names in a comparison, for its table and its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aria.bench.arms import LOOKAHEAD, STANDARD

ARMS = {
    "paired": "nowhere: no condition is replaced",
    "rc": "the pool (random conditioning)",
    "sqrt-pool": "regions, with probability proportional to the square root of their share of the pool",
    "region-uniform": "regions, all equally likely",
    "condition-uniform": "conditions, all equally likely",
    "aria-p": "regions, by tracked discrepancy × share of the pool",
    "aria-q": "regions, by tracked discrepancy × square root of their share of the pool",
    "aria-r": "regions, by tracked discrepancy alone",
    "aria": "regions, by squared tracked discrepancy × number of conditions; conditions are replaced more often, and "
    "noise levels are weighted by velocity",
    "aria-static": "conditions, all equally likely; otherwise as aria, but without discrepancy",
    "oracle": "as aria-q, but with the exact discrepancies: what perfect tracking would achieve",
}
"""Where an arm takes the condition from that replaces an image's own."""
REFERENCE = "a reference, not a method: twenty times in a run every arm restarts from the currently best student"
GROUPS = {
    "uniform": "all, equally weighted",
    "pool": "all, weighted by their frequency in the pool",
    "head": "the most frequent",
    "tail": "the rarest",
    "unseen": "those without images",
    "unseen-tail": "rare ones without images",
}
"""The conditions over which a standard group is the mean."""
EMOJI_GROUPS = {
    "cells": "every cell of style and subcategory equally weighted",
    "middle": "neither frequent nor rare",
    "shown": "those whose own picture the student has",
    "unseen-concept": "those of concepts that are withheld in one style",
    "unseen-cell": "those of subcategories that are withheld as a whole in one style",
}
"""The same of the groups that only the task emoji has."""


def of_arm(settings: Mapping[str, Any]) -> str:
    """What an arm does. An arm that only shares its name with a standard one is described as your own.

    >>> of_arm(asdict(STANDARD[1]))
    'the pool (random conditioning)'
    """
    standard = {arm.name: asdict(arm) for arm in STANDARD}
    if settings["name"] == LOOKAHEAD:
        return REFERENCE
    same = settings == standard.get(settings["name"])
    return ARMS[settings["name"]] if same else "an arm of your own: see its settings"


def of_group(name: str) -> str:
    """The conditions over which a group is the mean; groups other than the standard ones are defined by the task.

    >>> of_group("tail")
    'the rarest'
    """
    return (GROUPS | EMOJI_GROUPS).get(name, "defined by the task")
