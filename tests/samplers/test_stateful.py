"""The sampler under any interleaving of its calls, compared with a model in plain Python and with an undisturbed twin.

The *model* does with lists of numbers what the sampler documents, and runs the tracker over all observations. The
*twin* is a second sampler that gets the same draws and observations but is never saved, loaded, reset or queried;
the sampler must draw the same, bit for bit.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from safetensors.torch import load, save

import aria
from aria import allocators, trackers
from aria.checks import InvalidSetting
from aria.interfaces import Allocator, RegionStats
from aria.partitioners import Labels, Product


@dataclass(frozen=True)
class Careless(Allocator):
    """An allocator that gives weight to empty regions too."""

    def __call__(self, estimate, mass):
        return 1 + estimate.value


POOL = aria.Pool(
    columns={
        "animal": ["cat", "cat", "cat", "dog", "dog", "dog", "dog", "axolotl"],
        "style": ["ink", "photo", "photo", "ink", "ink", "ink", "ink", "photo"],
        "hue": ["red", "red", "blue", "red", "red", "blue", "blue", "blue"],
    }
)
STYLES = Product(Labels("animal"), Labels("style"))
LEVELS = [part.fit(POOL) for part in (Labels("animal"), STYLES, Product(STYLES, Labels("hue")))]
"""Each halves the regions of the one before: region k came out of k // 2. The finer ones have empty regions."""
TRACKERS = [example for name in trackers.__all__ for example in getattr(trackers, name).examples()]
TRACKERS += len(TRACKERS) // 2 * [trackers.EMA(rate=0.3, importance=True)]  # the only one that uses visit probabilities
ALLOCATORS = [Careless(), *(example for name in allocators.__all__ for example in getattr(allocators, name).examples())]
TIMESTEPS, BUCKETS, BUCKET_RATE = 1000, 10, 0.02

good = st.sampled_from([0.0, 0.25, 1.0, 2.5, 7.0, 1e-3, 3e4])
bad = st.sampled_from([math.nan, math.inf, -1.0, -math.inf, 1e39])
signals = st.one_of(good, good, good, good, good, good, bad)
options = st.fixed_dictionaries(
    {
        "mass": st.sampled_from([None, (0.5, 0.3, 0.2), (0.25, 0.0, 0.75)]),
        "floor": st.sampled_from([0.0, 0.2, 0.7, 1.0]),
        "correction": st.sampled_from(["none", "importance", "tempered(0.5)"]),
        "stratified": st.booleans(),
        "warmup": st.integers(0, 3),
        "every": st.integers(1, 3),
        "timesteps": st.sampled_from([None, TIMESTEPS]),
        "nonfinite": st.sampled_from(["raise", "skip"]),
        "seed": st.integers(0, 2**40),
    }
)
OTHERS = {
    "floor": 0.31,
    "correction": "tempered(0.125)",
    "warmup": 9,
    "every": 7,
    "timesteps": 77,
    "seed": -1,
    "tracker": "ema(rate=0.77)",
    "allocator": "softmax(temperature=0.77)",
}
"""A value that no run has for each setting; of the two flags the other value is taken."""


class Refused(Exception):
    """Raised by the model for a signal that must be refused, with its region."""


class Model:
    """A sampler in lists of numbers. ``observed`` holds all that its tracker observed, (4, K) per step."""

    def __init__(self, tracker, allocator, settings):
        self.tracker, self.allocator, self.settings = tracker, allocator, settings
        self.level, self.skipped = 0, 0
        own = settings["mass"] or LEVELS[0].mass.tolist()
        self.mass = np.array(own)
        self.reset()

    def reset(self):
        self.step, self.observed, self.pending = 0, [], []
        self.bucket_mean, self.bucket_visits = [0.0] * BUCKETS, [0] * BUCKETS
        self.skipped = 0
        self.state = self.tracker.init((len(self.mass),))

    def probs(self):
        """(K,) the floor's share of the mass, and the rest by the allocator's weights where there is mass."""
        if len(self.observed) < self.settings["warmup"]:
            return self.mass
        wanted = self.allocator(self.tracker.estimate(self.state), torch.from_numpy(self.mass)).numpy()
        wanted = np.where(self.mass > 0, wanted, 0.0)
        floor = self.settings["floor"]
        return floor * self.mass + (1 - floor) * wanted / wanted.sum()

    def weight(self, probs):
        """(K,) (p/q)^λ."""
        power = {"none": 0.0, "importance": 1.0, "tempered(0.5)": 0.5}[self.settings["correction"]]
        return np.divide(self.mass, probs, out=np.ones_like(probs), where=probs > 0) ** power

    def visit(self, probs, n):
        """(K,) the probability that a draw of n visits each region."""
        return np.minimum(n * probs, 1.0) if self.settings["stratified"] else 1 - (1 - probs) ** n

    def observe(self, region, signal, counts, timestep, visit):
        sums, buckets, skipped = np.zeros((3, len(self.mass))), np.zeros((2, BUCKETS)), 0
        for k, y, counted, t in zip(region, signal, counts, timestep, strict=True):
            y = float(np.float32(y)) if abs(y) < 1e38 else y * math.inf
            if not counted:
                continue
            if y < 0 or (not math.isfinite(y) and self.settings["nonfinite"] == "raise"):
                raise Refused(k)
            if not math.isfinite(y):
                skipped += 1
                continue
            if self.settings["timesteps"]:
                bucket = t * BUCKETS // TIMESTEPS
                buckets[:, bucket] += 1, y
                if not self.bucket_mean[bucket]:
                    continue
                y = float(np.float32(y / self.bucket_mean[bucket]))
            sums[:, k] += 1, y, y * y
        self.skipped += skipped
        self.pending.append((sums, buckets, visit))
        if len(self.pending) == self.settings["every"]:
            self.update()

    def update(self):
        """One step of the tracker, and of the mean of every bucket: bias-corrected averages over its visits."""
        all_sums, all_buckets, visits = zip(*self.pending, strict=True)
        self.pending = []
        missed = np.prod([1 - visit for visit in visits], axis=0)
        self.observed.append(np.vstack([sum(all_sums), 1 - missed]))
        self.state = self.tracker.update(self.state, RegionStats(*map(torch.from_numpy, self.observed[-1].copy())))
        for bucket, (n, total) in enumerate(sum(all_buckets).T):
            if n:
                self.bucket_visits[bucket] += 1
                gain = BUCKET_RATE / (1 - (1 - BUCKET_RATE) ** self.bucket_visits[bucket])
                self.bucket_mean[bucket] += gain * (total / n - self.bucket_mean[bucket])

    def refine(self):
        """As if every new region had observed everything that its parent observed."""
        self.level += 1
        parent = np.arange(LEVELS[self.level].num_regions) // 2
        own, before = (LEVELS[level].mass.numpy() for level in (self.level, self.level - 1))
        share = np.divide(own, before[parent], out=np.zeros_like(own), where=own > 0)
        self.mass = self.mass[parent] * share
        self.observed = [np.ascontiguousarray(seen[:, parent]) for seen in self.observed]
        self.state = self.tracker.init((len(self.mass),))
        for seen in self.observed:
            self.state = self.tracker.update(self.state, RegionStats(*map(torch.from_numpy, seen.copy())))


def signals_for(data, region):
    """A signal, bad now and then, and a timestep for each sample."""
    pairs = st.lists(st.tuples(signals, st.integers(0, 9)), min_size=len(region), max_size=len(region))
    drawn_pairs = data.draw(pairs)
    return [signal for signal, _ in drawn_pairs], [111 * timestep for _, timestep in drawn_pairs]


def limits(data, region, visit, some, own):
    """If wanted, which samples count, and the caller's own probabilities of visits."""
    counts = st.lists(st.booleans(), min_size=len(region), max_size=len(region))
    chances = st.lists(st.sampled_from([0.1, 0.5, 1.0]), min_size=len(visit), max_size=len(visit))
    return data.draw(counts) if some else None, np.array(data.draw(chances)) if own else None


class SamplerMachine(RuleBasedStateMachine):
    drawn = Bundle("drawn")
    saved = Bundle("saved")

    @initialize(tracker=st.sampled_from(TRACKERS), allocator=st.sampled_from(ALLOCATORS), settings=options)
    def make(self, tracker, allocator, settings):
        self.parts, self.settings = (tracker, allocator), settings
        self.model = Model(tracker, allocator, settings)
        self.sampler, self.twin = self.fresh(), self.fresh()
        self.origin = (0, None)  # the level and mass at the start
        self.story = []  # every call to the twin since

    def fresh(self, level=0, mass=None, **other):
        """A fresh sampler."""
        settings = self.settings | {"tracker": self.parts[0], "allocator": self.parts[1]} | other
        if mass is not None or settings["mass"] is not None:
            settings["mass"] = torch.tensor(settings["mass"], dtype=torch.float64) if mass is None else mass
        return aria.Sampler(LEVELS[level], **settings)

    def do(self, act):
        """Do the same with the sampler and its twin; returns both results."""
        result, same = act(self.sampler), act(self.twin)
        self.story.append(act)
        return result, same

    # The calls ------------------------------------------------------------------------------------------------------

    @rule(target=drawn, n=st.integers(1, 9))
    def draw(self, n):
        probs = self.model.probs()
        draw, same = self.do(lambda sampler: sampler.draw(n))
        assert torch.equal(draw.region, same.region)
        assert torch.equal(draw.index, same.index)
        assert torch.equal(draw.weight, same.weight)
        region = draw.region.numpy()
        assert draw.step == self.model.step
        assert len(region) == len(draw.index) == n
        assert (probs[region] > 0).all()
        assert torch.equal(LEVELS[self.model.level].locate(draw.index), draw.region)
        assert draw.weight.numpy() == pytest.approx(self.model.weight(probs)[region], rel=1e-6)
        if self.settings["stratified"]:
            assert (np.abs(np.bincount(region, minlength=len(probs)) - n * probs) < 1 + 1e-9).all()
        if self.parts[0].uses_visit:
            assert draw.visit.numpy() == pytest.approx(self.model.visit(probs, n), rel=1e-9, abs=1e-12)
        else:
            assert draw.visit is None
        self.model.step += 1
        return draw, self.model.visit(probs, n)

    @rule(shown=st.lists(st.lists(good, min_size=1, max_size=4), min_size=1, max_size=6), some=st.booleans())
    def train(self, shown, some):
        """Some steps as a training loop makes them, of all samples or of all but the first."""
        for signal in shown:
            draw, visit = self.draw(len(signal))
            counts = [place > 0 for place in range(len(signal))] if some else None
            self.observe(draw, draw.region.tolist(), signal, [300] * len(signal), draw.step, visit, counts)

    @rule(recent=drawn, data=st.data(), some=st.booleans(), own=st.booleans())
    def observe_draw(self, recent, data, some, own):
        """Of any age; one drawn before a refinement is refused."""
        draw, visit = recent
        if draw.num_regions != len(self.model.mass):
            with pytest.raises(ValueError, match=f"this draw is of {draw.num_regions} regions, the sampler has"):
                self.sampler.observe(draw, torch.ones(len(draw.region)))
            return
        region = draw.region.tolist()
        signal, timestep = signals_for(data, region)
        self.observe(draw, region, signal, timestep, draw.step, visit, *limits(data, region, visit, some, own))

    @rule(data=st.data(), some=st.booleans(), own=st.booleans())
    def observe_regions(self, data, some, own):
        """Of samples that come from elsewhere, none perhaps."""
        certain = np.ones(len(self.model.mass))
        region = data.draw(st.lists(st.integers(0, len(certain) - 1), max_size=6))
        bare, step = torch.tensor(region, dtype=torch.int64), self.model.step
        signal, timestep = signals_for(data, region)
        self.observe(bare, region, signal, timestep, step, certain, *limits(data, region, certain, some, own))

    def observe(self, what, region, signal, timestep, step, visit, counts=None, own=None):
        """``counts`` and ``own`` are what the caller passes for samples and for visits, if anything."""
        if own is not None:
            visit = own
        elif counts is not None:
            visit = np.ones_like(visit)
        given = {
            "where": None if counts is None else torch.tensor(counts, dtype=torch.bool),
            "timestep": torch.tensor(timestep, dtype=torch.int64) if self.settings["timesteps"] else None,
            "visit": None if own is None else torch.from_numpy(own),
        }
        tensor = torch.tensor(signal, dtype=torch.float64)
        whole_draw = isinstance(what, aria.Draw) and counts is None
        if self.sampler.tracker.uses_visit and own is None and not whole_draw:
            with pytest.raises(InvalidSetting, match="observe") as refused:
                self.sampler.observe(what, tensor, **given)
            assert (refused.value.setting, refused.value.kind) == ("visit", "missing")
            return
        try:
            self.model.observe(region, signal, counts or [True] * len(region), timestep, visit)
        except Refused as refused:
            with pytest.raises(aria.NonFiniteSignal, match=f"at step {step} in region {refused.args[0]}:"):
                self.sampler.observe(what, tensor, **given)
        else:
            self.do(lambda sampler: sampler.observe(what, tensor, **given))

    @rule(target=saved)
    def save(self):
        return save(self.sampler.state_dict()), copy.deepcopy(self.model), self.origin, tuple(self.story)

    @rule(record=saved, into_new=st.booleans())
    def load(self, record, into_new):
        """Load any saved state: the twin becomes a sampler with the same history that was never saved."""
        state, model, origin, story = record
        if model.level != self.model.level:
            with pytest.raises(ValueError, match="saved with another partition"):
                self.sampler.load_state_dict(load(state))
        skipped = self.sampler.skipped
        if into_new or model.level != self.model.level:
            mass = None if self.settings["mass"] is None else load(state)["mass"]
            self.sampler, skipped = self.fresh(model.level, mass), 0
        self.sampler.load_state_dict(load(state))
        self.model, self.origin, self.story = copy.deepcopy(model), origin, list(story)
        self.model.skipped = skipped  # counts what this process left out, so it is no part of the state
        self.twin = self.fresh(*origin)
        for act in story:
            act(self.twin)

    @rule(shown=st.lists(st.lists(good, min_size=1, max_size=4), min_size=1, max_size=4), into_new=st.booleans())
    def train_in_vain(self, shown, into_new):
        """Killed some steps after it was saved, then resumed."""
        record = self.save()
        self.train(shown, some=False)
        self.probabilities()
        self.load(record, into_new)

    @rule(name=st.sampled_from([*OTHERS, "stratified", "nonfinite"]))
    def refuse_other_settings(self, name):
        """A state is refused by a sampler that differs in a single setting, in both directions."""
        flags = {"stratified": not self.settings["stratified"], "nonfinite": {"raise": "skip", "skip": "raise"}}
        flags["nonfinite"] = flags["nonfinite"][self.settings["nonfinite"]]
        mass = None if self.settings["mass"] is None else self.sampler.mass
        other = self.fresh(self.model.level, mass, **{name: (OTHERS | flags)[name]})
        with pytest.raises(ValueError, match=f"saved with {name}="):
            other.load_state_dict(self.sampler.state_dict())
        with pytest.raises(ValueError, match=f"saved with {name}="):
            self.sampler.load_state_dict(other.state_dict())

    @precondition(lambda self: self.model.step > 5)
    @rule()
    def reset(self):
        """A fresh sampler with the same settings replaces the twin."""
        self.sampler.reset()
        self.model.reset()
        mass = None if self.settings["mass"] is None else self.sampler.mass
        self.origin, self.story = (self.model.level, mass), []
        self.twin = self.fresh(*self.origin)

    @precondition(lambda self: self.model.level + 1 < len(LEVELS))
    @rule()
    def refine(self):
        finer = LEVELS[self.model.level + 1]
        parent = torch.arange(finer.num_regions) // 2
        if self.model.pending:
            with pytest.raises(ValueError, match=f"{len(self.model.pending)} observed steps wait for every="):
                self.sampler.refine(finer, parent)
            return
        self.model.refine()
        self.do(lambda sampler: sampler.refine(finer, parent))

    @rule(wrong=st.sampled_from(["region", "parent", "draw", "timestep", "visit", "state"]))
    def mistake(self, wrong):
        """Refused without any change: the twin does not get the call."""
        one, regions = torch.tensor([0]), len(self.model.mass)
        known = {"timestep": one} if self.settings["timesteps"] else {}
        mistakes = {
            "region": lambda sampler: sampler.observe(torch.tensor([0, regions]), torch.ones(2)),
            "parent": lambda sampler: sampler.refine(LEVELS[0], torch.zeros(3, dtype=torch.int64)[:2]),
            "draw": lambda sampler: sampler.draw(0),
            "timestep": lambda sampler: sampler.observe(one, torch.ones(1), timestep=None if known else one),
            "visit": lambda sampler: sampler.observe(one, torch.ones(1), visit=torch.full((regions,), 2.0), **known),
            "state": lambda sampler: sampler.load_state_dict(
                {name: part for name, part in sampler.state_dict().items() if name != "mass"}
            ),
        }
        with pytest.raises(ValueError, match=r"\w"):
            mistakes[wrong](self.sampler)

    # What always holds ----------------------------------------------------------------------------------------------

    @invariant()
    def probabilities(self):
        """Sum to one, keep the floor, are zero where there is no mass; the caller may overwrite them."""
        expected, probs = self.model.probs(), self.sampler.probs()
        assert probs.numpy() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert abs(float(probs.sum()) - 1) < 1e-12
        assert (probs.numpy() >= self.settings["floor"] * self.model.mass * (1 - 1e-12)).all()
        assert (probs.numpy()[self.model.mass == 0] == 0).all()
        probs.fill_(math.nan)

    @invariant()
    def estimates(self):
        expected, got = self.model.tracker.estimate(self.model.state), self.sampler.estimate()
        assert got.value.numpy() == pytest.approx(expected.value.numpy(), rel=1e-9, abs=1e-12)
        assert got.stderr.numpy() == pytest.approx(expected.stderr.numpy(), rel=1e-6, abs=1e-9)
        got.value.fill_(math.nan)

    @invariant()
    def counts(self):
        assert self.sampler.step == self.model.step
        assert self.sampler.updates == len(self.model.observed)
        assert self.sampler.skipped == self.model.skipped
        assert self.sampler.mass.numpy() == pytest.approx(self.model.mass, rel=1e-12)

    def teardown(self):
        """In the end the twin's state is the sampler's, bit for bit."""
        if hasattr(self, "twin"):
            state, twin = self.sampler.state_dict(), self.twin.state_dict()
            assert state.keys() == twin.keys()
            assert all(torch.equal(state[name], twin[name]) for name in state)


TestSampler = SamplerMachine.TestCase
TestSampler.settings = hypothesis_settings(stateful_step_count=30)
