"""The sampler behind a torch DataLoader."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

import aria

TEXTS = [f"prompt {i}" for i in range(20)]
POOL = aria.Pool(texts=TEXTS, columns={"label": [i % 4 for i in range(20)]})


@pytest.mark.parametrize("workers", [0, 2])
def test_every_batch_arrives_with_the_draw_it_came_from(workers):
    sampler = aria.Sampler(aria.partitioners.Labels("label").fit(POOL), "ema(rate=0.5)")
    batches = aria.DrawBatches(sampler, batch_size=8, steps=12)
    loader = DataLoader(TEXTS, batch_sampler=batches, num_workers=workers)
    seen = 0
    for texts, draw in batches.paired(loader):
        assert texts == [TEXTS[i] for i in draw.index]
        sampler.observe(draw, 1.0 + draw.region)
        seen += 1
    assert seen == len(batches) == sampler.updates == 12
    assert sampler.probs().argmax() == 3


def test_without_workers_there_is_no_lag():
    """Each batch is drawn after the previous one was observed."""
    sampler, twin = (aria.Sampler(aria.partitioners.Labels("label").fit(POOL), "ema(rate=0.5)") for _ in range(2))
    batches = aria.DrawBatches(sampler, batch_size=8, steps=5)
    for _, draw in batches.paired(DataLoader(TEXTS, batch_sampler=batches)):
        expected = twin.draw(8)
        assert torch.equal(draw.index, expected.index)
        for each in (sampler, twin):
            each.observe(draw, 1.0 + draw.region)


def test_loaders_that_would_mix_up_batches_are_refused():
    sampler = aria.Sampler(aria.partitioners.Labels("label").fit(POOL))
    batches = aria.DrawBatches(sampler, batch_size=8, steps=5)
    with pytest.raises(ValueError, match="paired takes the loader that was made with batch_sampler=this"):
        next(batches.paired(DataLoader(TEXTS, batch_size=8)))
    unordered = DataLoader(TEXTS, batch_sampler=batches, num_workers=1)
    unordered.in_order = False
    with pytest.raises(ValueError, match="leave in_order=True"):
        next(batches.paired(unordered))
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        aria.DrawBatches(sampler, batch_size=0, steps=5)


def test_any_loader_of_its_batches_will_do():
    """One without the attribute that records order, as torch's own were once."""
    sampler = aria.Sampler(aria.partitioners.Labels("label").fit(POOL))

    class Plain:
        def __init__(self, batches):
            self.batch_sampler = batches

        def __iter__(self):
            return iter(self.batch_sampler)

    two = aria.DrawBatches(sampler, batch_size=1, steps=2)
    assert [rows == draw.index.tolist() for rows, draw in two.paired(Plain(two))] == [True, True]
    nothing = aria.DrawBatches(sampler, batch_size=1, steps=0)
    assert len(nothing) == 0 and list(nothing.paired(Plain(nothing))) == []
