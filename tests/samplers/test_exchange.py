"""Ranks in processes forked from this one: the draws of each, the sums over all, and settings that must agree."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.distributed as dist

import aria
from aria.samplers.ranks import Ranks

SETTINGS = {"floor": 0.2, "seed": 1}


def on_ranks(work, folder, ranks=3):
    """``work(rank)`` in processes of one group; what one of them raises is shown."""
    context = multiprocessing.get_context("fork")

    def run(rank):
        code = 1
        try:
            where = f"file://{folder / 'meet'}"
            dist.init_process_group("gloo", init_method=where, rank=rank, world_size=ranks)
            work(rank)
            dist.barrier()
            code = 0
        except BaseException:
            (folder / f"rank-{rank}").write_text(traceback.format_exc())
        os._exit(code)  # without what the parent would do at its end

    started = [context.Process(target=run, args=(rank,)) for rank in range(ranks)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        process.kill()
        process.join()
    errors = [path.read_text() for path in folder.glob("rank-*")]
    assert not errors and [process.exitcode for process in started] == [0] * ranks, "\n".join(errors)


def test_ranks_sum_their_observations_unless_distributed_is_false(tmp_path):
    def work(rank):
        together, alone = Ranks(), Ranks(distributed=False)
        assert together.place() == (rank, 3) and alone.place() == (0, 1)
        parts = (torch.tensor([1.0, rank]), torch.tensor([10.0 * rank]))
        assert [part.tolist() for part in together.sum(parts)] == [[3.0, 3.0], [30.0]]
        assert alone.sum(parts) is parts
        pair = dist.new_group([0, 1])
        if rank < 2:
            of_two = Ranks(group=pair)
            assert of_two.place() == (rank, 2) and of_two.sum(parts)[0].tolist() == [2.0, 1.0]

    on_ranks(work, tmp_path)


def test_who_shares_is_settled_beforehand():
    assert Ranks() == Ranks(distributed=True, group=None) and Ranks().place() == (0, 1)
    with pytest.raises(FrozenInstanceError):
        Ranks().distributed = False


def test_settings_must_agree_but_not_their_order(tmp_path):
    def work(rank):
        together, device = Ranks(), torch.device("cpu")
        together.agree(lambda: SETTINGS if rank else dict(reversed(SETTINGS.items())), device)
        for odd in range(3):
            with pytest.raises(ValueError, match="all ranks need a sampler with the same settings, seed included; "):
                together.agree(lambda odd=odd: SETTINGS | {"seed": 2} if rank == odd else SETTINGS, device)
        Ranks(distributed=False).agree(lambda: pytest.fail("settings are read for nobody"), device)

    on_ranks(work, tmp_path)


def test_a_draw_is_divided_and_what_is_observed_is_shared(tmp_path):
    partition = aria.partitioners.Labels("label").fit(aria.Pool(columns={"label": [0, 0, 1, 2, 2, 2, 3]}))

    def made(**settings):
        return aria.Sampler(partition, "ema(rate=0.5, importance=True)", **({"every": 2} | settings))

    whole = made(distributed=False)
    draws = [whole.draw(12) for _ in range(2)]
    for draw in draws:
        whole.observe(draw, 1.0 + draw.index)

    def work(rank):
        part, rows = made(), slice(4 * rank, 4 * rank + 4)
        for step in range(2):
            draw, of_all = part.draw(4), draws[step]
            assert torch.equal(draw.region, of_all.region[rows]) and torch.equal(draw.index, of_all.index[rows])
            assert torch.equal(draw.visit, of_all.visit)
            part.observe(draw, 1.0 + draw.index)
            if step == 0:
                with pytest.raises(ValueError, match="sums of 1 steps are not exchanged between the ranks yet: save a"):
                    part.state_dict()
        assert torch.equal(part.estimate().value, whole.estimate().value)
        state = whole.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in part.state_dict().items())
        odd = made(seed=rank)
        odd.observe(odd.draw(4), torch.ones(4))
        with pytest.raises(ValueError, match="all ranks need a sampler with the same settings"):
            odd.observe(odd.draw(4), torch.ones(4))

    on_ranks(work, tmp_path)
