"""Whether the files of a run are still what was written: its checkpoints, partition, pipeline and cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from aria import files, partitioners
from aria.distill.data import Conditions
from aria.distill.data.latents import IMAGES, SAMPLES, SERVED, Latents
from aria.distill.data.store import Store
from aria.distill.runs import checkpoint, output, regions
from aria.regular import is_there, read_object, regular
from aria.tensor_files import carries_hash, map_tensors

CACHE = "cache"


class Verified(NamedTuple):
    """One part of a run."""

    name: str
    fault: str | None
    """What is wrong with it; None if every file has its hash."""


def verify(run: Path) -> Iterator[Verified]:
    """Every part of a run that is there, or that its settings name, with what is wrong with it.

    A run that is going on, and a cache that is being filled, are refused; meanwhile no other can begin. Settings,
    records, logs, images, reports, the model card and quantised models have no hashes.
    """
    files.refuse_links(run)
    cache, is_named = _cache(run)
    with ExitStack() as locks:
        _lock(locks, run / output.LOCK, f"a run is writing to {run}: wait until it ends")
        _lock(locks, cache / files.FOLDER_LOCK, f"another process is filling {cache}: wait until it ends")
        for name, check in _parts(run, cache, is_named).items():
            yield Verified(name, _fault(check))


def _parts(run: Path, cache: Path, is_named: bool) -> dict[str, Callable[[], Any]]:
    parts: dict[str, Callable[[], Any]] = {}
    for folder in checkpoint.folders(run):
        parts[folder.name] = partial(checkpoint.verified, folder)
    if is_there(run / regions.FILE):
        parts["partition"] = lambda: _verify_partition(run / regions.FILE)
    if is_there(run / "model_index.json") or is_there(run / output.HASHES):
        parts["pipeline"] = lambda: output.verify(run)
    if cache.is_dir():
        parts["cache: conditions"] = lambda: Conditions(cache / "conditions", residency="disk")
        for name in (SAMPLES, IMAGES):
            if (cache / "latents" / name).is_dir():
                parts[f"cache: {name}"] = partial(_verify_images, cache / "latents" / name)
    elif is_named:
        parts["cache"] = lambda: _refuse(f"there is no cache at {cache}")
    return parts


def _verify_partition(path: Path) -> None:
    """Refuse a damaged partition; its kind, which may be someone's own, need not be known."""
    if carries_hash(regular(path)):
        map_tensors(path)
    else:
        partitioners.load(path)  # as earlier versions wrote it


def _verify_images(folder: Path) -> None:
    """Refuse damaged images of one source, of which none may be served with the prompts that there are now."""
    store = Store(folder)
    if not (folder / SERVED).is_file() or len(map_tensors(folder / SERVED)[0].get("row", store)):
        Latents(folder, residency="disk")


def _refuse(why: str) -> None:
    raise ValueError(why)


def _fault(check: Callable[[], Any]) -> str | None:
    try:
        check()
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _lock(locks: ExitStack, path: Path, refusal: str) -> None:
    """Hold a lock that is there; in a folder that can only be read nobody is expected to write."""
    if not path.is_file():
        return
    try:
        locks.enter_context(files.lock(path))
    except BlockingIOError:
        raise ValueError(refusal) from None
    except OSError as error:
        if error.errno not in files.CLOSED:
            raise


def _cache(run: Path) -> tuple[Path, bool]:
    """Where the settings of a run say that its cache is, and whether they do."""
    if not is_there(run / "config.json"):
        return run / CACHE, False
    data = read_object(run / "config.json").get("data")
    elsewhere = data.get("cache_dir") if isinstance(data, dict) else None
    return (Path(elsewhere), True) if isinstance(elsewhere, str) else (run / CACHE, False)
