"""The most that allocation can gain, by the spread of the regions, and what the shipped rule gains of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from aria import plots
from aria.allocators import Proportional
from theory import bounds
from theory.figures.base import ALARM, Picture, Rows, column, replicas
from theory.learning_curves import LearningCurves, log_normal
from theory.verdict import mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

REGIONS, STEPS = 64, 300
SPREADS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3)
TRANSFERS = (0.0, 0.9)


def measure(seed: int, size: float) -> Rows:
    """Gains over equal shares in % for exponent .5, without transfer and with nine tenths of it."""
    mass, rows = np.full(REGIONS, 1 / REGIONS), []
    for spread in SPREADS:
        hard = tuple(float(x) for x in log_normal(REGIONS, spread))
        row = {"spread": spread}
        for transfer in TRANSFERS:
            world = LearningCurves((1,) * REGIONS, hard, transfer=transfer, batch=256, steps=STEPS)
            level = world.discrepancy(mass)
            gains = [100 * (1 - world.left(Proportional(), seed + run)) for run in range(replicas(6, size))]
            found = mean_interval(torch.tensor(gains, dtype=torch.float64), ALARM)
            row |= {
                f"most, transfer {transfer:g}": 100 * float(bounds.worth(mass, level, transfer=transfer)),
                f"proportional, transfer {transfer:g}": found.value,
                f"proportional, transfer {transfer:g} ±": found.half,
            }
        rows.append(row)
    return rows


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """A line for the most that there is, and marks for the rule, with and without transfer."""
    (panel,) = panels
    panel.set(
        title=f"{REGIONS} regions, exponent ½",
        xlabel="spread: standard deviation of log discrepancy",
        ylabel="gain over equal shares (%)",
    )
    x = column(rows, "spread")
    for index, transfer in enumerate(TRANSFERS):
        look = plots.look(index)
        words = "without transfer" if transfer == 0 else f"transfer {transfer:g}"
        panel.plot(
            x, column(rows, f"most, transfer {transfer:g}"), color=look.colour, ls=("-", "--")[index],
            label=f"the most there is, {words}",
        )  # fmt: skip
        panel.errorbar(
            x, column(rows, f"proportional, transfer {transfer:g}"),
            yerr=column(rows, f"proportional, transfer {transfer:g} ±"), fmt=look.marker, ms=6, capsize=2.5,
            color=look.colour, label=f"proportional, {words} (simulated)",
        )  # fmt: skip
    panel.set_ylim(bottom=0.0)


PICTURE = Picture(
    "What an allocation can gain, by how much the regions differ",
    "The lines are the most that any rule can gain over equal shares with the same effort. The marks are the rule "
    "'effort in proportion to the estimated discrepancy', run by the shipped sampler on noisy observations. Without "
    "transfer it gets all of it without knowing the exponent; if most effort teaches all regions alike, there is less "
    "to gain, and the rule gets about half.",
    measure,
    paint,
)
