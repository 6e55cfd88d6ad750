"""Shared by all tests: repeatable property tests, and no GPU tests on a machine without one."""

from __future__ import annotations

import gc
import os

# Tests compute on small tensors, several processes at a time: handing parts of an operation to further threads only
# makes them wait for one another. Set before torch is loaded, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_finish() -> None:
    """What has been imported stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked ``gpu`` on a machine without one."""
    on_device = [item for item in items if item.get_closest_marker("gpu")]
    if not on_device:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_device:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
