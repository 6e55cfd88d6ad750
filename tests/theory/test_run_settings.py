"""Only a run whose allocator is known to ignore the estimates gets oblivious bounds."""

from __future__ import annotations

import json

import pytest

from aria import registry
from aria.distill.settings.config import Config
from aria.interfaces import Allocator
from theory.run_settings import IGNORE_ESTIMATES, feedback_of


@pytest.mark.parametrize(
    ("spec", "adaptive"),
    [
        ("pool", False),
        ("pool(base=0.5)", False),
        ("uniform", False),
        ("proportional", True),
        ("softmax(temperature=0.5)", True),
        ("poolish", True),
        ("mine.py:Pool()", True),
    ],
)
def test_the_allocator_is_read_from_the_config_of_the_run(tmp_path, spec, adaptive):
    Config().with_values({"allocator": spec}).save(tmp_path / "config.json")
    found = feedback_of(tmp_path / "discrepancies.jsonl")
    assert found.adaptive == adaptive and repr(spec) in found.reason


@pytest.mark.parametrize(
    "text", [None, "{", "[]", "{}", '{"allocation": {}}', '{"allocation": {"allocator": 3}}', "\xff"]
)
def test_an_unknown_allocator_means_adaptive_bounds(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="latin-1")
    found = feedback_of(tmp_path / "discrepancies.jsonl")
    assert found.adaptive and found.reason.startswith("the allocator is not known")


def test_a_flat_config_is_read_too(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"allocator": "pool"}))
    assert not feedback_of(tmp_path / "discrepancies.jsonl").adaptive


@pytest.mark.parametrize("name", [name for name in registry.available(Allocator) if name != "oracle"])
def test_the_list_has_exactly_the_allocators_that_ignore_estimates(name):
    """Each is shown two different estimates, at different scales and with different errors."""
    import torch

    from aria.interfaces import Estimate

    mass = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    values = torch.tensor([[1.0, 2.0, 4.0], [4.0, 1.0, 0.5]], dtype=torch.float64)
    errors = torch.tensor([[0.1, 0.5, 1.0], [2.0, 0.3, 0.1]], dtype=torch.float64)
    first, second = registry.allocator(name)(Estimate(values, errors), mass)
    same = torch.allclose(first / first.sum(), second / second.sum())
    assert same == (name in IGNORE_ESTIMATES)
