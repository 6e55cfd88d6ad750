r"""Choosing the blocks of a transformer that stay, by number alone or by measuring the teacher.

- ``position``: the first, the last and others evenly between them.
- ``similarity``: blocks whose output is most similar to their input go, by the mean cosine over all tokens (X. Men et
  al., "ShortGPT: Layers in large language models are more redundant than you expect", arXiv 2403.03853; E. Xie et al.,
  "SANA 1.5", arXiv 2501.18427).
- ``recoverability``: blocks go without which the model's output stays closest to the teacher's after a short repair, a
  linear map of each stream in the block's place (:mod:`.repair`). One block goes at a time, its map stays in its place,
  and the others are measured again. Maps are fitted on one half of the images and measured on the other.

Errors are relative, :math:`\lVert f(x) - f'(x)\rVert^2 / \lVert f(x)\rVert^2` over all samples, of the raw output.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from aria import checks
from aria.distill.students.config import Config
from aria.distill.students.transformer.blocks import evenly
from aria.distill.students.transformer.family import Family
from aria.distill.students.transformer.measurement import LEVELS, Measurement, Sample
from aria.distill.students.transformer.probe import Place, Probe, probed
from aria.progress import Report

By = Literal["position", "similarity", "recoverability"]
RULES = get_args(By)


@dataclass(frozen=True)
class Choice:
    """The blocks that stay, by the list they are in, and what was found about all of them."""

    kept: dict[str, list[int]]
    record: dict[str, Any]


@dataclass(frozen=True)
class Counts:
    """How many blocks of each list there are, how many stay, and the one that has to."""

    total: dict[str, int]
    keep: dict[str, int]
    stays: Place | None

    @classmethod
    def of(cls, family: Family, config: Config, keep: int | None, keep_single: int | None) -> Counts:
        """Those of a model, if it has as many; all blocks of a list stay for which there is no number."""
        model = family.model.__name__
        total = {"blocks": config[family.layers]}
        if singles := config.get(family.single_layers, 0):
            total["single_blocks"] = singles
        elif keep_single is not None:
            raise ValueError(f"keep_single is for transformers with single_transformer_blocks; this {model} has none")
        given = {"blocks": ("keep", keep), "single_blocks": ("keep_single", keep_single)}
        numbers = {}
        for name, count in total.items():
            option, wanted = given[name]
            numbers[name] = count if wanted is None else wanted
            checks.whole(option, numbers[name])
            if not 1 <= numbers[name] <= count:
                what = name.replace("_", " ")
                raise ValueError(f"{option} must lie between 1 and the {count} {what} of this {model}, got {wanted}")
        stays = None if family.stays is None else ("blocks", range(total["blocks"])[family.stays])
        return cls(total, numbers, stays)

    def surplus(self, gone: Iterable[Place]) -> dict[str, int]:
        """How many more have to go from each list."""
        left = {name: self.total[name] - self.keep[name] for name in self.total}
        for name, _ in gone:
            left[name] -= 1
        return left

    def kept(self, gone: Iterable[Place]) -> dict[str, list[int]]:
        """Those that stay if these are gone."""
        gone = set(gone)
        return {name: [n for n in range(total) if (name, n) not in gone] for name, total in self.total.items()}


def by_position(counts: Counts) -> Choice:
    """Evenly spaced blocks; of one, that which has to stay, or the first."""
    kept = {}
    for name, keep in counts.keep.items():
        alone = counts.stays[1] if counts.stays is not None and counts.stays[0] == name else 0
        kept[name] = [alone] if keep == 1 else list(evenly(keep, counts.total[name]))
    return Choice(kept, {"by": "position"})


def by_measuring(family: Family, counts: Counts, by: By, sample: Sample, how: Measurement) -> Choice:
    """The blocks that a measured rule keeps, with what was measured of each."""
    with probed(sample.model, family) as probes:
        bench = _Bench(sample, probes)
        errors: dict[Place, tuple[float, float]] = {}
        repaired = None
        if by == "similarity":
            gone = _most_similar(probes, counts)
        else:
            with how.bar("blocks") as progress:
                gone, errors = _least_missed(bench, counts, how.one_pass, progress)
            repaired = bench.error()
        for place in gone:
            probes[place].how = "skip"
        rows = [
            {
                "list": name,
                "block": number,
                "error_skipped": errors.get((name, number), (None, None))[0],
                "error_repaired": errors.get((name, number), (None, None))[1],
                "similarity": probes[name, number].similarity if (name, number) in probes else None,
                "removed": gone.index((name, number)) + 1 if (name, number) in gone else None,
            }
            for name, total in counts.total.items()
            for number in range(total)
        ]
        found: dict[str, Any] = {"by": by, "images": sample.images, "levels": LEVELS, "one_pass": how.one_pass}
        found |= {"student_error": bench.error(), "student_error_repaired": repaired, "rows": rows}
    return Choice(counts.kept(gone), found)


def _most_similar(probes: Mapping[Place, Probe], counts: Counts) -> list[Place]:
    """As many blocks of each list as have to go, the most similar first."""
    gone: list[Place] = []
    for place in sorted(probes, key=lambda place: -probes[place].similarity):
        if counts.surplus(gone)[place[0]]:
            gone.append(place)
    return gone


def _least_missed(
    bench: _Bench, counts: Counts, one_pass: bool, progress: Report
) -> tuple[list[Place], dict[Place, tuple[float, float]]]:
    """The blocks that go, in order, each of them repaired; and of every block the errors of the teacher that lacks it
    alone, skipped and repaired."""
    gone: list[Place] = []
    errors = first = {place: bench.measured(place) for place in _reporting(list(bench.probes), progress)}
    while left := [place for place in errors if place not in gone and counts.surplus(gone)[place[0]]]:
        if gone and not one_pass:
            errors = {place: bench.measured(place) for place in _reporting(left, progress)}
        gone.append(min(left, key=lambda place: errors[place][1]))
        bench.replace(gone[-1])
    return gone, first


def _reporting(places: Sequence[Place], progress: Report) -> Iterator[Place]:
    """The blocks of one round."""
    for done, place in enumerate(places):
        progress(done, len(places))
        yield place
    progress(len(places), len(places))


class _Bench:
    """Measures a model whose blocks are probed against its own outputs."""

    def __init__(self, sample: Sample, probes: Mapping[Place, Probe]) -> None:
        self.sample, self.probes = sample, probes
        for probe in probes.values():
            probe.how = "watch"
        self._targets = list(self._outputs())
        for probe in probes.values():
            probe.how = "run"
        self._power = sum(float(target.double().square().sum()) for target in self._targets)
        if not self._power or not math.isfinite(self._power):
            raise ValueError(f"{self._model} cannot be measured: its outputs are {'not finite' if self._power else 0}")

    @property
    def _model(self) -> str:
        return f"this {type(self.sample.model).__name__}, in {str(self.sample.model.dtype).removeprefix('torch.')},"

    @torch.no_grad()
    def _outputs(self) -> Iterator[Tensor]:
        """(B, …) the model's output for each batch."""
        for batch in self.sample.batches:
            for probe in self.probes.values():
                probe.passing = batch.half
            yield self.sample.evaluate(self.sample.model, batch.noisy, batch.timestep, batch.condition).float()

    def error(self) -> float:
        """How far the outputs are now from the teacher's."""
        pairs = zip(self._outputs(), self._targets, strict=True)
        error = sum(float((output - target).double().square().sum()) for output, target in pairs) / self._power
        if not math.isfinite(error):
            raise ValueError(f"{self._model} cannot be measured: without some blocks its outputs are not finite")
        return error

    def replace(self, place: Place) -> float:
        """Put a linear map in the place of a block; the error while the block is skipped."""
        self.probes[place].fit()
        error = self.error()
        self.probes[place].repair()
        return error

    def measured(self, place: Place) -> tuple[float, float]:
        """The errors when a block is skipped and when a map is in its place; the block is there afterwards."""
        found = self.replace(place), self.error()
        self.probes[place].restore()
        return found
