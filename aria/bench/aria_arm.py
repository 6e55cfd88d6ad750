"""The benchmark's arm ``aria``: what ``aria distill`` does by default, and the two settings that differ.

Importing this module does not load torch, so that ``aria bench --help`` can show :data:`DIFFERENCES` quickly.
"""

from __future__ import annotations

from aria.distill.settings.config import Allocation, Conditioning

ALLOCATOR, TRACKER, FLOOR = Allocation.allocator, Allocation.tracker, Allocation.floor
REPLACEMENT = Conditioning.replacement
"""The defaults of ``aria distill``, which the arm shares."""
BY_CONDITION, WEIGHTING = True, "velocity"
"""What the arm sets differently."""
DIFFERENCES = (
    "The arm aria is what `aria distill` does by default – the same allocator, tracker, floor and replacement of "
    "conditions – with two differences: every condition of the pool counts the same, whatever its weight, and noise "
    "levels are weighted by velocity. `aria distill` keeps the pool's weights, because they are the distribution that "
    "you want, and weights noise levels evenly, because other weights change the balance with the feature term of its "
    "loss. To allocate as the arm does, leave out the pool's weights and set --weighting velocity."
)
"""What ``aria bench --help`` and ``aria distill``'s documentation refer to."""
