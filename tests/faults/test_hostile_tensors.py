"""Files of tensors whose header lies, though their hash is right, and files that change or fail while they are read."""

from __future__ import annotations

import hashlib
import json
import os
import struct

import pytest
import torch

from aria import regular, tensor_files
from aria.tensor_files import map_tensors, write_tensors

HEAD = b'{"__metadata__": {"sha256": "' + b"0" * 64 + b'"}'


def sealed(path, header, data=b""):
    """A file with a header of any content, and the right hash."""
    content = struct.pack("<Q", len(header)) + header + data
    start = content.index(b"0" * 64)
    path.write_bytes(content[:start] + hashlib.sha256(content).hexdigest().encode() + content[start + 64 :])
    return path


def of(shape, offsets, dtype="U8"):
    entry = json.dumps({"dtype": dtype, "shape": shape, "data_offsets": offsets}).encode()
    return HEAD + b', "x": ' + entry + b"}"


def refused(path):
    with pytest.raises(ValueError, match=r"^[^\n]+\Z") as caught:
        map_tensors(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


def test_metadata_that_are_there_twice_are_read(tmp_path):
    assert map_tensors(sealed(tmp_path / "x", HEAD + b', "__metadata__": {"a": "b"}}')) == ({}, {"a": "b"})


@pytest.mark.parametrize("shape, offsets", [
    ([0, 2**70], [0, 0]), ([0, 2**53 + 1], [0, 0]), ([0, 2**40, 2**40], [0, 0]), ([2], [0.0, 2.0]), ([2.0], [0, 2]),
    ([1], [0, True]), ([True], [0, 1]), ([-1, -1], [0, 1]), ([1] * 65, [0, 1]), (["1"], [0, 1]), ([1], [-1, 0]),
    ([0], [1e400, 1e400]), ([0, 1e300], [0, 0]), ([10**400], [0, 10**400]), ("1", [0, 1]),
])  # fmt: skip
def test_shapes_and_offsets_are_whole_numbers_of_a_files_size(shape, offsets, tmp_path):
    data = b"ab"[: int(min(offsets[1], 2))]
    assert "its header cannot be read" in refused(sealed(tmp_path / "x", of(shape, offsets), data))


@pytest.mark.parametrize("shape, offsets, values", [([2], [0, 2], [97, 98]), ([], [0, 1], 97), ([0, 3], [0, 0], [])])
def test_other_shapes_are_read(shape, offsets, values, tmp_path):
    found, _ = map_tensors(sealed(tmp_path / "x", of(shape, offsets), b"ab"[: offsets[1]]))
    assert list(found["x"].shape) == shape and found["x"].tolist() == values


def test_a_header_of_gigabytes_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.write(struct.pack("<Q", 10**9))
        file.truncate(10**9 + 100)  # takes no space
    assert "its header would be 1,000,000,000 bytes" in refused(tmp_path / "x")


class Failing:
    """A file that a bad sector, or another process, ends in the middle."""

    def __init__(self, file, act):
        self.file, self.act = file, act

    def read(self, size=-1):
        if self.file.tell() > 1000:
            self.act()
        return self.file.read(size)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("what", ["bad sector", "cut off"])
def test_a_file_that_fails_while_it_is_hashed_is_an_error_and_no_signal(what, tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_tensors(path, {"x": [torch.zeros(1 << 20)]})
    verify = tensor_files._verify

    def fail():
        if what == "cut off":
            os.truncate(path, 1 << 21)
        else:
            raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(tensor_files, "_verify", lambda path, file: verify(path, Failing(file, fail)))
    with pytest.raises((ValueError, OSError), match=r"does not match its hash|Input/output error"):
        map_tensors(path)
    monkeypatch.undo()
    if what == "bad sector":
        assert map_tensors(path)[0]["x"].sum() == 0
        with monkeypatch.context() as patch:  # and once in a process is enough
            patch.setattr(hashlib, "sha256", None)
            map_tensors(path)


def test_a_large_limit_takes_no_memory_for_a_small_file(tmp_path):
    (tmp_path / "log").write_text("a")
    assert regular.read_bytes(tmp_path / "log", most=1 << 60) == b"a"
    (tmp_path / "log").write_bytes(b"a" * (3 * regular.PIECE + 1))
    assert len(regular.read_bytes(tmp_path / "log", most=3 * regular.PIECE + 1)) == 3 * regular.PIECE + 1
    with pytest.raises(ValueError, match="is larger than"):
        regular.read_bytes(tmp_path / "log", most=3 * regular.PIECE)


def test_the_log_of_a_long_run_is_read():
    row = {"step": 10**6, "region": 255, "n": 16, "mean": 0.12345678901234567, "square": 0.12345678901234567,
           "q": 0.12345678901234567, "age": 10**6, "estimate": 0.12345678901234567}  # fmt: skip
    lines = 10**6 // 50 * 256  # a million steps, logged every 50th, in 256 regions
    assert len(json.dumps(row)) * lines < regular.LOG / 4
    assert regular.LOG > 1 << 30
