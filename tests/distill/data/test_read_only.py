"""A finished cache that can only be read, such as one on a mounted disk of someone else, serves a run."""

from __future__ import annotations

import errno

import pytest

from aria import progress
from aria.checks import InvalidSetting
from aria.distill.data import cache
from aria.distill.models.pipelines import open_pipeline
from tests.folders import sizes


@pytest.fixture
def filled(sd_folder, tmp_path, monkeypatch):
    prompts, pipeline = tmp_path / "prompts.txt", open_pipeline(sd_folder)
    prompts.write_text("a cat\na dog")

    def fill(**changes):
        given = {"num_images": 2, "steps": 1, "guidance": 1.0} | changes
        return cache.fill(tmp_path / "cache", pipeline, prompts=prompts, bar=progress.silent, **given)

    fill()

    def closed(path, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("aria.distill.data.cache.locked_folder", closed)
    monkeypatch.setattr("aria.distill.data.cache._writable", lambda output: False)
    return fill


def test_what_is_there_is_served_and_nothing_is_written(filled, tmp_path):
    before = sizes(tmp_path)
    assert filled()["prompts"]["digest"] == filled(num_images=1)["prompts"]["digest"]
    assert sizes(tmp_path) == before
    cache.opened(tmp_path / "cache", resolution=None)


@pytest.mark.parametrize("changes, name", [
    ({"num_images": 3}, "num_images"), ({"steps": 2}, "num_inference_steps"), ({"guidance": 2.0}, "guidance_scale"),
])  # fmt: skip
def test_what_is_not_there_is_refused_by_name(changes, name, filled):
    with pytest.raises(InvalidSetting, match=f"cannot be written to, and was made with {name} = ") as refused:
        filled(**changes)
    assert refused.value.setting == name


def test_other_prompts_are_refused(filled, tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat\nan owl")
    with pytest.raises(InvalidSetting, match="cannot be written to, and was made with prompts = "):
        filled()


def test_images_of_another_teacher_are_refused(filled, tmp_path, sd_folder, monkeypatch):
    from aria.distill.data import fingerprint

    weights = fingerprint.weights
    monkeypatch.setattr(fingerprint, "weights", lambda *args: weights(*args)[::-1])
    with pytest.raises(ValueError, match="was made with teacher weights = "):
        filled()
