"""The store: rows survive any kill of the writer; torn and foreign files are refused by name."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aria import integrity
from aria.distill.data.store import Store, Writer

ROOT = Path(__file__).resolve().parents[3]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.uint8, torch.bool]


def rows_of(n, dtype, shape=(3,)):
    return (torch.arange(n * max(1, torch.Size(shape).numel())) % 97).reshape(n, *shape).to(dtype)


def write(folder, n=10, chunk=3, total=None, fingerprint=None, **options):
    x = {"a": rows_of(n, torch.float16), "b": rows_of(n, torch.int64, ())}
    with Writer(folder, fingerprint or {"encoder": "one"}, total or n, **options) as writer:
        for first in range(writer.rows, n, chunk):
            writer.append({name: value[first : first + chunk] for name, value in x.items()})
    return x


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.sampled_from(DTYPES),
    st.integers(1, 200),
    st.lists(st.integers(0, 1000), max_size=9),
)
def test_any_rows_come_back(tmp_path_factory, chunks, dtype, shard_bytes, wanted):
    folder, n = tmp_path_factory.mktemp("store"), sum(chunks)
    x, y = rows_of(n, dtype), rows_of(n, torch.float32, (1, 2))
    with Writer(folder, {}, n, shard_bytes=shard_bytes) as writer:
        first = 0
        for chunk in chunks:
            writer.append({"x": x[first : first + chunk], "y": y[first : first + chunk]})
            first += chunk
    store, rows = Store(folder), torch.tensor(wanted, dtype=torch.int64) % n
    found = store.gather(rows)
    assert len(store) == n and torch.equal(found["x"], x[rows]) and torch.equal(found["y"], y[rows])
    assert found["x"].dtype == dtype and list(store.gather(rows, ["y"])) == ["y"]
    assert store.nbytes() == x.numel() * x.element_size() + y.numel() * 4


def test_shards_are_plain_safetensors(tmp_path):
    from safetensors.torch import load_file

    with Writer(tmp_path, {}, 4) as writer:
        writer.append({"b": rows_of(4, torch.bfloat16, (5,)), "i": rows_of(4, torch.int64, ())})
    loaded = load_file(tmp_path / "shard-00000.safetensors")
    assert torch.equal(loaded["b"], rows_of(4, torch.bfloat16, (5,))) and torch.equal(
        loaded["i"], rows_of(4, torch.int64, ())
    )


def test_writing_into_what_was_read_changes_no_file(tmp_path):
    x = write(tmp_path)
    before = (tmp_path / "shard-00000.safetensors").read_bytes()
    store = Store(tmp_path)
    store._shards[0]["a"].zero_()
    assert (tmp_path / "shard-00000.safetensors").read_bytes() == before
    assert torch.equal(Store(tmp_path).gather(torch.arange(10))["a"], x["a"])


def test_a_finished_store_is_extended(tmp_path):
    write(tmp_path, 4)
    x = write(tmp_path, 9)
    assert torch.equal(Store(tmp_path).gather(torch.arange(9))["a"], x["a"])


def test_time_ends_a_shard(tmp_path):
    write(tmp_path, seconds=0.0)
    assert len(list(tmp_path.glob("shard-*"))) == 4


def test_rows_before_an_error_are_kept(tmp_path):
    writer = Writer(tmp_path, {}, 4)
    writer.append({"x": torch.zeros(3)})
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with Writer(tmp_path, {}, 4) as writer:
        assert writer.rows == 3


# ------------------------------------------------------------------------------------------------------------ refusals


def refused(folder, sentence, **options):
    with pytest.raises(ValueError, match=sentence) as caught:
        Store(folder, **options)
    assert "\n" not in str(caught.value)


def test_another_fingerprint_is_refused_by_name(tmp_path):
    write(tmp_path, fingerprint={"encoder": "one", "length": 77})
    sentence = "was made with length = 77, this is 64: use another folder"
    refused(tmp_path, sentence, fingerprint={"encoder": "one", "length": 64})
    with pytest.raises(ValueError, match=sentence):
        Writer(tmp_path, {"encoder": "one", "length": 64}, 10)
    with pytest.raises(ValueError, match="made with length = 77, this is None"):
        Writer(tmp_path, {"encoder": "one"}, 10)


def test_an_unfinished_store_is_refused(tmp_path):
    write(tmp_path, total=12)
    refused(tmp_path, "is unfinished, it holds 10 of 12 rows")


def test_foreign_folders_are_refused(tmp_path):
    refused(tmp_path, "is no tensor store: it has no index.json")
    (tmp_path / "index.json").write_text("[1")
    refused(tmp_path, "index.json: no JSON")
    (tmp_path / "index.json").write_text('{"format": "aria-store", "version": 1}')
    refused(tmp_path, "index.json carries no hash: it was edited, or written by another program or version")
    integrity.write(tmp_path / "index.json", {"format": "other"})
    refused(tmp_path, "index.json has 'other' version None, not 'aria-store' 2")
    integrity.write(tmp_path / "index.json", {"format": "aria-store", "version": 2})
    refused(tmp_path, "is damaged: KeyError")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "shard-00001.safetensors is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"is torn: it has \d+ bytes, not \d+"),
        (lambda path: path.write_bytes(b"\xff" * path.stat().st_size), "is not the shard that"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"a"', b'"c"')), "does not match its hash"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"), "does not match its hash"),
        (lambda path: shutil.copy(path.with_name("shard-00000.safetensors"), path), "is not the shard that"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b'"F16"', b'"F32"')), "its header cannot be read"),
    ],
)
def test_damaged_shards_are_refused(damage, sentence, tmp_path):
    write(tmp_path, shard_bytes=1)
    damage(tmp_path / "shard-00001.safetensors")
    refused(tmp_path, sentence)


def test_an_index_that_does_not_add_up_is_refused(tmp_path):
    write(tmp_path)
    index = integrity.read(tmp_path / "index.json")
    integrity.write(tmp_path / "index.json", index | {"rows": 9})
    refused(tmp_path, "its rows do not add up")


def test_chunks_that_do_not_fit_are_refused(tmp_path):
    with Writer(tmp_path, {}, 4) as writer:
        writer.append({"x": torch.zeros(2, 3)})
        with pytest.raises(ValueError, match=r"has rows of \{'x': .*'shape': \[3\]\}\}, got"):
            writer.append({"x": torch.zeros(2, 4)})
        with pytest.raises(ValueError, match="is to hold 4 rows, got 5"):
            writer.append({"x": torch.zeros(3, 3)})
    with pytest.raises(ValueError, match="holds 2 rows, more than the 1 asked for"):
        Writer(tmp_path, {}, 1)
    with (
        Writer(tmp_path / "two", {}, 4) as writer,
        pytest.raises(ValueError, match=r"same number of rows, got \{'x': 1, 'y': 2\}"),
    ):
        writer.append({"x": torch.zeros(1), "y": torch.zeros(2)})


def test_rows_beyond_the_end_are_refused(tmp_path):
    write(tmp_path)
    for row in (-1, 10):
        with pytest.raises(ValueError, match=f"has rows 0 to 9, got {row}"):
            Store(tmp_path).gather(torch.tensor([0, row]))


def test_two_writers_at_once_are_refused(tmp_path):
    with Writer(tmp_path, {}, 1), pytest.raises(ValueError, match="another process is writing to"):
        Writer(tmp_path, {}, 1)
    with Writer(tmp_path, {}, 1) as writer:
        assert writer.rows == 0


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    """The disk fills up while the third shard is written; with space again the writer continues."""
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path, shard_bytes=1)
    with Writer(tmp_path, {"encoder": "one"}, 10) as writer:
        assert 0 < writer.rows < 10
    x = write(tmp_path)
    assert torch.equal(Store(tmp_path).gather(torch.arange(10))["a"], x["a"])
    assert not list(tmp_path.glob("*unfinished"))


# ------------------------------------------------------------------------------------------------ kills, and a million

KILLED = """
import json, os, random, signal, sys, time, torch
from pathlib import Path
from aria import integrity
from aria.distill.data.store import Store, Writer

torch.set_num_threads(1)
folder, n, kills, counted = Path(sys.argv[1]), 90, 0, []
truth = torch.arange(n * 64).reshape(n, 64).half()

def write():
    with Writer(folder, {"encoder": "one"}, n, shard_bytes=700) as writer:
        for first in range(writer.rows, n, 3):
            writer.append({"x": truth[first : first + 3]})

chance = random.Random(int(sys.argv[2]))
while True:
    child = os.fork()
    if not child:
        write()
        os._exit(0)
    time.sleep(chance.uniform(0, 0.004 * 1.3**kills))  # patience grows until one comes through
    os.kill(child, signal.SIGKILL)
    kills += os.waitpid(child, 0)[1] == signal.SIGKILL
    if (folder / "index.json").exists():
        index = json.loads((folder / "index.json").read_text())
        counted.append(index["rows"])
        for shard in index["shards"]:
            assert (folder / shard["file"]).stat().st_size == shard["bytes"]
        if index["rows"] == n:
            break
assert torch.equal(Store(folder).gather(torch.arange(n))["x"], truth)
print(json.dumps({"kills": kills, "counted": counted}))
"""


@pytest.mark.parametrize("seed", [0])
def test_a_writer_that_is_killed_again_and_again_finishes_the_same_store(seed, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(seed)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["kills"] >= 3, "the writer was never killed in the middle"
    assert report["counted"] == sorted(report["counted"]) and len(set(report["counted"])) >= 2


MILLION = """
import json, re, sys, torch
from aria import integrity
from aria.distill.data.store import Store, Writer

def resident(kind="RssAnon"):  # pages of the files are the kernel's to drop
    return int(re.search(rf"{kind}:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

torch.set_num_threads(1)
n, chunk = 1_000_000, 20_000
before, most = resident(), resident("VmHWM")
with Writer(sys.argv[1], {}, n, shard_bytes=16 << 20) as writer:
    for first in range(0, n, chunk):
        row = torch.arange(first, first + chunk)
        writer.append({"x": row[:, None].expand(-1, 64).bfloat16(), "row": row})
written = resident("VmHWM") - most
store = Store(sys.argv[1])
rows = torch.randint(n, (256,), generator=torch.Generator().manual_seed(0))
assert torch.equal(store.gather(rows)["row"], rows)
print(json.dumps({"size": store.nbytes() / 2**20, "written": written, "read": resident() - before}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_million_rows_need_no_memory(tmp_path):
    """130 MiB are written, opened and read; what stays in memory is a shard, not the store."""
    run = subprocess.run(
        [sys.executable, "-c", MILLION, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["size"] > 125
    assert report["written"] < 60, report
    assert report["read"] < 40, report
