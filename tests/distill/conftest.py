"""Teachers on disk, made once for all tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

if importlib.util.find_spec("diffusers") is None:
    collect_ignore_glob = ["*"]


def _made(tmp_path_factory: pytest.TempPathFactory, name: str, **settings: str) -> Path:
    from tests.distill import pipelines

    save = getattr(pipelines, f"save_{name.split('-')[0]}")
    made: Path = save(tmp_path_factory.mktemp("teachers") / name, **settings)
    return made


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


@pytest.fixture(scope="session")
def dit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher conditioned on classes."""
    return _made(tmp_path_factory, "dit")


@pytest.fixture(scope="session")
def pixart_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PixArt-alpha teacher."""
    return _made(tmp_path_factory, "pixart")


@pytest.fixture(scope="session")
def pixart_sigma_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PixArt-Sigma teacher."""
    return _made(tmp_path_factory, "pixart-sigma", kind="sigma")


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion 3 teacher, which matches flows."""
    return _made(tmp_path_factory, "sd3")


@pytest.fixture(scope="session")
def sana_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Sana teacher, which matches flows with a scheduler for both."""
    return _made(tmp_path_factory, "sana")


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Flux teacher that takes the guidance scale as an input, as FLUX.1-dev does."""
    return _made(tmp_path_factory, "flux")


@pytest.fixture(scope="session")
def flux_schnell_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Flux teacher without guidance, as FLUX.1-schnell is."""
    return _made(tmp_path_factory, "flux-schnell", kind="schnell")


@pytest.fixture(scope="session")
def flux2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLUX.2 teacher that takes the guidance scale as an input."""
    return _made(tmp_path_factory, "flux2")


@pytest.fixture(scope="session")
def klein_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLUX.2 klein teacher, which is guided."""
    return _made(tmp_path_factory, "klein")


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen-Image teacher, guided by a negative prompt in outputs of unchanged length."""
    return _made(tmp_path_factory, "qwen")


@pytest.fixture(scope="session")
def aura_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AuraFlow teacher, which matches flows."""
    return _made(tmp_path_factory, "aura")


@pytest.fixture(scope="session")
def lumina_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Lumina-Image 2.0 teacher, whose time runs the other way."""
    return _made(tmp_path_factory, "lumina")


@pytest.fixture(scope="session")
def zimage_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Z-Image teacher, whose model takes lists."""
    return _made(tmp_path_factory, "zimage")


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Wan teacher, which makes videos."""
    return _made(tmp_path_factory, "wan")


@pytest.fixture(scope="session")
def ltx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LTX-Video teacher, which makes videos of packed latents."""
    return _made(tmp_path_factory, "ltx")
