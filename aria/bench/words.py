"""What the names in a comparison mean, for those who read its table or its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aria.bench.arms import LOOKAHEAD, STANDARD

ARMS = {
    "paired": "from nowhere: no condition is replaced",
    "rc": "from the pool, as random conditioning has it",
    "sqrt-pool": "from regions by the square root of their share of the pool",
    "region-uniform": "from all regions alike",
    "condition-uniform": "from all conditions alike",
    "aria-p": "from regions by tracked discrepancy times their share of the pool",
    "aria-q": "from regions by tracked discrepancy times the square root of their share",
    "aria-r": "from regions by tracked discrepancy alone",
    "aria": "from regions by tracked discrepancy times their number of conditions; noise levels count by velocity, and "
    "of three eighths of every batch the student makes the images itself",
    "aria-static": "as aria without discrepancy: from all conditions alike",
    "oracle": "as aria-q, told the exact discrepancies: what perfect tracking would bring",
}
"""Where the conditions come from that an arm puts in the place of an image's own."""
MARK = "no arm but a mark: all arms again, going on from the best one's student twenty times in a run"
GROUPS = {
    "uniform": "all alike",
    "pool": "as often as the pool holds them",
    "head": "the most frequent",
    "tail": "the rarest",
    "unseen": "without images",
    "unseen-tail": "rare and without images",
}
"""Over which conditions a group is the mean."""


def of_arm(told: Mapping[str, Any]) -> str:
    """What an arm does; a user's own may have the name of a standard one.

    >>> of_arm(asdict(STANDARD[1]))
    'from the pool, as random conditioning has it'
    """
    known = {arm.name: asdict(arm) for arm in STANDARD}
    if told["name"] == LOOKAHEAD:
        return MARK
    return ARMS[told["name"]] if told == known.get(told["name"]) else "an arm of your own: see its settings"


def of_group(name: str) -> str:
    """Over which conditions a group is the mean; other groups than these are a task's own.

    >>> of_group("tail")
    'the rarest'
    """
    return GROUPS.get(name, "the task's own")
