"""What allocation can gain over the regions of a run, from the files in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from aria import partitioners
from aria.regular import LOG, is_there, own, read_text, regular
from theory.assumptions import Array
from theory.log import Log, LogError, VisitTable
from theory.worth_estimate import NotEnough, Worth, estimate

DISCREPANCIES, LOSSES, PARTITION = "discrepancies.jsonl", "losses.jsonl", "partition.safetensors"
NO_LOSS = ("step", "lr", "steps_per_second")
"""Entries of a line of losses that are no term of the loss."""
UNKNOWN = (NotEnough, LogError, FileNotFoundError)
"""What :func:`of_run` raises if the log does not tell, or is not there."""


def of_run(path: Path, *, exponent: float | None = None, transfer: float | None = None) -> tuple[Worth, list[str]]:
    """The estimate from a run's folder or from a log, and notes about it.

    The losses and the partition are those in the folder, if it has them.
    """
    log = own(path, DISCREPANCIES) if path.is_dir() else regular(path)
    folder, notes = log.parent, []
    mass = losses = None
    if is_there(folder / PARTITION):
        mass = partitioners.load(own(folder, PARTITION)).mass.numpy()
    else:
        notes.append("without a partition beside the log, all regions count the same")
    if is_there(folder / LOSSES):
        losses = _losses(own(folder, LOSSES))
    parts = list(Log(log).visits())
    visits = VisitTable(*(np.concatenate(columns) for columns in zip(*parts)))
    if mass is not None and int(visits.region.max()) >= len(mass):
        raise LogError(f"{log} has region {int(visits.region.max())}, its partition only {len(mass)} regions")
    worth = estimate(visits, mass, losses, exponent=exponent, transfer=transfer)
    if worth.seen < 0.995:
        notes.append(f"these regions have {100 * worth.seen:.0f} % of the pool; the others were drawn too rarely")
    return worth, notes


def _losses(file: Path) -> tuple[Array, Array]:
    """Steps and sums of the loss terms; an incomplete last line, which was being written, is left out."""
    steps, values = [], []
    *lines, last = read_text(file, most=LOG).split("\n")
    for number, line in enumerate([*lines, last] if last else lines, 1):
        try:
            row = json.loads(line)
            terms = [float(value) for name, value in row.items() if name not in NO_LOSS]
            steps.append(float(row["step"]))
            values.append(sum(terms))
        except (ValueError, KeyError, TypeError, AttributeError):
            if number <= len(lines):
                raise LogError(f"{file.name} line {number} is not a line of losses") from None
    return np.array(steps), np.array(values)
