"""Whether the files of a run are still what was written: its checkpoints, partition, pipeline and cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from aria import files, partitioners
from aria.distill.data import Conditions
from aria.distill.data.latents import Latents
from aria.distill.runs import checkpoint, output, regions

CACHE = "cache"


class Verified(NamedTuple):
    """One part of a run."""

    name: str
    fault: str | None
    """What is wrong with it; None if every file has its hash."""


def verify(run: Path) -> Iterator[Verified]:
    """Every part of a run that is there, with what is wrong with it. Logs and reports have no hashes."""
    files.refuse_links(run)
    parts: dict[str, Callable[[], Any]] = {}
    for folder in checkpoint.folders(run):
        parts[folder.name] = partial(checkpoint.verified, folder)
    if (run / regions.FILE).exists():
        parts["partition"] = lambda: partitioners.load(run / regions.FILE)
    if (run / "model_index.json").exists():
        parts["pipeline"] = lambda: output.verify(run)
    if (cache := _cache(run)).is_dir():
        parts["cache: conditions"] = lambda: Conditions(cache / "conditions", residency="disk")
        if (cache / "latents").is_dir():
            parts["cache: images"] = lambda: Latents(cache / "latents", residency="disk")
    for name, check in parts.items():
        yield Verified(name, _fault(check))


def _fault(check: Callable[[], Any]) -> str | None:
    try:
        check()
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _cache(run: Path) -> Path:
    """Where the settings of a run say that its cache is."""
    if not (run / "config.json").is_file():
        return run / CACHE
    data = files.read_json(run / "config.json").get("data")
    elsewhere = data.get("cache_dir") if isinstance(data, dict) else None
    return Path(elsewhere) if isinstance(elsewhere, str) else run / CACHE
