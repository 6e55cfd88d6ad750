"""What a run refuses before it opens a model: missing settings, and files and folders that do not exist.

Loads neither torch nor diffusers, so that these refusals are quick.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from aria.checks import InvalidSetting
from aria.distill.settings.config import Config, help_of

PARTITION_ENDING = ".safetensors"
"""A partitioner setting with this ending is a file, not a spec."""


def check_inputs(config: Config) -> None:
    """Refuse what can be refused by looking at the settings and at this machine's folders."""
    flat = config.flat()
    for name in ("pretrained_model_name_or_path", "student", "prompts", "output_dir"):
        if not flat[name]:
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
    _check_teacher(config.models.pretrained_model_name_or_path)
    for name in ("student", "prompts", "train_data_dir"):
        if flat[name] and not Path(flat[name]).exists():
            kind = "file or folder" if name == "prompts" else "folder"
            raise InvalidSetting(name, "file", f"--{name}: there is no {kind} {flat[name]}")
    partitioner = config.allocation.partitioner
    if partitioner.endswith(PARTITION_ENDING) and not Path(partitioner).is_file():
        raise InvalidSetting("partitioner", "file", f"there is no partition file {partitioner}")


def _check_teacher(path: str) -> None:
    """Refuse what is certainly no name on the hub and no pipeline's folder either."""
    folder, name = Path(path), "pretrained_model_name_or_path"
    if folder.is_dir() and not (folder / "model_index.json").is_file():
        why = f"it has no model_index.json{contents(folder)}"
        raise InvalidSetting(name, "file", f"{path} is no pipeline folder: {why}")
    if not folder.is_dir() and (folder.exists() or folder.is_absolute() or path.startswith(".") or path.count("/") > 1):
        raise InvalidSetting(name, "file", f"there is no folder {path}")


def contents(folder: Path) -> str:
    """What a folder holds instead of what is looked for, in brackets."""
    if folder.is_file():
        return " (it is a file)"
    if not folder.is_dir():
        return " (there is no such folder)"
    found = sorted(entry.name for entry in folder.iterdir())
    return f" (it holds {', '.join(found[:6])}{', …' if len(found) > 6 else ''})" if found else " (it is empty)"
