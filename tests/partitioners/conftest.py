"""Pools that several tests use."""

from __future__ import annotations

import pytest

from aria.partitioners.conformance import example_pool
from aria.pool import Pool


@pytest.fixture(params=[False, True], ids=["equal", "weighted"])
def pool(request: pytest.FixtureRequest) -> Pool:
    """The built-in pool: 640 conditions, columns "label" and "style", embeddings of dimension 8."""
    return example_pool(weighted=request.param)
