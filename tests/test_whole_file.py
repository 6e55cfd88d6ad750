"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aria import whole_file

WRITER = """
import sys
from aria import whole_file
with whole_file.replacing(sys.argv[1]) as unfinished:
    with unfinished.open("w") as file:
        file.write("theirs" * 1000)
        print("begun", flush=True)
        sys.stdin.readline()
"""


def test_of_two_who_write_one_file_the_last_stays(tmp_path):
    """Neither is published half written, and neither fails."""
    target = tmp_path / "a.txt"
    told = [sys.executable, "-c", WRITER, str(target)]
    with subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "begun\n"
        with whole_file.replacing(target) as unfinished:
            unfinished.write_text("ours")
        assert target.read_text() == "ours"
        other.communicate("\n")
    assert other.returncode == 0 and target.read_text() == "theirs" * 1000
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_the_system_refuses_names_the_target(tmp_path):
    target = tmp_path / "none" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught, whole_file.replacing(target) as unfinished:
        unfinished.write_text("x")
    assert caught.value.filename == str(target)


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, whole_file.replacing(tmp_path / "a.txt"):
        os.stat("no such font")
    assert caught.value.filename == "no such font"
    with pytest.raises(OSError, match=r"^no font at all$") as caught, whole_file.replacing(tmp_path / "a.txt"):
        raise OSError("no font at all")
    assert caught.value.errno is None and os.listdir(tmp_path) == []


def test_a_name_as_long_as_the_disk_takes(tmp_path):
    target = tmp_path / ("x" * 251 + ".txt")
    with whole_file.replacing(target) as unfinished:
        unfinished.write_text("x")
        assert unfinished.suffix == ".txt"
    assert target.read_text() == "x"


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, sentence in ((tmp_path, "is a folder"), (tmp_path / "pipe", "is a device or a pipe")):
        with pytest.raises(ValueError, match=sentence):
            whole_file.check_writable(path)
    with pytest.raises(ValueError, match="there is no folder .*none to write a to"):
        whole_file.check_writable(tmp_path / "none" / "a")
    whole_file.check_writable(tmp_path / "new")
