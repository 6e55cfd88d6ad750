"""Every exported tracker passes the conformance check, and the check detects each violation."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

import aria
from aria import trackers
from aria.interfaces import Estimate, Tracker
from aria.testing import check_tracker
from aria.trackers import EMA

EXAMPLES = [example for name in trackers.__all__ for example in getattr(trackers, name).examples()]


def test_every_tracker_of_the_package_is_exported():
    found, queue = set(), [Tracker]
    while queue:
        for cls in queue.pop().__subclasses__():
            queue.append(cls)
            if cls.__module__.startswith("aria.trackers"):
                found.add(cls.__name__)
    assert found == set(trackers.__all__)


@pytest.mark.parametrize("tracker", EXAMPLES, ids=repr)
def test_conforms(tracker):
    check_tracker(tracker)


@dataclass(frozen=True)
class Broken(EMA):
    """An EMA with one defect at a time."""

    defect: str = ""

    def init(self, shape, device=None):
        state = super().init(shape, device)
        if self.defect == "flat state":
            state["flat"] = state["value"].flatten()
        return state

    def update(self, state, stats):
        if self.defect == "counts empties":
            stats = stats._replace(n=stats.n.clamp(min=1))
        if self.defect == "in place":
            state["value"].add_(1)
        if self.defect == "mixes regions":
            stats = stats._replace(total=stats.total.flip(-1) * (stats.n > 0))
        if self.defect == "mixes replicas" and stats.n.ndim > 1:
            stats = stats._replace(total=stats.total.mean(0, keepdim=True).expand_as(stats.total) * (stats.n > 0))
        if self.defect == "new name":
            return super().update(state, stats) | {"extra": state["value"]}
        if self.defect == "new type":
            return super().update(state | {"lag": state["lag"].double()}, stats) | {"lag": state["lag"].long()}
        if self.defect == "weighs visits":
            return EMA(rate=0.1, importance=True).update(state, stats)
        if self.defect == "on the host":
            return super().update(state, stats) | {"lag": state["lag"] + float(stats.n.sum()) * 0}
        if self.defect == "random":
            return super().update(state, stats._replace(total=stats.total * torch.rand(())))
        return super().update(state, stats)

    def estimate(self, state):
        value, stderr = super().estimate(state)
        if self.defect == "zero is unseen":
            return Estimate(value, stderr.nan_to_num(posinf=0.0))
        if self.defect == "biased":
            return Estimate(1.05 * value, stderr)
        if self.defect == "nan":
            return Estimate(value / (value > 0), stderr)
        return Estimate(value, stderr)


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("zero is unseen", "stderr = inf for regions without observations"),
        ("counts empties", "stderr = inf in a region that is never observed"),
        ("in place", "changed the state it was given in place"),
        ("mixes regions", "when regions are renumbered"),
        ("mixes replicas", "for a replica run on its own"),
        ("new name", "changed its state's names"),
        ("new type", "changed the shape or type of its state 'lag'"),
        ("flat state", "does not begin with"),
        ("random", "two different results for the same update"),
        ("biased", "does not reproduce a signal"),
        ("nan", "finite values"),
        ("weighs visits", "has uses_visit = False"),
        ("on the host", "leaves its device"),
    ],
)
def test_the_check_names_the_defect(defect, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_tracker(Broken(defect=defect))


def test_mutable_trackers_are_refused():
    class Mutable(Tracker):
        init, update, estimate = EMA.init, EMA.update, EMA.estimate

    with pytest.raises(AssertionError, match="frozen dataclass"):
        check_tracker(Mutable())


@dataclass(frozen=True)
class Unsure(EMA):
    """Keeps NaN beside its state."""

    def init(self, shape, device=None):
        return super().init(shape, device) | {"unknown": torch.full(shape, torch.nan, device=device)}

    def update(self, state, stats):
        return super().update(state, stats) | {"unknown": state["unknown"].clone()}


def test_nan_in_the_memory_is_refused_before_it_is_in_a_checkpoint():
    """A run with it could be saved and never resumed; the sampler does not save it either."""
    with pytest.raises(AssertionError, match=r"has NaN in its state 'unknown', which cannot be saved"):
        check_tracker(Unsure())
    sampler = aria.Sampler(aria.partitioners.OneRegion().fit(aria.Pool(size=2)), tracker=Unsure())
    with pytest.raises(ValueError, match=r"tracker\.unknown in the state holds NaN"):
        sampler.state_dict()
