"""What the folder of a run holds, read without touching it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aria import files
from aria.distill.data.encode import PROMPTS
from aria.distill.runs.callbacks import lines
from aria.distill.runs.callbacks.grids import FOLDER, VALIDATION
from aria.distill.runs.callbacks.log import DISCREPANCIES, LOSSES
from aria.partitioners import Fitted, describe, load
from aria.pool import Pool

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Region:
    """One region, for people."""

    region: int
    name: str
    size: int
    mass: float
    words: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its number and what says most about it in a few letters."""
        said = " ".join(self.words[:3]) or self.name
        return f"{self.region}: {said if len(said) <= 30 else said[:29] + '…'}"


@dataclass(frozen=True, eq=False)
class Seen:
    """What was logged of each region, in ``T`` stretches of the run."""

    step: Array
    """(T + 1,) the steps between which a stretch lies."""
    n: Array
    """(T, K) samples."""
    mean: Array
    """(T, K) their mean discrepancy, NaN where there are none."""
    q: Array
    """(T, K) the mean probability with which a region was drawn when it was logged, NaN where it was not."""

    @property
    def samples(self) -> Array:
        """(K,) of each region in the whole run."""
        return np.asarray(self.n.sum(0))

    def visited(self) -> Array:
        """(T,) how many regions have been seen by the end of each stretch."""
        return np.asarray((self.n.cumsum(0) > 0).sum(1), dtype=np.float64)

    def at(self, last: bool) -> Array:
        """(K,) the first or last mean discrepancy of each region, NaN where it was never seen."""
        known = ~np.isnan(self.mean)
        known = known[::-1] if last else known
        place = known.argmax(0)
        place = len(known) - 1 - place if last else place
        return np.asarray(self.mean[place, np.arange(self.mean.shape[1])])


class Record:
    """A run by its folder. What is not there yet is empty; a last line that is torn is left out."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "config.json"
        if not path.is_file():
            raise ValueError(f"{folder} is no folder of a run: it has no config.json")
        try:
            self.sections: dict[str, dict[str, Any]] = files.read_json(path)
            self.settings = {name: value for section in self.sections.values() for name, value in section.items()}
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path} holds no settings of a run: {error}") from None
        self.losses = lines.read(self.folder / LOSSES)
        self.validation = lines.read(self.folder / VALIDATION)
        self.grids = sorted((self.folder / FOLDER).glob("step-*.png"))

    @property
    def terms(self) -> list[str]:
        """The terms of the loss."""
        others = {"step", "lr", "steps_per_second"}
        return [name for name in self.losses[0] if name not in others] if self.losses else []

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return int(self.losses[-1]["step"]) if self.losses else 0

    @property
    def finished(self) -> bool:
        """Whether the run came to its end and its pipeline was written."""
        done = self.step >= self.settings.get("max_train_steps", 0)
        return done and (self.folder / "model_index.json").is_file()

    @cached_property
    def quantised(self) -> dict[str, Any] | None:
        """What `aria quantise` measured, if it was run."""
        path = self.folder / "quantised" / "quantisation.json"
        return files.read_json(path) if path.is_file() else None

    @property
    def outdated(self) -> bool:
        """Whether what `aria quantise` measured is another student than the one that is here now."""
        from aria.distill.models.pipelines import digest

        here = digest(self.folder) if (self.folder / "model_index.json").is_file() else None
        return self.quantised is not None and (here is None or self.quantised.get("student") != here)

    @cached_property
    def partition(self) -> Fitted | None:
        """The regions, once there are any."""
        path = self.folder / "partition.safetensors"
        return load(path) if path.is_file() else None

    @cached_property
    def pool(self) -> Pool | str:
        """The conditions that were divided, or why they are not at hand."""
        cache = Path(self.settings.get("cache_dir") or self.folder / "cache")
        if not (cache / "conditions" / PROMPTS).is_file():
            return f"the run's cache is not at {cache.name}"
        from aria.distill.data import Conditions

        pool = Conditions(cache / "conditions", residency="disk").pool()
        wanted = self.partition.members.size if self.partition is not None else len(pool)
        if len(pool) != wanted:
            return f"the cache now holds {len(pool)} prompts, the run divided {wanted}"
        return pool

    @cached_property
    def regions(self) -> list[Region]:
        """The regions in words, as far as the prompts are at hand."""
        import torch

        from aria.distill.data.words import typical_words

        if self.partition is None:
            return []
        partition, pool = self.partition, self.pool
        everything = torch.arange(partition.num_regions)
        cells, sizes = partition.cell(everything).tolist(), partition.members.count().tolist()
        if isinstance(pool, str):
            named = enumerate(zip(partition.names(), partition.mass.tolist(), strict=True))
            return [Region(k, name, sizes[cells[k]], mass) for k, (name, mass) in named]
        words = typical_words(pool.texts or (), partition.members.row.tolist(), partition.members.rows)
        return [
            Region(one.region, one.name, one.size, one.mass, tuple(words[cells[one.region]]), one.texts)
            for one in describe(partition, pool, nearest=3)
        ]

    def seen(self, stretches: int = 120) -> Seen | None:
        """What was logged of the regions, in at most so many stretches; none where nothing was."""
        rows = lines.read(self.folder / DISCREPANCIES)
        if not rows or self.partition is None:
            return None
        region = np.array([row["region"] for row in rows])
        if region.max() >= self.partition.num_regions:
            known = self.partition.num_regions
            raise ValueError(f"{self.folder / DISCREPANCIES} names region {region.max()}, the run has {known} regions")
        logged, place = np.unique([row["step"] for row in rows], return_inverse=True)
        edges = np.unique(np.linspace(0, len(logged), min(stretches, len(logged)) + 1).round().astype(int))
        stretch = np.searchsorted(edges, place, side="right") - 1
        shape = len(edges) - 1, self.partition.num_regions

        def added(name: str, weight: Array | None = None) -> Array:
            total = np.zeros(shape)
            values = np.array([row[name] for row in rows], dtype=np.float64)
            np.add.at(total, (stretch, region), values if weight is None else values * weight)
            return total

        count = np.zeros(shape)
        np.add.at(count, (stretch, region), 1.0)
        n = added("n")
        weight = np.array([row["n"] for row in rows], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            mean, q = added("mean", weight) / n, added("q") / count
        step = np.concatenate([[0.0], logged.astype(np.float64)[edges[1:] - 1]])
        return Seen(step, n, mean, q)
