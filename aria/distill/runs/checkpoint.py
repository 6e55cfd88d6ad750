"""Checkpoints: everything needed to resume a run bit for bit, as safetensors and JSON.

A checkpoint is written to a temporary folder and renamed when it is complete. Its index, ``state.json``, contains the
SHA-256 of every file and its own, which loading verifies. The state is a mapping of named parts
(:mod:`aria.distill.engine.state`); nothing here depends on what they are.
"""

from __future__ import annotations

import logging
import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aria import checks, files, integrity
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
            named = {name: _file(name, part) for name, part in state.items()}
            hashes = integrity.hashes_flushed(folder)
            tensors = {name: file for name, file in named.items() if file in hashes}
            index = {"format": FORMAT, "step": step, "settings": settings, "values": values}
            index |= {"tensors": tensors, "files": hashes}
            integrity.write(folder / INDEX, index)
    for old in [each for each in folders(output) if step_of(each) <= step][:-limit] if first and limit else []:
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


@dataclass(frozen=True)
class Saved:
    """A checkpoint whose files are all there and have their hashes."""

    folder: Path
    index: dict[str, Any]

    def check_same(self, settings: dict[str, Any]) -> None:
        """Refuse ``settings``, all or some of a run's, other than those that it was written with."""
        for name, has in sorted(settings.items()):
            if (had := self.index["settings"].get(name)) != has:
                raise checks.InvalidSetting(
                    name,
                    "conflict",
                    f"{self.folder} was written with {name} = {had!r}, now it is {has!r}; "
                    "resume with the same settings or choose another output folder",
                )

    def load(self, state: TrainState, *, settings: dict[str, Any]) -> None:
        """Restore the state; a checkpoint of a different run is refused."""
        self.check_same(dict.fromkeys(self.index["settings"]) | settings)
        for name, part in state.items():
            try:
                part.load_state_dict(self._read(name, part))
            except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as error:
                why = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
                message = f"{self.folder} does not hold this run's {name}: {why[:300]}"
                if isinstance(error, checks.InvalidSetting):
                    raise checks.InvalidSetting(error.setting, error.kind, message) from error
                raise ValueError(message) from error

    def _read(self, name: str, part: Stateful) -> State:
        file = self.index["tensors"].get(name)
        if file is not None and (file != _file(name, part) or file not in self.index["files"]):
            raise KeyError(_file(name, part))
        return {**self.index["values"][name], **({} if file is None else load_file(self.folder / file))}


def load(state: TrainState, folder: Path, *, settings: dict[str, Any]) -> None:
    """Restore the state from a checkpoint; one that is damaged or belongs to a different run is refused."""
    verified(folder).load(state, settings=settings)


def newest(output: Path) -> Saved | None:
    """The newest checkpoint of a run; damaged ones are skipped with a warning, unless all are damaged."""
    found = folders(output)
    for folder in reversed(found):
        try:
            return verified(folder)
        except (ValueError, OSError) as error:
            if folder == found[0]:
                raise
            log.warning("%s; trying an older one", error)
    return None


def check(folder: Path) -> dict[str, Any]:
    """The index of a checkpoint, after checking its format but not its files."""
    if not (folder / INDEX).is_file():
        raise ValueError(f"{folder} is no checkpoint: it has no {INDEX}")
    damaged = f"{folder / INDEX} is damaged or foreign"
    try:
        index = integrity.read(folder / INDEX)
    except ValueError as error:
        raise ValueError(f"{damaged}: {error}") from None
    if (version := index.get("format")) != FORMAT:
        raise ValueError(f"{folder} has the checkpoint format {version!r}, this version reads {FORMAT} only")

    def check_objects(parts: dict[str, Any]) -> None:
        for name, part in parts.items():
            if not isinstance(part, dict):
                raise ValueError(f"{damaged}: {name} is no object: {part!r:.100}")

    check_objects({name: index.get(name) for name in ("settings", "values", "files", "tensors")})
    check_objects(index["values"])
    checks.whole(f"{damaged}: step", index.get("step"), least=0)  # type: ignore[arg-type]
    return index


def verified(folder: Path) -> Saved:
    """A checkpoint, after verifying the hash of every file."""
    index = check(folder)
    integrity.verify(folder, index["files"])
    return Saved(folder, index)
