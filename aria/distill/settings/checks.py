"""What can be refused before torch is loaded: missing settings, unknown names, files that do not exist."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aria import files, specs
from aria.checks import InvalidSetting
from aria.distill.settings.choices import AUTO, PARTITION_FILE
from aria.distill.settings.config import Config, help_of, settings

REQUIRED = ("pretrained_model_name_or_path", "student", "prompts", "output_dir")


def check(config: Config) -> None:
    """Refuse settings that are missing, or that name a part or a file that does not exist."""
    values = config.flat()
    for name in REQUIRED:
        if not values[name]:
            raise InvalidSetting(name, "missing", f"--{name} is missing: {help_of(name)}")
    if not (config.data.num_images or config.data.train_data_dir):
        raise InvalidSetting(
            "num_images",
            "missing",
            "there are no images to train on: num_images must be at least 1, or train_data_dir given",
        )
    logger = config.run.report_to
    if logger is not None and find_spec(logger) is None:
        raise InvalidSetting("report_to", "choice", f"report_to={logger!r} is not installed: pip install {logger}")
    for setting in settings():
        if setting.about.part is not None:
            _check_parts(setting.name, setting.about.part, values[setting.name])
    check_prompts(values["prompts"])
    check_images(values["train_data_dir"])
    check_model(values["student"], "student")
    check_pipeline(values["pretrained_model_name_or_path"])


def _check_parts(name: str, kind: str, value: Any) -> None:
    for spec in value if isinstance(value, tuple) else (value,):
        if kind == "partitioner":
            check_partitioner(spec, name)
        else:
            specs.check(spec, kind)


def check_partitioner(spec: str, name: str = "partitioner") -> None:
    """Refuse what is neither a partitioner, nor ``auto``, nor the file of a partition."""
    if spec.endswith(PARTITION_FILE):
        if not Path(spec).is_file():
            raise InvalidSetting(name, "file", f"there is no partition file {spec}")
    elif spec != AUTO:
        specs.check(spec, "partitioner")


def check_prompts(path: str | Path, name: str = "prompts") -> None:
    """Refuse a file of prompts that does not exist."""
    if not Path(path).exists():
        raise InvalidSetting(name, "file", f"there is no prompt file {path}")


def check_images(folder: str | Path | None, name: str = "train_data_dir") -> None:
    """Refuse a folder of images that does not exist."""
    if folder is not None and not Path(folder).is_dir():
        raise InvalidSetting(name, "file", f"there is no folder of images {folder}")


def check_model(folder: str | Path, name: str) -> None:
    """Refuse the folder of a model that does not exist."""
    if not Path(folder).exists():
        raise InvalidSetting(
            name, "file", f"{folder} is no model folder: it has no config.json (there is no such folder)"
        )


def check_pipeline(path: str | Path, name: str = "pretrained_model_name_or_path") -> None:
    """Refuse a folder that does not exist and that cannot be the name of a repository on the hub either.

    >>> check_pipeline("stabilityai/stable-diffusion-2-1")
    >>> check_pipeline("./teacher")
    Traceback (most recent call last):
    aria.checks.InvalidSetting: there is no folder ./teacher
    """
    folder, text = Path(path), str(path)
    if folder.is_dir() and not (folder / "model_index.json").is_file():
        why = f"it has no model_index.json{files.contents(folder)}"
        raise InvalidSetting(name, "file", f"{path} is no pipeline folder: {why}")
    on_hub = not folder.is_absolute() and not text.startswith((".", "~")) and text.count("/") <= 1
    if (not on_hub and not folder.exists()) or folder.is_file():
        raise InvalidSetting(name, "file", f"there is no folder {path}")


def check_run(folder: str | Path, name: str = "run") -> None:
    """Refuse what is no output folder of a run."""
    if not (Path(folder) / "config.json").is_file():
        raise InvalidSetting(name, "file", f"{folder} is no folder of a run: it has no config.json")


def check_folder(folder: str | Path, name: str) -> None:
    """Refuse a folder that does not exist."""
    if not Path(folder).is_dir():
        raise InvalidSetting(name, "file", f"there is no folder {folder}")
