"""The content of a run's folder, read without changing it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aria import files
from aria.distill.data.encode import PROMPTS
from aria.distill.runs import regions
from aria.distill.runs.callbacks import lines
from aria.distill.runs.callbacks.grids import FOLDER, VALIDATION
from aria.distill.runs.callbacks.log import DISCREPANCIES, LOSSES
from aria.partitioners import Fitted, describe, load
from aria.pool import Pool

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Region:
    """One region as a reader of the page sees it."""

    region: int
    name: str
    size: int
    mass: float
    words: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its number and a few letters that describe it best."""
        words = " ".join(self.words[:3]) or self.name
        return f"{self.region}: {words if len(words) <= 30 else words[:29] + '…'}"


@dataclass(frozen=True, eq=False)
class Seen:
    """The log of each region, in ``T`` intervals of the run."""

    step: Array
    """(T + 1,) the steps at which intervals begin and end."""
    n: Array
    """(T, K) number of samples."""
    mean: Array
    """(T, K) their mean discrepancy, NaN without samples."""
    q: Array
    """(T, K) mean probability of drawing the region when it was logged, NaN where it was not."""

    @property
    def samples(self) -> Array:
        """(K,) number of samples of each region in the whole run."""
        return np.asarray(self.n.sum(0))

    def visited(self) -> Array:
        """(T,) how many regions have been seen by the end of each interval."""
        return np.asarray((self.n.cumsum(0) > 0).sum(1), dtype=np.float64)

    def at(self, last: bool) -> Array:
        """(K,) the first or last mean discrepancy of each region, NaN where it was never seen."""
        known = ~np.isnan(self.mean)
        known = known[::-1] if last else known
        place = known.argmax(0)
        place = len(known) - 1 - place if last else place
        return np.asarray(self.mean[place, np.arange(self.mean.shape[1])])


class Record:
    """A run, read from its folder. Missing files count as empty; an incomplete last line is left out."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "config.json"
        if not path.is_file():
            raise ValueError(f"{folder} is no folder of a run: it has no config.json")
        try:
            self.sections: dict[str, dict[str, Any]] = files.read_json(path)
            self.settings = {name: value for section in self.sections.values() for name, value in section.items()}
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path} does not hold the settings of a run: {error}") from None
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
        """Whether all steps were taken and the pipeline was written."""
        done = self.step >= self.settings.get("max_train_steps", 0)
        return done and (self.folder / "model_index.json").is_file()

    @cached_property
    def quantised(self) -> dict[str, Any] | None:
        """The measurements of `aria quantise`, if it was run."""
        path = self.folder / "quantised" / "quantisation.json"
        return files.read_json(path) if path.is_file() else None

    @property
    def outdated(self) -> bool:
        """Whether `aria quantise` measured another student than the one in the folder now."""
        from aria.distill.models.pipelines import digest

        here = digest(self.folder) if (self.folder / "model_index.json").is_file() else None
        return self.quantised is not None and (here is None or self.quantised.get("student") != here)

    @cached_property
    def partition(self) -> Fitted | None:
        """The partition, once there is one."""
        path = self.folder / regions.FILE
        return load(path) if path.is_file() else None

    @cached_property
    def pool(self) -> Pool | str:
        """The conditions that were partitioned, or the reason why they are not available."""
        cache = Path(self.settings.get("cache_dir") or self.folder / "cache")
        if not (cache / "conditions" / PROMPTS).is_file():
            return f"the run's cache is not at {cache.name}"
        from aria.distill.data import Conditions

        conditions = Conditions(cache / "conditions", residency="disk")
        try:
            if self.partition is not None:
                regions.check_prompts(self.folder, conditions.prompts.texts)
        except ValueError as error:
            return str(error)  # the page says it in place of the prompts
        return conditions.pool()

    @cached_property
    def regions(self) -> list[Region]:
        """The regions, described by their prompts if those are available."""
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

    def seen(self, intervals: int = 120) -> Seen | None:
        """The log of the regions in at most ``intervals`` intervals, None if it is empty."""
        rows = lines.read(self.folder / DISCREPANCIES)
        if not rows or self.partition is None:
            return None
        region = np.array([row["region"] for row in rows])
        if region.max() >= self.partition.num_regions:
            known = self.partition.num_regions
            raise ValueError(f"{self.folder / DISCREPANCIES} names region {region.max()}, the run has {known} regions")
        logged, place = np.unique([row["step"] for row in rows], return_inverse=True)
        edges = np.unique(np.linspace(0, len(logged), min(intervals, len(logged)) + 1).round().astype(int))
        interval = np.searchsorted(edges, place, side="right") - 1
        shape = len(edges) - 1, self.partition.num_regions

        def added(name: str, weight: Array | None = None) -> Array:
            total = np.zeros(shape)
            values = np.array([row[name] for row in rows], dtype=np.float64)
            np.add.at(total, (interval, region), values if weight is None else values * weight)
            return total

        count = np.zeros(shape)
        np.add.at(count, (interval, region), 1.0)
        n = added("n")
        weight = np.array([row["n"] for row in rows], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            mean, q = added("mean", weight) / n, added("q") / count
        step = np.concatenate([[0.0], logged.astype(np.float64)[edges[1:] - 1]])
        return Seen(step, n, mean, q)
