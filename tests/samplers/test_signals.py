"""The tracker's observations: which signals count, the record of those that do not, and the normaliser's numbers."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from aria.samplers import signals
from aria.samplers.signals import NonFiniteSignal, TimestepNormaliser

FINE = torch.tensor([0.0, 0.05, 3e38])
REGION = torch.tensor([4, 5, 6])


@pytest.mark.parametrize("bad", [-0.05, math.nan, math.inf, -math.inf])
def test_finite_signals_from_nought_count(bad):
    assert signals.valid(FINE).tolist() == [True] * 3 and signals.all_valid(FINE)
    mixed = torch.cat([FINE, torch.tensor([bad])])
    assert signals.valid(mixed).tolist() == [True] * 3 + [False] and not signals.all_valid(mixed)
    assert signals.all_valid(torch.zeros(0))


def test_the_first_bad_signal_is_named():
    signal, ok = torch.tensor([1.0, math.inf, math.nan]), torch.tensor([True, False, False])
    signals.refuse(signal, torch.ones(3, dtype=torch.bool), REGION, 7, skip=False)
    with pytest.raises(NonFiniteSignal, match="^signal inf at step 7 in region 5: "):
        signals.refuse(signal, ok, REGION, 7, skip=False)
    assert str(signals.refusal(None, 7, 5)).startswith("a signal that is negative or not finite at step 7 in region 5:")


def test_what_is_skipped_is_not_finite_rather_than_negative():
    """Signals of nought and of less than 0.1 are no cause for refusal; nor is one that does not count."""
    signal = torch.tensor([0.0, 0.05, math.nan, -1.0])
    region = torch.tensor([1, 2, 3, 4])
    signals.refuse(signal, torch.tensor([True, True, False, True]), region, 7, skip=True)
    signals.refuse(signal, torch.tensor([False, False, False, True]), region, 7, skip=True)
    with pytest.raises(NonFiniteSignal, match="signal -1.0 at step 7 in region 4: "):
        signals.refuse(signal, torch.tensor([True, True, False, False]), region, 7, skip=True)


def test_the_record_counts_all_and_names_the_first():
    fault = signals.no_fault()
    assert fault.tolist() == [0, -1, -1]
    records = [
        (torch.tensor([True, True, True]), [0, -1, -1]),
        (torch.tensor([True, False, False]), [2, 11, 5]),
        (torch.tensor([False, True, True]), [3, 11, 5]),
        (torch.tensor([True, True, True]), [3, 11, 5]),
    ]
    for step, (ok, record) in enumerate(records, start=10):
        fault = signals.record_fault(fault, ok, REGION, step)
        assert fault.tolist() == record
    assert signals.record_fault(fault, torch.ones(0, dtype=torch.bool), REGION[:0], 14) is fault
    assert fault.dtype == torch.int64


def test_a_record_is_kept_without_a_look_from_the_host():
    """A tensor on meta has no values: reading one, for which the host of a GPU would have to wait, is an error."""
    ok, region = torch.ones(4, dtype=torch.bool, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta")
    assert signals.record_fault(signals.no_fault("meta"), ok, region, 3).shape == (3,)
    with pytest.raises(RuntimeError, match="meta"):
        region[ok.long().argmax()]


def test_timesteps_lie_below_their_number():
    normaliser = TimestepNormaliser(1000)
    assert normaliser.bucket(torch.tensor([0, 99, 100, 999])).tolist() == [0, 0, 1, 9]
    assert normaliser.bucket(torch.tensor([0.05])).tolist() == [0]  # flow matching: any number
    for wrong in (1000, -1, -0.05):
        timesteps = torch.tensor([0.0, 0.5, 999.0, wrong])
        with pytest.raises(ValueError, match=rf"timestep {wrong}(\.0)?\d* outside \[0, 1000\)"):
            normaliser.bucket(timesteps)


def test_a_signal_is_divided_by_the_mean_of_its_bucket():
    """The mean is that of an average that forgets 2 % a step, whatever its size; first signals only calibrate it."""
    normaliser = TimestepNormaliser(1000)
    state, bucket = normaliser.init(), torch.tensor([3, 3])
    assert state["value"].shape == (10,)
    assert normaliser.apply(state, torch.tensor([2.0, 4.0]), bucket)[1].tolist() == [False, False]
    for signal in ([0.001, 0.003], [0.005, 0.005]):
        signal = torch.tensor(signal, dtype=torch.float64)
        state = normaliser.update(state, *normaliser.sums(signal, torch.ones_like(signal), bucket))
    mean = 0.002 + 0.003 / 1.98  # weights 0.98 and 1
    ratio, known = normaliser.apply(state, torch.tensor([2.0, 4.0]), bucket)
    assert known.tolist() == [True, True] and ratio.tolist() == pytest.approx([2 / mean, 4 / mean], rel=1e-6)


def test_what_does_not_count_is_not_in_the_means():
    signal, counted = torch.tensor([[2.0, 5.0], [1.0, 0.0]], dtype=torch.float64)
    sums = TimestepNormaliser(1000).sums(signal, counted, torch.tensor([3, 3]))
    assert [float(total[3]) for total in sums] == [1.0, 2.0]


def test_a_schedule_may_have_one_step_and_its_settings_stay():
    normaliser = TimestepNormaliser(1)
    assert normaliser.bucket(torch.tensor([0])).tolist() == [0]
    with pytest.raises(FrozenInstanceError):
        normaliser.rate = 0.5
