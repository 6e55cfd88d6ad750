"""Killed anywhere and resumed from its saved state, a run has the draws of the uninterrupted one, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

import aria
from aria import allocators, trackers
from aria.partitioners import Bins, Labels, Product

LABELS = Labels("label").fit(aria.Pool(columns={"label": [0, 0, 1, 2, 2, 2, 3]}))
TRACKERS = [example for name in trackers.__all__ for example in getattr(trackers, name).examples()]
ALLOCATORS = [example for name in allocators.__all__ for example in getattr(allocators, name).examples()]


def make(tracker="ema", allocator="proportional", partition=LABELS, **settings):
    return aria.Sampler(partition, tracker, allocator, **settings)


def step(sampler):
    """One step of a run whose signals are a function of what was drawn."""
    draw = sampler.draw(6)
    signal = 1 + draw.region + 0.1 * draw.index * (sampler.step % 5)
    sampler.observe(draw, signal.float(), timestep=100 * draw.index % 1000 if sampler.normaliser else None)
    return draw


@settings(max_examples=150)
@given(
    st.sampled_from(TRACKERS),
    st.sampled_from(ALLOCATORS),
    st.integers(0, 12),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([None, 1000]),
    st.integers(0, 2**40),
)
def test_resumed_equals_uninterrupted(tracker, allocator, kill, every, stratified, timesteps, seed):
    options = {
        "every": every,
        "stratified": stratified,
        "timesteps": timesteps,
        "seed": seed,
        "correction": "importance",
    }
    run = make(tracker, allocator, **options)
    for _ in range(kill):
        step(run)
    saved = save(run.state_dict())  # the bytes of a safetensors file
    resumed = make(tracker, allocator, **options)
    resumed.load_state_dict(load(saved))
    for _ in range(8):
        expected, got = step(run), step(resumed)
        assert torch.equal(expected.region, got.region)
        assert torch.equal(expected.index, got.index)
        assert torch.equal(expected.weight, got.weight)
        assert torch.equal(run.probs(), resumed.probs())
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in run.state_dict().items())


def test_coordinates_resume_too():
    product = Product(Labels("label"), Bins("timestep", 0, 1000, 4)).fit(aria.Pool(columns={"label": [0, 1, 1]}))
    run, resumed = make(partition=product), make(partition=product)
    step(run)
    resumed.load_state_dict(run.state_dict())
    assert torch.equal(run.draw(9).coords["timestep"], resumed.draw(9).coords["timestep"])


def test_numbers_of_numpy_are_numbers():
    plain = make(every=2, warmup=1, seed=3, timesteps=1000)
    numpy = make(every=np.int64(2), warmup=np.int32(1), seed=np.int64(3), timesteps=np.int64(1000))
    numpy.load_state_dict(plain.state_dict())
    assert torch.equal(plain.draw(5).index, numpy.draw(np.int64(5)).index)


def test_a_saved_state_is_a_copy():
    run = make()
    step(run)
    saved = run.state_dict()
    before = {name: tensor.clone() for name, tensor in saved.items()}
    step(run)
    assert all(torch.equal(saved[name], before[name]) for name in saved)


OTHER = Labels("label").fit(aria.Pool(columns={"label": [0, 1, 1, 2, 2, 2, 3]}))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"tracker": "ema(rate=0.5)"}, r"saved with tracker='ema\(rate=0.1, .*\)', this sampler has 'ema\(rate=0.5, "),
        ({"allocator": "softmax"}, "saved with allocator='proportional"),
        ({"floor": 0.5}, "saved with floor=0.2, this sampler has 0.5"),
        ({"seed": 7}, "saved with seed=0, this sampler has 7"),
        ({"every": 2}, "saved with every=1, this sampler has 2"),
        ({"timesteps": 1000}, "saved with timesteps=None, this sampler has 1000"),
        ({"partition": OTHER}, "saved with another partition: keep it with aria.partitioners.save"),
        ({"mass": torch.tensor([0.25] * 4)}, "saved with another target mass"),
    ],
)
def test_a_state_of_other_settings_is_refused(other, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        make(**other).load_state_dict(make().state_dict())
    assert "\n" not in str(caught.value)


def test_a_foreign_or_damaged_state_is_refused():
    state = make().state_dict()
    with pytest.raises(ValueError, match="this is no sampler state"):
        make().load_state_dict({"value": torch.zeros(4)})
    with pytest.raises(ValueError, match=r"the state lacks or adds tracker\.value"):
        make().load_state_dict({name: tensor for name, tensor in state.items() if name != "tracker.value"})
    with pytest.raises(
        ValueError,
        match=r"tracker\.value in the state is torch.float64 \(3,\), this sampler needs torch.float64 \(4,\)",
    ):
        make().load_state_dict(state | {"tracker.value": torch.zeros(3, dtype=torch.float64)})
    with pytest.raises(ValueError, match=r"tracker\.value in the state is torch.float32"):
        make().load_state_dict(state | {"tracker.value": torch.zeros(4)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"settings": torch.tensor([1.5])}, "its settings cannot be read"),
        ({"settings": torch.tensor([91, 93], dtype=torch.uint8)}, "its settings cannot be read"),
        ({"tracker.value": torch.full((4,), torch.nan, dtype=torch.float64)}, "tracker.value in the state holds NaN"),
        ({"counters": torch.tensor([-5, -1, 0])}, r"counts \[-5, -1, 0\] steps, updates and batches"),
    ],
)
def test_a_tampered_state_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make().load_state_dict(make().state_dict() | change)
    with pytest.raises(ValueError, match="this is no sampler state"):
        make().load_state_dict(None)


def test_a_refused_state_changes_nothing():
    run = make()
    step(run)
    before = run.state_dict()
    with pytest.raises(ValueError, match="floor"):
        run.load_state_dict(make(floor=0.5).state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.state_dict().items())
