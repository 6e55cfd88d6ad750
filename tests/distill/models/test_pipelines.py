"""Opening models: mistakes in a teacher or a student are one line that names the file and the cause."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

from aria.checks import InvalidSetting
from aria.distill.models import hub, pipelines
from aria.distill.models.pipelines import open_model, open_pipeline
from aria.distill.models.weight_files import check_file, check_weights

WEIGHTS = "diffusion_pytorch_model.safetensors"


def refused(opens, *arguments, **options):
    with pytest.raises(ValueError, match=r"^[^\n]+\Z") as caught:
        opens(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_truncated_weights_name_the_file_and_both_sizes(part, sd_folder, tmp_path):
    teacher = shutil.copytree(sd_folder, tmp_path / "teacher")
    path = next((teacher / part).glob("*.safetensors"))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1000])
    expected = f"{path} is truncated: its header says {size:,} bytes, the file has {size - 1000:,}"
    assert refused(open_pipeline, teacher) == f"cannot open the pipeline {teacher}: {expected}"
    if part == "unet":
        for folder in (teacher, teacher / part):
            assert refused(open_model, folder) == f"cannot open the model {folder}: {expected}"


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda data: b"", "truncated or no safetensors file: its 0 bytes end within the header"),
        (lambda data: data[:5], "truncated or no safetensors file: its 5 bytes end within the header"),
        (lambda data: data[:200], "truncated or no safetensors file: its 200 bytes end within the header"),
        (lambda data: data + b"more", "damaged: its header says"),
        (lambda data: data[:8] + b"[" + data[9:], "damaged: its header cannot be read"),
        (lambda data: struct.pack("<Q", 2) + b"[]", "damaged: its header cannot be read"),
        (lambda data: struct.pack("<Q", 8) + b'{"a": 1}', "damaged: its header cannot be read"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
    ],
)
def test_damaged_weights_name_the_cause(damage, cause, sd_folder, tmp_path):
    path = tmp_path / WEIGHTS
    path.write_bytes(damage((sd_folder / "unet" / WEIGHTS).read_bytes()))
    assert f"{path} is {cause}" in refused(check_file, path)


def test_only_the_variant_that_is_opened_is_checked(sd_folder, tmp_path):
    shutil.copy(sd_folder / "unet" / WEIGHTS, tmp_path / WEIGHTS)
    for name in ("diffusion_pytorch_model.fp16", "diffusion_pytorch_model.bf16-00001-of-00002"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"torn")
    check_weights(tmp_path)
    assert "fp16.safetensors is truncated" in refused(check_weights, tmp_path, "fp16")
    assert "bf16-00001-of-00002.safetensors is truncated" in refused(check_weights, tmp_path, "bf16")


# ----------------------------------------------------------------------------------------------------------------- hub


def response():
    return SimpleNamespace(headers={}, request=None, status_code=404, url="")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConnectionError("[Errno -2] no name\nmore"), "and the hub cannot be reached: [Errno -2] no name"),
        (hub.UNREACHABLE[1]("no route"), "and the hub cannot be reached: no route"),
        (OfflineModeIsEnabled("offline mode is enabled"), "and the hub cannot be reached: offline mode is enabled"),
        (RepositoryNotFoundError("x", response=response()), "and the hub has no such model"),
        (RevisionNotFoundError("x", response=response()), "and on the hub it has no revision 'v9'"),
    ],
)
def test_a_teacher_that_is_nowhere_is_one_line_after_one_request(error, sentence, monkeypatch):
    requests = []

    def fails(name, **options):
        requests.append((name, options))
        raise error

    monkeypatch.setattr(hub, "model_info", fails)
    monkeypatch.setattr(pipelines.DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail("requested again"))
    with pytest.raises(InvalidSetting) as caught:
        open_pipeline("nobody/no-such-model", revision="v9")
    assert str(caught.value).startswith(f"nobody/no-such-model is no folder here, {sentence}")
    assert "\n" not in str(caught.value) and caught.value.kind == "missing"
    assert requests == [("nobody/no-such-model", {"revision": "v9", "timeout": hub.TIMEOUT})]


def test_names_that_no_model_can_have(tmp_path):
    assert "no name of a model on the hub" in refused(open_pipeline, "a/b/c")
    assert refused(open_pipeline, tmp_path / "none") == f"there is no folder {tmp_path / 'none'}"
    (tmp_path / "file").write_text("{}")
    assert refused(open_pipeline, tmp_path / "file") == f"{tmp_path / 'file'} is a file, not the folder of a pipeline"


def test_without_the_hub_a_model_is_opened_that_was_downloaded(sd_folder, tmp_path, monkeypatch):
    def unreachable(name, **options):
        raise ConnectionError

    found = []

    def opened(name, **options):
        found.append((name, options["local_files_only"]))
        return original(sd_folder, **{key: options[key] for key in ("dtype", "use_safetensors")})

    original = pipelines.DiffusionPipeline.from_pretrained
    monkeypatch.setattr(hub, "model_info", unreachable)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_, **__: str(sd_folder / "model_index.json"))
    monkeypatch.setattr(pipelines.DiffusionPipeline, "from_pretrained", opened)
    load = pipelines.DiffusionPipeline.load_config

    def loaded(name, **options):
        if name != "owner/teacher":
            return load(name, **options)
        assert options == {"local_files_only": True}
        return load(sd_folder)

    monkeypatch.setattr(pipelines.DiffusionPipeline, "load_config", loaded)
    assert open_pipeline("owner/teacher").unet is not None and found == [("owner/teacher", True)]


def test_offline_the_line_comes_at_once():
    """In a process of its own, with the hub at an address where nothing listens."""
    program = (
        "import time; from aria.distill.models.pipelines import open_pipeline; begun = time.monotonic()\n"
        "try: open_pipeline('nobody/no-such-model')\n"
        "except ValueError as error: print(time.monotonic() - begun, error)"
    )
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    process = [sys.executable, "-c", program]
    ended = subprocess.run(process, capture_output=True, text=True, env=environment, timeout=120)
    seconds, _, line = ended.stdout.strip().partition(" ")
    assert line.startswith("nobody/no-such-model is no folder here, and the hub cannot be reached:"), ended.stderr
    assert float(seconds) < 2 and "Retrying" not in ended.stderr, (seconds, ended.stderr)
