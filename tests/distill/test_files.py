"""Writing that a kill at any operation leaves as it was or as it should be."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from aria.distill import files
from tests.distill.broken_disk import Killed, broken


def fill(folder, text):
    (folder / "a.txt").write_text(text)
    (folder / "inner").mkdir()
    files.write_tensors(folder / "inner" / "b.safetensors", {"x": torch.ones(3)})


def test_a_folder_appears_whole(tmp_path):
    with files.replacing(tmp_path / "new") as folder:
        fill(folder, "one")
        assert not (tmp_path / "new").exists()
    size = (tmp_path / "new" / "inner" / "b.safetensors").stat().st_size
    assert files.sizes(tmp_path) == {"new/a.txt": 3, "new/inner/b.safetensors": size}
    with files.replacing(tmp_path / "new") as folder:
        fill(folder, "three")
    assert files.sizes(tmp_path) == {"new/a.txt": 5, "new/inner/b.safetensors": size}


def test_an_error_leaves_the_old_one(tmp_path):
    with files.replacing(tmp_path / "new") as folder:
        fill(folder, "one")

    def half():
        with files.replacing(tmp_path / "new") as folder:
            (folder / "a.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"] and (tmp_path / "new" / "a.txt").read_text() == "one"


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    with files.replacing(tmp_path / "new") as folder:
        fill(folder, "one")
    rename = Path.rename
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda here, there: rename(here, "/" if here.suffix == ".part" else there))
        with pytest.raises(OSError), files.replacing(tmp_path / "new") as folder:  # noqa: PT011 - whichever it is
            fill(folder, "three")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"] and (tmp_path / "new" / "a.txt").read_text() == "one"


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "a.bin"

    def write(content, fails=False):
        with files.replacing_file(path) as unfinished:
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
            with files.replacing(place / "it") as folder:
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
    old = files.sizes(tmp_path / "whole")
    with broken(monkeypatch) as disk:
        act(tmp_path / "whole")
    new = files.sizes(tmp_path / "whole")
    assert old != new and disk.count >= 2
    for last in range(1, disk.count + 1):
        place = tmp_path / str(last)
        begin(place)
        with pytest.raises(Killed), broken(monkeypatch, last):
            act(place)
        files.sweep(place)
        left = files.sizes(place)
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
    (tmp_path / ".config.json.part").write_text("{")
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
