"""Teachers and students on disk for the commands, made once."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("diffusers") is None:
    collect_ignore_glob = ["*"]


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory):
    from tests.distill import pipelines

    return pipelines.save_sd(tmp_path_factory.mktemp("teachers") / "sd")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory):
    from tests.distill import pipelines

    return pipelines.save_sdxl(tmp_path_factory.mktemp("teachers") / "sdxl")


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory, sd_folder):
    from aria.distill.students import prune

    folder = tmp_path_factory.mktemp("students") / "tiny"
    prune(sd_folder, folder, preset="bk-tiny")
    return folder
