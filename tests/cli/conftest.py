"""Teachers and students on disk for the commands, made once."""

from __future__ import annotations

import importlib.util
from functools import cache

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


@cache
def opened(path, **options):
    """The teacher in a folder, opened once."""
    from aria.distill.models.pipelines import open_pipeline

    return open_pipeline(path, **options)


@pytest.fixture
def teachers_once(monkeypatch):
    """Runs in this process open each teacher only once; returns the function that opens it."""
    from aria.distill.runs import run as engine

    monkeypatch.setattr(engine, "open_pipeline", opened)
    return opened
