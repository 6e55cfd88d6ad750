"""The content of a run's folder, read without changing it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aria import fields, run_log
from aria.distill.data.encode import PROMPTS
from aria.distill.runs import regions
from aria.distill.runs.callbacks.grids import FILMS, FOLDER, VALIDATION
from aria.fields import NUMBER, POSITIVE, TEXT, WHOLE, Field, each, record
from aria.partitioners import Fitted, describe, load
from aria.pool import Pool
from aria.regular import is_there, own, read_bytes, read_object, regular
from aria.run_log import DISCREPANCIES, LOSSES
from aria.text import shown

Array = NDArray[np.float64]
CONFIG, INDEX = "config.json", "model_index.json"
QUANTISED = ("quantised", "quantisation.json")
PNG, WEBP = re.compile(re.escape(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")), re.compile(rb"RIFF....WEBP", re.DOTALL)
"""How every PNG and every WebP file begins."""
PICTURE = 64 << 20
"""The most bytes of one that is embedded."""
GRID = re.compile(r"step-([0-9]{1,15})\.png")
CELLS = 1 << 22
"""Regions times intervals of a run's heat map: with many regions there are fewer intervals."""

_SCALAR = Field(lambda value: value is None or isinstance(value, str | int | float), "text, a number or a flag")
_SEVERAL = each(_SCALAR, of="texts, numbers or flags")
SETTING = Field(lambda value: _SCALAR.is_met(value) or _SEVERAL.is_met(value), f"{_SCALAR.says}, or a list of them")
COUNTS = {"max_train_steps": WHOLE, "train_batch_size": POSITIVE, "gradient_accumulation_steps": POSITIVE}
"""The settings that a page computes with."""
CACHE = Field(lambda value: value is None or isinstance(value, str), "a folder or null")
_BOTH = {"before": NUMBER, "after": NUMBER}
_REGION = record({"region": WHOLE, "n": WHOLE, **_BOTH})
MEASURED = {
    "bytes": record(_BOTH), "discrepancy": record(_BOTH), "samples": WHOLE, "student": TEXT,
    "regions": each(_REGION, of="objects with region, n, before and after"),
}  # fmt: skip
"""What `aria quantise` measured."""
DIVIDED = {"prompts": WHOLE, "texts": TEXT}
"""Which prompts the regions of a run divide."""


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
        words = shown(" ".join(self.words[:3]) or self.name)
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

    @cached_property
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
    """A run, read from its folder. Missing files count as empty; an incomplete last line is left out.

    The folder may come from someone else, and the page may be given to others. So only regular files inside the folder
    are read: a link could put any file of the reader's on the page. A log or a record that is none is refused.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self._own(CONFIG)
        if path is None:
            raise ValueError(f"{folder} is no folder of a run: it has no {CONFIG}")
        self.sections: dict[str, dict[str, Any]] = _sections(path)
        self.settings = {name: value for section in self.sections.values() for name, value in section.items()}
        fields.check(f"{path} does not hold the settings of a run", self.settings, COUNTS | {"cache_dir": CACHE},
                     optional={*COUNTS, "cache_dir"})  # fmt: skip
        losses, validation = self._own(LOSSES), self._own(VALIDATION)
        self.losses = run_log.read_losses(losses) if losses else []
        self.validation = run_log.read(validation, run_log.GAP) if validation else []

    def _own(self, *names: str) -> Path | None:
        """The path of a file in the run's folder, if it is there; a link or a device in its place is refused."""
        return own(self.folder, *names) if is_there(self.folder.joinpath(*names)) else None

    @property
    def linked(self) -> bool:
        """Whether the folder of the images is a link; nothing in it is this run's then."""
        return (self.folder / FOLDER).is_symlink()

    @cached_property
    def grids(self) -> list[tuple[int, Path]]:
        """The steps of the validation images and their files, in order, for :meth:`grid`."""
        if self.linked:
            return []
        named = ((GRID.fullmatch(path.name), path) for path in (self.folder / FOLDER).glob("step-*.png"))
        return sorted((int(found[1]), path) for found, path in named if found)

    def grid(self, path: Path) -> bytes | str:
        """A validation image, or the reason why it is left out: the rest of the page does not depend on it, so what is
        no PNG file of this run is named there and no obstacle."""
        return self._picture(path, PNG, "PNG")

    def film(self, path: Path) -> bytes | str | None:
        """The film of a validation image of videos, or the reason why it is left out; None where there is none."""
        film = path.with_suffix(FILMS)
        return self._picture(film, WEBP, "WebP") if is_there(film) else None

    def _picture(self, path: Path, begins: re.Pattern[bytes], kind: str) -> bytes | str:
        """A file of pictures in the run's folder, or the reason why it is none."""
        try:
            data = read_bytes(own(self.folder, FOLDER, path.name), most=PICTURE)
        except (ValueError, OSError) as error:
            return str(error)
        return data if begins.match(data) else f"{path} is no {kind} file"

    @property
    def terms(self) -> list[str]:
        """The terms of the loss."""
        return run_log.terms(self.losses)

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
        path = self._own(*QUANTISED)
        return fields.check(str(path), read_object(path, most=64 << 20), MEASURED) if path else None

    @property
    def outdated(self) -> bool:
        """Whether `aria quantise` measured another student than the one in the folder now."""
        from aria.distill.models.pipelines import digest, weights_of

        if self.quantised is None:
            return False
        if self._own(INDEX) is None:
            return True
        for path in weights_of(self.folder):
            own(self.folder, *path.relative_to(self.folder).parts)
        return bool(self.quantised["student"] != digest(self.folder))

    @cached_property
    def partition(self) -> Fitted | None:
        """The partition, once there is one."""
        path = self._own(regions.FILE)
        return load(path) if path else None

    @cached_property
    def pool(self) -> Pool | str:
        """The conditions that were partitioned, or the reason why they are not available."""
        given = self.settings.get("cache_dir")
        cache = Path(given or self.folder / "cache")
        if not (cache / "conditions" / PROMPTS).is_file():
            return f"the run's cache is not at {cache.name}"
        from aria.distill.data import Conditions

        try:
            for path in (cache / "conditions").iterdir():
                regular(path) if given else own(self.folder, "cache", "conditions", path.name)
            if made := self._own(regions.PROMPTS):
                fields.check(str(made), read_object(made), DIVIDED)
            conditions = Conditions(cache / "conditions", residency="disk")
            if self.partition is not None:
                regions.check_prompts(self.folder, conditions.prompts.texts)
        except ValueError as error:
            return str(error)  # the page says it in place of the prompts
        pool, partition = conditions.pool(), self.partition
        if partition is not None and partition.members.size != len(pool):
            return f"the run's cache holds {len(pool)} prompts, its regions divide {partition.members.size}"
        return pool

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
        path = self._own(DISCREPANCIES)
        rows = run_log.read(path, run_log.REGION) if path else []
        if not rows or self.partition is None:
            return None
        intervals = max(1, min(intervals, CELLS // self.partition.num_regions))
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
        mean = np.where(np.isfinite(mean), mean, np.nan)  # a loss that was infinite is as unknown as none
        step = np.concatenate([[0.0], logged.astype(np.float64)[edges[1:] - 1]])
        return Seen(step, n, mean, q)


def _sections(path: Path) -> dict[str, dict[str, Any]]:
    """The settings of a run, section by section."""
    where = f"{path} does not hold the settings of a run"
    try:
        sections = read_object(path)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise ValueError(f"{where}: {shown(name)} must be a section of settings, got {fields.short(section)}")
        fields.check(f"{where}: {name}", section, dict.fromkeys(section, SETTING))
    return sections
