"""Files: one per partition, whole or refused with the reason, and never code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from aria.interfaces import Partitioner
from aria.partitioners import Bins, KMeans, Labels, OneRegion, Product, digest, load, save
from aria.pool import Pool

EVERY = [each for kind in (OneRegion, Labels, KMeans, Bins, Product) for each in kind.examples()]


@pytest.mark.parametrize("partitioner", EVERY, ids=str)
def test_what_is_loaded_is_what_was_saved(partitioner: Partitioner, pool: Pool, tmp_path: Path) -> None:
    partition = partitioner.fit(pool)
    save(partition, tmp_path / "p.safetensors")
    loaded = load(str(tmp_path / "p.safetensors"))
    assert type(loaded) is type(partition) and digest(loaded) == digest(partition)
    assert torch.equal(loaded.mass, partition.mass) and loaded.names() == partition.names()
    region = torch.multinomial(partition.mass, 500, True, generator=torch.Generator().manual_seed(0))
    first, second = (one.draw(region, torch.Generator().manual_seed(1)) for one in (partition, loaded))
    assert all(torch.equal(first[name], second[name]) for name in first)
    coords = {name: value[:1].expand(len(pool)) for name, value in first.items() if name != "index"}
    assert torch.equal(loaded.assign(pool, **coords), partition.assign(pool, **coords))
    assert [path.name for path in tmp_path.iterdir()] == ["p.safetensors"]


def test_saving_replaces_a_file(pool: Pool, tmp_path: Path) -> None:
    for partitioner in (OneRegion(), Labels("style")):
        save(partitioner.fit(pool), tmp_path / "p")
    assert load(tmp_path / "p").num_regions == 4


def test_a_failed_save_leaves_the_old_file(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(Labels("style").fit(pool), tmp_path / "p")

    def full_disk(path: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("aria.files.sync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save(OneRegion().fit(pool), tmp_path / "p")
    assert load(tmp_path / "p").num_regions == 4
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_digests_tell_partitions_apart(pool: Pool) -> None:
    same = digest(Labels("style").fit(pool))
    assert same == digest(Labels("style").fit(pool)) and len(same) == 64
    assert len({digest(each.fit(pool)) for each in EVERY}) == len(EVERY)
    renamed = Pool(columns={"other": pool.column("style")}, weight=pool.weight)
    assert digest(Labels("other").fit(renamed)) != same
    assert digest(Labels("style").fit(Pool(columns=pool.columns, weight=torch.arange(640.0)))) != same


def content(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_a_torn_file_is_refused(pool: Pool, tmp_path: Path) -> None:
    save(Labels("style").fit(pool), tmp_path / "p")
    whole = (tmp_path / "p").read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        (tmp_path / "torn").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"torn: (cannot read a partition from it|no safetensors file|torn)"):
            load(tmp_path / "torn")


def test_a_changed_bit_is_refused(pool: Pool, tmp_path: Path) -> None:
    save(Labels("style").fit(pool), tmp_path / "p")
    data = bytearray((tmp_path / "p").read_bytes())
    data[-1] ^= 1
    (tmp_path / "p").write_bytes(data)
    with pytest.raises(ValueError, match="does not match its hash"):
        load(tmp_path / "p")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "weights", {"format": "pt"})
    with pytest.raises(ValueError, match="weights: not a partition: its format is 'pt', not 'aria-partition-1'"):
        load(tmp_path / "weights")
    (tmp_path / "text").write_text("a prompt, not a partition")
    with pytest.raises(ValueError, match="text: cannot read a partition from it"):
        load(tmp_path / "text")


@pytest.mark.parametrize("kind", ["os:system", "nothing"])
def test_an_unknown_kind_is_refused_and_not_imported(kind: str, pool: Pool, tmp_path: Path) -> None:
    from aria.partitioners.io import _digest

    save(Labels("style").fit(pool), tmp_path / "p")
    metadata, tensors = content(tmp_path / "p")
    settings = json.loads(metadata["settings"]) | {"kind": kind}
    metadata |= {"settings": json.dumps(settings), "digest": _digest(settings, tensors)}
    save_file(tensors, tmp_path / "q", metadata)
    with pytest.raises(ValueError, match=f"q: not a partition: unknown kind of partition '{kind}'; known kinds: "):
        load(tmp_path / "q")


@pytest.mark.parametrize("missing", ["kind", "members", "column"])
def test_the_error_for_an_incomplete_file_names_what_is_missing(missing: str, pool: Pool, tmp_path: Path) -> None:
    from aria.partitioners.io import _digest

    save(Labels("style").fit(pool), tmp_path / "p")
    metadata, tensors = content(tmp_path / "p")
    settings = {name: value for name, value in json.loads(metadata["settings"]).items() if name != missing}
    metadata |= {"settings": json.dumps(settings), "digest": _digest(settings, tensors)}
    save_file(tensors, tmp_path / "q", metadata)
    with pytest.raises(ValueError, match=f"q: not a complete partition: it lacks '{missing}'"):
        load(tmp_path / "q")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")
