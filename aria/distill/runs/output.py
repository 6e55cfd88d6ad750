"""The folder of a run: one run at a time, and in the end a whole pipeline."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aria import files

_LOCK, _INDEX, _PART = ".lock", "model_index.json", ".pipeline.part"
_WRITTEN = (_INDEX, "config.json", "README.md", "losses.jsonl")
"""Some of what a run writes in its folder, one at least of which is in any folder of models."""


def check_own(output: Path) -> None:
    """Refuse a folder whose files a run would write over although no run made them: a teacher's, say."""
    if (output / _LOCK).exists() or any(output.glob("checkpoint-*/state.json")):
        return
    if taken := [name for name in _WRITTEN if (output / name).exists()]:
        raise ValueError(f"{output} is no folder of a run and has a {taken[0]}: choose another output folder")


@contextmanager
def locked(output: Path, mine: bool = True) -> Iterator[None]:
    """The folder for one run alone; the system frees it when the process ends, however it ends.

    Of several ranks only the first locks it (``mine``). A run that was refused before it wrote anything leaves none.
    """
    if not mine:
        yield
        return
    new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    try:
        file = files.lock(output / _LOCK)
    except BlockingIOError:
        raise ValueError(f"another run is writing to {output}; wait for it or choose another folder") from None
    with file:
        try:
            yield
        finally:
            if new and output.is_dir() and [entry.name for entry in output.iterdir()] == [_LOCK]:
                (output / _LOCK).unlink()
                output.rmdir()


def deliver(
    pipeline: Any, component: str, model: Any, output: Path, card: str, *, prediction: str | None = None
) -> None:
    """Write the teacher's pipeline with the student in its place, and with a scheduler for what the student predicts.

    ``model_index.json`` comes last, so that a folder that opens is a whole one.
    """
    part = output / _PART
    shutil.rmtree(part, ignore_errors=True)
    now = {component: model}
    if prediction is not None:
        now["scheduler"] = type(pipeline.scheduler).from_config(pipeline.scheduler.config, prediction_type=prediction)
    before = {name: getattr(pipeline, name) for name in now}
    try:
        pipeline.register_modules(**now)
        with files.system_errors(part):
            pipeline.save_pretrained(part)
    finally:
        pipeline.register_modules(**before)
    _forget_places(part)
    (part / "README.md").write_text(card, encoding="utf-8")
    files.flush(part)
    (output / _INDEX).unlink(missing_ok=True)
    for entry in sorted(part.iterdir(), key=lambda entry: entry.name == _INDEX):
        target = output / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(entry, target)
    files.sync(output)
    part.rmdir()


def _forget_places(part: Path) -> None:
    """Take the names of this machine's folders out of the configurations of what is delivered."""
    for path in part.glob("*/config.json"):
        told = json.loads(path.read_text(encoding="utf-8"))
        if Path(told.get("_name_or_path") or "").is_absolute():
            del told["_name_or_path"]
            files.write_json(path, told)
