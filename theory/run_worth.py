"""What allocation can gain over the regions of a run, from the files in its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aria import partitioners, run_log
from aria.regular import is_there, own, regular
from aria.run_log import DISCREPANCIES, LOSSES, PARTITION
from theory.assumptions import Array
from theory.log import Log, LogError, VisitTable
from theory.worth_estimate import NotEnough, Worth, estimate

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
    """Steps and sums of the loss terms."""
    rows = run_log.read_losses(file)
    terms = run_log.terms(rows)
    return np.array([row["step"] for row in rows]), np.array([sum(row[term] for term in terms) for row in rows])
