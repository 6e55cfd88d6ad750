"""Teachers on disk, made once for all tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

if importlib.util.find_spec("diffusers") is None:
    collect_ignore_glob = ["*"]


def _made(tmp_path_factory: pytest.TempPathFactory, name: str, **settings: str) -> Path:
    from tests.distill import pipelines

    save = pipelines.save_sdxl if name.startswith("sdxl") else pipelines.save_sd
    return save(tmp_path_factory.mktemp("teachers") / name, **settings)


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion teacher that predicts the noise."""
    return _made(tmp_path_factory, "sd")


@pytest.fixture(scope="session")
def sd_v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion teacher that predicts the velocity."""
    return _made(tmp_path_factory, "sd-v", prediction_type="v_prediction")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion XL teacher."""
    return _made(tmp_path_factory, "sdxl")
