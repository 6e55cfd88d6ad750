"""Commands write files completely or not at all, and report what cannot be written in one line."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from aria import files
from aria.cli import main
from tests.folders import sizes
from theory.cli import main as simulator


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\na dog\n")
    return path


def refused(result, sentence):
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), (result.output, result.exception)
    last = result.stderr.rstrip("\n").splitlines()[-1]
    assert last.startswith("Error: ") and sentence in last, last


def partition(prompts, output):
    command = ["partition", "--prompts", prompts, "--partitioner", "one_region", "--output", output]
    return CliRunner().invoke(main, list(map(str, command)))


def draw(output):
    return CliRunner().invoke(simulator, ["run", "--steps", "10", "--plot", str(output)])


@pytest.fixture
def full(tmp_path):
    """A disk with one free page."""
    place = tmp_path / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("this system mounts nothing")
    (place / "filler").write_bytes(b"x" * 4096)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_one_line_and_leaves_nothing(full, prompts):
    refused(partition(prompts, full / "p.safetensors"), "the disk is full")
    for name in ("a.svg", "a.png"):
        refused(draw(full / name), f"the disk is full: free some space for {full / name}")
    assert [entry.name for entry in full.iterdir()] == ["filler"]


def test_what_is_no_file_is_not_replaced(prompts, tmp_path):
    """For root, a rename would go through even over /dev/null."""
    pipe, other = tmp_path / "pipe.svg", tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    os.mkfifo(other)
    refused(partition(prompts, other), "is a device or a pipe, give a file")
    refused(draw(pipe), "is a device or a pipe, give a file")
    with pytest.raises(ValueError, match="is a device or a pipe"):
        files.write_text(pipe, "x")
    (tmp_path / "folder.safetensors").mkdir()
    refused(partition(prompts, tmp_path / "folder.safetensors"), "is a folder, give a file")
    assert pipe.is_fifo() and other.is_fifo() and prompts.read_text() == "a cat\na dog\n"
    assert len(list(tmp_path.iterdir())) == 4


def test_foreign_files_are_not_overwritten(prompts, sd_folder, student_folder, tmp_path):
    """The teacher, the original student, the prompts: each is named in the refusal and left unchanged."""
    teacher, student, run = tmp_path / "teacher", tmp_path / "student", tmp_path / "run"
    shutil.copytree(sd_folder, teacher)
    shutil.copytree(student_folder, student)
    run.mkdir()
    (run / "config.json").write_text("{}")
    before = sizes(tmp_path)
    common = ["--pretrained_model_name_or_path", teacher, "--prompts", prompts, "--num_images", 2]

    def run_command(*words):
        return CliRunner().invoke(main, [str(word) for word in words])

    for output, name in ((teacher, "model_index.json"), (student, "config.json")):
        words = ["--student", student, "--max_train_steps", 1, "--output_dir", output]
        distilled = run_command("distill", *common, *words)
        refused(distilled, f"{output} is no folder of a run and has a {name}: choose another output folder")
        refused(run_command("cache", *common, "--output_dir", output), f"{output} is neither empty nor a cache")
    refused(partition(prompts, prompts), f"--output must be a .safetensors file, got {prompts}")
    refused(run_command("report", run, "--output", run / "config.json"), "--output must be an .html file")
    assert sizes(tmp_path) == before


def test_a_link_stays_one(prompts, tmp_path):
    link = tmp_path / "link.safetensors"
    link.symlink_to(tmp_path / "there")
    for write in (lambda: partition(prompts, link), lambda: files.write_text(link, "x")):
        write()
        assert link.is_symlink() and (tmp_path / "there").stat().st_size
        (tmp_path / "there").unlink()


def test_two_who_write_one_folder(tmp_path):
    """The second is refused and does not affect the first; the lock of a killed process does not matter."""
    target, lock = tmp_path / "student", tmp_path / ".student.lock"
    with files.replacing_folder(target) as first:
        (first / "a").write_text("first")
        with pytest.raises(ValueError, match="another process is writing .*student"), files.replacing_folder(target):
            pass
    assert (target / "a").read_text() == "first"
    lock.touch()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # held until the file is closed, as when a process ends
    with files.replacing_folder(target) as second:
        (second / "a").write_text("second")
    assert [entry.name for entry in tmp_path.iterdir()] == ["student"] and (target / "a").read_text() == "second"


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("cache", "num_images", 10**30),
        ("cache", "resolution", 2**63),
        ("cache", "batch_size", 2**64),
        ("cache", "guidance_scale", "nan"),
        ("sample", "resolution", 2**63),
        ("sample", "guidance_scale", "inf"),
        ("quantise", "batch_size", 2**64),
    ],
)
def test_numbers_out_of_range_are_refused(command, option, value, sd_folder, student_folder, prompts, tmp_path):
    own = {
        "cache": ["--prompts", prompts, "--output_dir", tmp_path / "cache"],
        "sample": ["--student", student_folder, "--prompt", "a cat", "--output", tmp_path / "x.png"],
        "quantise": [tmp_path],
    }[command]
    words = [command, "--pretrained_model_name_or_path", sd_folder, f"--{option}", value, *own]
    refused(CliRunner().invoke(main, list(map(str, words))), str(value))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["prompts.txt"]


def test_a_deeply_nested_block_map_is_refused(sd_folder, tmp_path):
    (tmp_path / "map.yaml").write_text("{" * 20_000)
    words = ["prune", "--pretrained_model_name_or_path", sd_folder, "--output_dir", tmp_path / "s"]
    result = CliRunner().invoke(main, list(map(str, [*words, "--block_map", tmp_path / "map.yaml"])))
    refused(result, "its brackets are nested too deeply")
