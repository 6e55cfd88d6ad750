"""One browser for all tests of this folder, and the rule that they run only where they are selected."""

from __future__ import annotations

import os

import pytest

from tests.browser import chromium


@pytest.fixture(scope="session")
def program() -> str:
    path = chromium.found()
    if path is None and "ARIA_NEEDS_BROWSER" in os.environ:
        pytest.fail("there is no Chromium: apt-get install chromium")
    return path or pytest.skip("there is no Chromium: apt-get install chromium")


@pytest.fixture(scope="session")
def browser(program, tmp_path_factory):
    with chromium.browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect these tests unless they are selected by their mark or their folder."""
    if "browser" in config.option.markexpr or any("browser" in argument for argument in config.args):
        return
    left_out = [item for item in items if item.get_closest_marker("browser")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
