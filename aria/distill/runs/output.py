"""The output folder of a run: its lock, and the finished pipeline."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aria import files, integrity

LOCK = ".run-lock"
"""The lock in a run's folder, by which it is known as one; the folder may be a cache as well, which has its own."""
HASHES = "hashes.json"
"""The hash of every file of the finished pipeline but its card."""
_INDEX, _PART = "model_index.json", ".pipeline.part"
_WRITTEN = (_INDEX, "config.json", "README.md", "losses.jsonl")
"""Files that a run writes into its folder; any folder of models has at least one of them."""


def check_own(output: Path) -> None:
    """Refuse a folder with files that a run would overwrite although no run wrote them, such as a teacher's, and one
    with links, through which it would write elsewhere."""
    files.refuse_links(output)
    if (output / LOCK).exists() or any(output.glob("checkpoint-*/state.json")):
        return
    if taken := [name for name in _WRITTEN if (output / name).exists()]:
        raise ValueError(f"{output} is no folder of a run and has a {taken[0]}: choose another output folder")


@contextmanager
def locked(output: Path, first: bool = True) -> Iterator[None]:
    """Create and lock the folder of a run. The system releases the lock when the process ends, however it ends.

    Only the ``first`` of several ranks locks it. A run that is refused before it writes anything leaves no folder.
    """
    if not first:
        yield
        return
    with ExitStack() as held:
        try:
            held.enter_context(files.locked_folder(output, LOCK))
        except BlockingIOError:
            raise ValueError(f"another run is writing to {output}; wait for it or choose another folder") from None
        yield


def verify(run: Path) -> None:
    """Refuse a finished pipeline in which a file is not what was written."""
    if not (run / HASHES).is_file():
        raise ValueError(f"{run} has no {HASHES}")
    hashes = integrity.read(run / HASHES).get("files")
    if not isinstance(hashes, dict):
        raise ValueError(f"{run / HASHES} lists no files")
    integrity.verify(run, hashes)


def deliver(
    pipeline: Any, component: str, model: Any, output: Path, card: str, *, prediction: str | None = None
) -> None:
    """Write the teacher's pipeline with the student in its place, and a scheduler for the student's ``prediction``.

    ``model_index.json`` is written last, so that an incomplete folder does not open.
    """
    part = output / _PART
    shutil.rmtree(part, ignore_errors=True)
    replaced = {component: model}
    if prediction is not None:
        scheduler = pipeline.scheduler
        replaced["scheduler"] = type(scheduler).from_config(scheduler.config, prediction_type=prediction)
    before = {name: getattr(pipeline, name) for name in replaced}
    _as_opened(pipeline)
    try:
        pipeline.register_modules(**replaced)
        with files.system_errors(part):
            pipeline.save_pretrained(part)
    finally:
        pipeline.register_modules(**before)
    _remove_local_paths(part)
    integrity.write(part / HASHES, {"files": integrity.hashes(part)})
    (part / "README.md").write_text(card, encoding="utf-8")  # without a hash: it may be edited
    files.flush(part)
    last = [part / HASHES, part / _INDEX]
    for entry in last:
        (output / entry.name).unlink(missing_ok=True)
    for entry in [*(entry for entry in part.iterdir() if entry not in last), *last]:
        target = output / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(entry, target)
    files.sync(output)
    part.rmdir()


def _as_opened(pipeline: Any) -> None:
    """Forget the padding and truncation that the last encoded prompts left set, which tokenizers would save."""
    for part in pipeline.components.values():
        if getattr(part, "is_fast", False):
            part.backend_tokenizer.no_padding()
            part.backend_tokenizer.no_truncation()


def _remove_local_paths(part: Path) -> None:
    """Remove absolute paths of this machine from the configurations of the pipeline and its models."""
    for path in [part / _INDEX, *part.glob("*/config.json")]:
        config = json.loads(path.read_text(encoding="utf-8"))
        if Path(config.get("_name_or_path") or "").is_absolute():
            del config["_name_or_path"]
            files.write_json(path, config)
