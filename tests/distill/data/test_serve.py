"""Serving: the same rows from the device, RAM and the disk, synchronously or prefetched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aria.distill.data import Conditions, build_conditions, store
from aria.distill.data.prompts import Column, Prompts, Texts
from aria.distill.data.store import Store, Writer
from aria.distill.data.table import Table
from aria.distill.models import denoisers
from aria.distill.models.pipelines import open_pipeline
from aria.partitioners import KMeans, Labels

TEXTS = [f"{animal} {i % 7}" for i in range(20) for animal in ("cat", "dog")]
INDEX = torch.tensor([3, 3, 39, 0, 17])
RESIDENCIES = ["device", "pinned", "disk"]


@pytest.fixture(scope="module")
def folder(sd_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditions")
    pipeline = open_pipeline(sd_folder)
    columns = {"animal": Column.of(text.split()[0] for text in TEXTS)}
    prompts = Prompts(Texts.of(TEXTS), columns, torch.arange(1.0, 41.0, dtype=torch.float64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "SHARD_BYTES", 1)
        build_conditions(pipeline, denoisers.of(pipeline), prompts, folder, batch_size=5)
    return folder


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_every_residency_serves_the_same(folder, residency):
    conditions = Conditions(folder, residency=residency)
    assert conditions.residency == residency
    expected = Store(folder).gather(conditions._row[INDEX])["prompt_embeds"]
    for found in (conditions.gather(INDEX), conditions.prefetch(INDEX).result()):
        assert found.keys() == {"prompt_embeds"} and torch.equal(found["prompt_embeds"], expected)
    conditions.close()


@pytest.mark.parametrize(("device", "host", "chosen"), [(0, 0, "device"), (1, 0, "pinned"), (1, 1, "disk")])
def test_the_budgets_choose(folder, device, host, chosen):
    """14 distinct rows of 12·8·2 bytes, and budgets that many or so many too few."""
    size = 14 * 12 * 8 * 2
    conditions = Conditions(folder, device_budget=size - device, host_budget=size - host)
    assert conditions.table.nbytes == size and conditions.residency == chosen


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_conditions_that_do_not_exist_are_refused(folder, residency):
    conditions = Conditions(folder, residency=residency)
    for bad in (-1, 40):
        for read in (conditions.gather, conditions.prefetch):
            with pytest.raises(ValueError, match=f"has entries 0 to 39, got {bad}"):
                read(torch.tensor([0, bad]))


def test_an_unknown_residency_is_refused(folder):
    with pytest.raises(ValueError, match="residency must be 'device' or 'pinned' or 'disk', got 'cloud'"):
        Conditions(folder, residency="cloud")


def test_an_error_while_reading_ahead_is_raised_by_result(folder, monkeypatch):
    conditions = Conditions(folder, residency="disk")

    def broken(*_, **__):
        raise OSError("the cable was pulled")

    monkeypatch.setattr(Store, "gather", broken)
    fetch = conditions.prefetch(INDEX)
    with pytest.raises(OSError, match="the cable was pulled"):
        fetch.result()


def test_reading_ahead_keeps_the_order(folder):
    conditions = Conditions(folder, residency="disk")
    requested = [torch.tensor([i]) for i in range(40)]
    fetches = [conditions.prefetch(index) for index in requested]
    for index, fetch in zip(requested, fetches):
        assert torch.equal(fetch.result()["prompt_embeds"], conditions.gather(index)["prompt_embeds"])


def test_the_pool_can_be_partitioned(folder):
    pool = Conditions(folder, residency="disk").pool()
    assert len(pool) == 40 and pool.texts[1] == "dog 0"
    assert Labels("animal").fit(pool).mass.sum() == pytest.approx(1)
    assert pool.weight[39] == 40
    regions = KMeans(4, seed=0).fit(pool).assign(pool)
    same = torch.tensor([text == TEXTS[5] for text in TEXTS])
    assert len(regions[same].unique()) == 1, "equal prompts are in one region"


def test_features_are_read_as_numpy_reads(folder):
    features = Conditions(folder).pool().embeddings
    whole = features[:]
    assert whole.shape == features.shape == (40, 8) and whole.dtype == np.float32 and len(features) == 40
    assert np.array_equal(features[3], whole[3]) and np.array_equal(features[-1], whole[-1])
    assert np.array_equal(features[5:30:7], whole[5:30:7])
    assert np.array_equal(features[np.array([3, 1, 3])], whole[[3, 1, 3]])
    assert np.array_equal(features[whole[:, 0] > 0], whole[whole[:, 0] > 0])
    assert features[40:].shape == (0, 8)
    with pytest.raises(IndexError):
        features[40]


def test_null_makes_no_copies(folder):
    null = Conditions(folder).null(1000)["prompt_embeds"]
    assert null.shape == (1000, 12, 8) and null.stride(0) == 0


@pytest.mark.gpu
@pytest.mark.parametrize("residency", RESIDENCIES)
def test_a_device_is_served(folder, residency):
    conditions = Conditions(folder, residency=residency, device="cuda")
    expected = Conditions(folder).gather(INDEX)["prompt_embeds"]
    for index in (INDEX, INDEX.cuda()):
        for found in (conditions.gather(index), conditions.prefetch(index).result()):
            assert found["prompt_embeds"].is_cuda and torch.equal(found["prompt_embeds"].cpu(), expected)


@pytest.mark.gpu
def test_a_lookup_on_the_device_does_not_wait(folder):
    conditions = Conditions(folder, residency="device", device="cuda")
    index = INDEX.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        conditions.gather(index)
        conditions.prefetch(index).result()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_table_without_rows_of_its_own(tmp_path):
    with Writer(tmp_path, {}, 5) as writer:
        writer.append({"x": torch.arange(5.0)})
    table = Table(Store(tmp_path), residency="pinned")
    assert len(table) == 5 and table.gather(torch.tensor([4, 1]))["x"].tolist() == [4.0, 1.0]
