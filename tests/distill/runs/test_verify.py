"""`aria verify-run`: every file of a run is compared with its hash, and a damaged one is named."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from aria import files, partitioners
from aria.cli import main
from aria.distill.runs import output
from aria.partitioners.fitted import KINDS, Fitted
from aria.pool import Pool
from tests.faults import ground


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = ground.make(tmp_path_factory.mktemp("ground"))
    yield made.run
    made.forks.close()


def verified(run):
    ended = CliRunner().invoke(main, ["verify-run", str(run)])
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    return ended


@pytest.mark.slow
def test_a_whole_run(run):
    ended = verified(run)
    assert ended.exit_code == 0, ended.output
    parts = ["checkpoint-2", "checkpoint-4", "checkpoint-6", "partition", "pipeline"]
    parts += ["cache: conditions", "cache: samples"]
    assert ended.stdout.splitlines() == [f"{part}: whole" for part in parts]


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "checkpoint-4/unet/diffusion_pytorch_model.safetensors", "checkpoint-2/optimiser.safetensors",
    "partition.safetensors", "unet/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json", "hashes.json",
])  # fmt: skip
def test_a_damaged_file_is_named(name, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    content = bytearray((copy / name).read_bytes())
    content[-9] ^= 1
    (copy / name).write_bytes(content)
    ended = verified(copy)
    assert ended.exit_code == 1
    damaged = [line for line in ended.stdout.splitlines() if not line.endswith(": whole")]
    assert len(damaged) == 1 and name.split("/")[-1] in damaged[0]


def test_a_pipeline_without_its_index_is_damaged(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "model_index.json").unlink()
    ended = verified(copy)
    assert ended.exit_code == 1 and "model_index.json is missing" in ended.stdout


def test_what_is_no_run(tmp_path):
    ended = verified(tmp_path)
    assert ended.exit_code == 2 and "has no checkpoint, partition, pipeline or cache" in ended.stderr


@pytest.fixture
def small(tmp_path):
    """A folder of a run that has a partition and nothing else."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / output.LOCK).touch()
    partitioners.save(partitioners.OneRegion().fit(Pool(size=3)), folder / "partition.safetensors")
    return folder


def test_a_cache_that_is_gone_is_a_fault(small, tmp_path):
    (small / "config.json").write_text(json.dumps({"data": {"cache_dir": None}}))
    assert verified(small).stdout == "partition: whole\n"
    (small / "config.json").write_text(json.dumps({"data": {"cache_dir": str(tmp_path / "gone")}}))
    ended = verified(small)
    assert ended.exit_code == 1
    assert ended.stdout.splitlines() == ["partition: whole", f"cache: there is no cache at {tmp_path / 'gone'}"]


def test_a_partition_of_a_kind_of_ones_own_is_whole_or_damaged(small):
    class Own(Fitted, kind="verified-own"):
        def assign(self, pool, **coords):
            raise NotImplementedError

    try:
        members = partitioners.OneRegion().fit(Pool(size=3)).members
        partitioners.save(Own(members), small / "partition.safetensors")
    finally:
        del KINDS["verified-own"]
    with pytest.raises(ValueError, match="unknown kind"):
        partitioners.load(small / "partition.safetensors")
    assert verified(small).stdout == "partition: whole\n"
    content = bytearray((small / "partition.safetensors").read_bytes())
    content[content.index(b"verified-own")] ^= 1
    (small / "partition.safetensors").write_bytes(content)
    ended = verified(small)
    assert ended.exit_code == 1 and "is damaged: its content does not match its hash" in ended.stdout


def test_a_run_that_goes_on_and_a_cache_that_is_filled_are_refused(small, tmp_path):
    with output.locked(small):
        ended = verified(small)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == f"Error: a run is writing to {small}: wait until it ends\n"
    (small / "config.json").write_text(json.dumps({"data": {"cache_dir": str(tmp_path / "cache")}}))
    with files.locked_folder(tmp_path / "cache"):
        (tmp_path / "cache" / "conditions").mkdir()
        ended = verified(small)
    assert ended.exit_code == 2 and "another process is filling" in ended.stderr
    shutil.rmtree(tmp_path / "cache")
    (small / "config.json").unlink()
    assert verified(small).exit_code == 0
    with output.locked(small):  # the lock has been released
        pass


def test_a_folder_that_can_only_be_read_is_verified(small, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "lock", closed)
    assert verified(small).stdout == "partition: whole\n"


def test_a_settings_file_that_is_a_pipe_is_refused(small):
    os.mkfifo(small / "config.json")
    ended = verified(small)
    assert ended.exit_code == 2 and "config.json is a pipe, not a file" in ended.stderr
