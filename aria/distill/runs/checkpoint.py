"""Checkpoints: everything needed to resume a run bit for bit, as safetensors and JSON.

A checkpoint is written to a temporary folder and renamed when it is complete. Its index, ``state.json``, contains the
SHA-256 of every file, which loading verifies. The state is a mapping of named parts (:mod:`aria.distill.engine.state`);
nothing here depends on what they are.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aria import checks, files
from aria.distill.engine.state import Exported, State, Stateful, TrainState

_NAME = re.compile(r"checkpoint-(\d+)")
INDEX = "state.json"
FORMAT = 3

log = logging.getLogger(__name__)


def folders(output: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = [entry for entry in output.iterdir() if _NAME.fullmatch(entry.name)] if output.is_dir() else []
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The step in a checkpoint's name; 0 for a folder that has another name."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else 0


def save(
    state: TrainState,
    output: Path,
    step: int,
    *,
    settings: dict[str, Any],
    accelerator: Accelerator,
    limit: int | None = None,
) -> Path:
    """Write ``checkpoint-{step}`` and remove the oldest ones beyond ``limit``.

    Collective: every rank calls it, and the first one writes.
    """
    target, first = output / f"checkpoint-{step}", accelerator.is_main_process
    accelerator.wait_for_everyone()
    with files.replacing_folder(target) if first else nullcontext() as folder:
        values = {name: _write(name, part, folder) for name, part in state.items()}
        if folder is not None:
            hashes, named = _hashes(folder), {name: _file(name, part) for name, part in state.items()}
            tensors = {name: file for name, file in named.items() if file in hashes}
            index = {"format": FORMAT, "step": step, "settings": settings, "values": values}
            index |= {"tensors": tensors, "files": hashes}
            files.write_json(folder / INDEX, index)
    for old in folders(output)[:-limit] if first and limit else []:
        files.remove(old)
    accelerator.wait_for_everyone()
    return target


def _write(name: str, part: Stateful, folder: Path | None) -> dict[str, Any]:
    """Write a part's tensors and return its other values. Every rank calls it, only the first with a folder."""
    saved = part.state_dict()
    if isinstance(part, Exported):
        part.export(folder)
    tensors = {key: value for key, value in saved.items() if isinstance(value, Tensor)}
    if folder is not None and tensors:
        file = folder / _file(name, part)
        file.parent.mkdir(exist_ok=True)
        files.write_tensors(file, tensors)
    return {key: value for key, value in saved.items() if key not in tensors}


def _file(name: str, part: Stateful) -> str:
    return part.file if isinstance(part, Exported) else f"{name}.safetensors"


def load(state: TrainState, folder: Path, *, settings: dict[str, Any]) -> None:
    """Restore the state from a checkpoint; one that is damaged or belongs to a different run is refused."""
    _load(state, folder, verified(folder), settings)


def load_newest(state: TrainState, output: Path, *, settings: dict[str, Any]) -> Path | None:
    """Restore the state from the newest checkpoint of a run, and return its folder; None if there is no checkpoint.

    Damaged checkpoints are skipped with a warning; if all are damaged, that is an error.
    """
    found = folders(output)
    for folder in reversed(found):
        try:
            index = verified(folder)
        except ValueError as error:
            if folder == found[0]:
                raise
            log.warning("%s; trying an older one", error)
            continue
        _load(state, folder, index, settings)
        return folder
    return None


def _load(state: TrainState, folder: Path, index: dict[str, Any], settings: dict[str, Any]) -> None:
    for name in sorted({*settings, *index["settings"]}):
        before, now = index["settings"].get(name), settings.get(name)
        if before != now:
            raise checks.InvalidSetting(
                name,
                "conflict",
                f"{folder} was written with {name} = {before!r}, now it is {now!r}; "
                "resume with the same settings or choose another output folder",
            )
    for name, part in state.items():
        try:
            part.load_state_dict(_read(folder, name, part, index))
        except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            message = f"{folder} does not hold this run's {name}: {why[:300]}"
            if isinstance(error, checks.InvalidSetting):
                raise checks.InvalidSetting(error.setting, error.kind, message) from error
            raise ValueError(message) from error


def _read(folder: Path, name: str, part: Stateful, index: dict[str, Any]) -> State:
    file = index["tensors"].get(name)
    if file is not None and (file != _file(name, part) or file not in index["files"]):
        raise KeyError(_file(name, part))
    return {**index["values"][name], **({} if file is None else load_file(folder / file))}


def check(folder: Path) -> dict[str, Any]:
    """The index of a checkpoint, after checking its format but not its files."""
    if not (folder / INDEX).is_file():
        raise ValueError(f"{folder} is no checkpoint: it has no {INDEX}")
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        version = index["format"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder / INDEX} is damaged or foreign: {error}") from None
    if version != FORMAT:
        raise ValueError(f"{folder} has the checkpoint format {version!r}, this version reads {FORMAT} only")
    for name in ("settings", "values", "files", "tensors"):
        if not isinstance(index.get(name), dict):
            raise ValueError(f"{folder / INDEX} is damaged or foreign: {name} is no object: {index.get(name)!r:.100}")
    for name, part in index["values"].items():
        if not isinstance(part, dict):
            raise ValueError(f"{folder / INDEX} is damaged or foreign: values of {name} are no object: {part!r:.100}")
    checks.whole(f"{folder / INDEX} is damaged or foreign: step", index.get("step"), least=0)  # type: ignore[arg-type]
    return index


def verified(folder: Path) -> dict[str, Any]:
    """The index of a checkpoint, after verifying the hash of every file."""
    index = check(folder)
    for name, digest in index["files"].items():
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is damaged: {name} is missing")
        if _hash(folder / name) != digest:
            raise ValueError(f"{folder} is damaged: {name} does not match its hash")
    return index


def _hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file under ``folder``, by relative path."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): _hash(path) for path in found}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
