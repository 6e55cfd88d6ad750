"""`aria verify-run`: every file of a run is compared with its hash, and a damaged one is named."""

from __future__ import annotations

import shutil

import pytest
from click.testing import CliRunner

from aria.cli import main
from tests.faults import ground

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = ground.make(tmp_path_factory.mktemp("ground"))
    yield made.run
    made.forks.close()


def verified(run):
    ended = CliRunner().invoke(main, ["verify-run", str(run)])
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    return ended


def test_a_whole_run(run):
    ended = verified(run)
    assert ended.exit_code == 0, ended.output
    parts = ["checkpoint-2", "checkpoint-4", "checkpoint-6", "partition", "pipeline"]
    parts += ["cache: conditions", "cache: images"]
    assert ended.stdout.splitlines() == [f"{part}: whole" for part in parts]


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


def test_what_is_no_run(tmp_path):
    ended = verified(tmp_path)
    assert ended.exit_code == 2 and "has no checkpoint, partition, pipeline or cache" in ended.stderr
