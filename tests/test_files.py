"""Writing that a kill at any operation leaves as it was or as it should be."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from aria import files
from tests.distill.broken_disk import Killed, broken
from tests.folders import sizes


def fill(folder, text):
    (folder / "a.txt").write_text(text)
    (folder / "inner").mkdir()
    files.write_tensors(folder / "inner" / "b.safetensors", {"x": torch.ones(3)})


def test_a_folder_appears_whole(tmp_path):
    with files.replacing_folder(tmp_path / "new") as folder:
        fill(folder, "one")
        assert not (tmp_path / "new").exists()
    size = (tmp_path / "new" / "inner" / "b.safetensors").stat().st_size
    assert sizes(tmp_path) == {"new/a.txt": 3, "new/inner/b.safetensors": size}
    with files.replacing_folder(tmp_path / "new") as folder:
        fill(folder, "three")
    assert sizes(tmp_path) == {"new/a.txt": 5, "new/inner/b.safetensors": size}


def test_an_error_leaves_the_old_one(tmp_path):
    with files.replacing_folder(tmp_path / "new") as folder:
        fill(folder, "one")

    def half():
        with files.replacing_folder(tmp_path / "new") as folder:
            (folder / "a.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"] and (tmp_path / "new" / "a.txt").read_text() == "one"


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    with files.replacing_folder(tmp_path / "new") as folder:
        fill(folder, "one")
    rename = Path.rename
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda here, there: rename(here, "/" if here.suffix == ".part" else there))
        with pytest.raises(OSError), files.replacing_folder(tmp_path / "new") as folder:  # noqa: PT011 - whichever it is
            fill(folder, "three")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"] and (tmp_path / "new" / "a.txt").read_text() == "one"


def test_a_link_to_a_folder_stays_one_and_a_file_is_no_folder(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    for content in ("one", "two"):
        with files.replacing_folder(tmp_path / "link") as folder:
            (folder / "a.txt").write_text(content)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "a.txt").read_text() == content
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link", "there"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file is a file, not a folder"), files.replacing_folder(tmp_path / "file"):
        pass


def test_a_lock_that_was_removed_is_no_lock(tmp_path, monkeypatch):
    """Whoever waited for it meanwhile holds a file that nobody else would find."""
    path, removed = tmp_path / "lock", []
    flock = fcntl.flock

    def remove_once(file, how):
        if not removed:
            removed.append(path.unlink())  # its holder ended between our opening it and our locking it
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_once)
    with files.lock(path):
        assert removed == [None] and path.exists()
        with path.open() as file, pytest.raises(BlockingIOError):
            flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_has_one_owner_at_a_time(tmp_path):
    with files.lock(tmp_path / "lock"), pytest.raises(BlockingIOError):
        files.lock(tmp_path / "lock")
    files.lock(tmp_path / "lock", wait=True).close()


def test_a_lock_needs_its_folder(tmp_path):
    (tmp_path / "file").touch()
    for folder, error in (("none", FileNotFoundError), ("file", NotADirectoryError)):
        with pytest.raises(error):
            files.lock(tmp_path / folder / "lock")
    assert not (tmp_path / "none").exists()


def test_waiting_for_a_lock_is_logged(tmp_path, caplog):
    waited = []
    with files.lock(tmp_path / "lock"):
        other = threading.Thread(target=lambda: waited.append(files.lock(tmp_path / "lock", wait=True)))
        other.start()
        other.join(0.5)
        assert not waited and f"waiting for the process that fills {tmp_path}" in caplog.text
    other.join(60)
    waited[0].close()


def test_a_folder_that_its_maker_removes_is_made_again(tmp_path, monkeypatch):
    lock, removed = files.lock, []

    def late(path, **options):
        if not removed:
            removed.append(path.parent.rmdir())  # whoever made it has nothing to put into it
        return lock(path, **options)

    monkeypatch.setattr(files, "lock", late)
    with files.locked_folder(tmp_path / "new"):
        assert removed == [None] and (tmp_path / "new" / ".lock").is_file()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".lock").symlink_to(tmp_path / "nowhere" / "lock")
    with pytest.raises(FileNotFoundError), files.locked_folder(tmp_path / "a"):
        pass


def test_a_folder_that_cannot_be_removed_hides_no_error(tmp_path, monkeypatch):
    """Another process has put its lock there just before."""
    def filled(path):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))

    monkeypatch.setattr(Path, "rmdir", filled)
    with pytest.raises(RuntimeError, match="the real one"), files.locked_folder(tmp_path / "new"):
        raise RuntimeError("the real one")


def test_a_file_is_no_folder_to_lock(tmp_path):
    (tmp_path / "p.txt").touch()
    with pytest.raises(FileExistsError, match="and it is not a folder"), files.locked_folder(tmp_path / "p.txt"):
        pass


def test_a_folder_has_locks_of_several_names(tmp_path):
    with files.locked_folder(tmp_path / "a"), files.locked_folder(tmp_path / "a", ".other"):
        assert sorted(os.listdir(tmp_path / "a")) == [".lock", ".other"]


def test_a_lock_is_free_when_its_process_was_killed(tmp_path):
    code = "import pathlib, sys; from aria import files; held = files.lock(pathlib.Path(sys.argv[1])); print(); input()"
    command = [sys.executable, "-c", code, tmp_path / "lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        with pytest.raises(BlockingIOError):
            files.lock(tmp_path / "lock")
        other.kill()
        other.wait()
        files.lock(tmp_path / "lock").close()


def test_sweeping_leaves_a_folder_that_is_being_filled(tmp_path):
    with files.replacing_folder(tmp_path / "student") as folder:
        (folder / "a.txt").write_text("one")
        files.sweep(tmp_path)
    assert (tmp_path / "student" / "a.txt").read_text() == "one"


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "a.bin"

    def write(content, fails=False):
        with files.replacing(path) as unfinished:
            unfinished.write_bytes(content)
            assert not path.exists() or path.read_bytes() == b"one"
            if fails:
                raise RuntimeError

    write(b"one")
    with pytest.raises(RuntimeError):
        write(b"half", fails=True)
    assert path.read_bytes() == b"one" and [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]
    write(b"two")
    assert path.read_bytes() == b"two"


@pytest.mark.parametrize("what", ["replacing", "write_json", "remove"])
def test_a_kill_at_any_operation_leaves_the_old_or_the_new_or_neither(what, tmp_path, monkeypatch):
    def act(place):
        if what == "replacing":
            with files.replacing_folder(place / "it") as folder:
                fill(folder, "three")
        elif what == "write_json":
            files.write_json(place / "it.json", {"a": "three"})
        else:
            files.remove(place / "it")

    def begin(place):
        (place / "it").mkdir(parents=True)
        fill(place / "it", "one")
        files.write_json(place / "it.json", {"a": "one"})

    begin(tmp_path / "whole")
    old = sizes(tmp_path / "whole")
    with broken(monkeypatch) as disk:
        act(tmp_path / "whole")
    new = sizes(tmp_path / "whole")
    assert old != new and disk.count >= 2
    for last in range(1, disk.count + 1):
        place = tmp_path / str(last)
        begin(place)
        with pytest.raises(Killed), broken(monkeypatch, last):
            act(place)
        files.sweep(place)
        left = sizes(place)
        gone = {name: size for name, size in old.items() if not name.startswith("it/")}
        assert left in (old, new, gone), last
        assert json.loads((place / "it.json").read_text())["a"] in {"one", "three"}


def test_what_the_system_refused_is_an_os_error(tmp_path):
    message = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(OSError, match="No space left") as caught, files.system_errors(tmp_path):
        raise SafetensorError(message)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(SafetensorError, match="header"), files.system_errors(tmp_path):
        raise SafetensorError("header too small")


def test_sweeping_leaves_what_is_whole(tmp_path):
    for name in (".checkpoint-3.part", ".checkpoint-2.old", "checkpoint-1", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / ".17-00000000.part.json").write_text("{")
    (tmp_path / ".checkpoint-3.lock").touch()
    (tmp_path / ".lock").touch()
    files.sweep(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".hidden", ".lock", "checkpoint-1"]


def test_tensors_are_written_from_any_layout(tmp_path):
    files.write_tensors(tmp_path / "x.safetensors", {"x": torch.arange(6).view(2, 3).T})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["x"], torch.arange(6).view(2, 3).T)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", "\xff"])
def test_what_is_no_json_object_is_one_line(text, tmp_path):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"a\.json: no") as caught:
        files.read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


WRITER = """
import sys
from aria import files
from tests.folders import sizes
with files.replacing(sys.argv[1]) as unfinished:
    with unfinished.open("w") as file:
        file.write("others" * 1000)
        print("begun", flush=True)
        sys.stdin.readline()
"""


def test_of_two_writers_of_one_file_the_last_wins(tmp_path):
    """Neither is published half written, and neither fails."""
    target = tmp_path / "a.txt"
    command = [sys.executable, "-c", WRITER, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "begun\n"
        with files.replacing(target) as unfinished:
            unfinished.write_text("own")
        assert target.read_text() == "own"
        other.communicate("\n")
    assert other.returncode == 0 and target.read_text() == "others" * 1000
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_the_system_refuses_names_the_target(tmp_path):
    target = tmp_path / "none" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught, files.replacing(target) as unfinished:
        unfinished.write_text("x")
    assert caught.value.filename == str(target)


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, files.replacing(tmp_path / "a.txt"):
        os.stat("no such font")
    assert caught.value.filename == "no such font"
    with pytest.raises(OSError, match=r"^no font at all$") as caught, files.replacing(tmp_path / "a.txt"):
        raise OSError("no font at all")
    assert caught.value.errno is None and os.listdir(tmp_path) == []


def test_a_name_as_long_as_the_disk_takes(tmp_path):
    target = tmp_path / ("x" * 251 + ".txt")
    with files.replacing(target) as unfinished:
        unfinished.write_text("x")
        assert unfinished.suffix == ".txt"
    assert target.read_text() == "x"


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, sentence in ((tmp_path, "is a folder"), (tmp_path / "pipe", "is a device or a pipe")):
        with pytest.raises(ValueError, match=sentence):
            files.check_writable(path)
    with pytest.raises(ValueError, match="there is no folder .*none to write a to"):
        files.check_writable(tmp_path / "none" / "a")
    files.check_writable(tmp_path / "new")
