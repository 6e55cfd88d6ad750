"""Conformance checks for your own classes: call them in your tests.

>>> from aria.trackers import EMA
>>> check_tracker(EMA(rate=0.3))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aria.allocators.conformance import check_allocator
from aria.partitioners.conformance import check_partitioner
from aria.trackers.conformance import check_tracker

if TYPE_CHECKING:
    from aria.distill.models.denoisers import Denoiser
    from aria.distill.objectives import Objective

__all__ = ["check_allocator", "check_denoiser", "check_objective", "check_partitioner", "check_tracker"]


def check_objective(objective: Objective, seed: int = 0) -> None:
    """See :func:`aria.distill.objectives.conformance.check_objective`; needs the extra ``distill``."""
    from aria.distill.objectives.conformance import check_objective as check

    check(objective, seed)


def check_denoiser(
    denoiser: Denoiser, pipeline: Any, texts: Sequence[str] | None = None, seed: int = 0, **size: int | None
) -> None:
    """See :func:`aria.distill.models.denoisers.conformance.check_denoiser`; needs the extra ``distill``."""
    from aria.distill.models.denoisers.conformance import TEXTS
    from aria.distill.models.denoisers.conformance import check_denoiser as check

    check(denoiser, pipeline, TEXTS if texts is None else texts, seed, **size)
