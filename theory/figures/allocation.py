"""Discrepancy left by training if allocators use estimates, beside the same allocators with the true values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aria import plots
from theory import closed_loop
from theory.figures.base import Picture, Rows, column, replicas
from theory.regimes import NAMED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

ALLOCATORS = ("proportional", "softmax", "ucb", "neyman", "exp3", "thompson")
TRACKER = "bank"
STEPS = 150


def measure(seed: int, size: float) -> Rows:
    """Discrepancy left in the regime closed-loop, as a share of the start; rows in the order of ALLOCATORS."""
    count = replicas(300, size)
    found = closed_loop.measure_allocators(TRACKER, ALLOCATORS, "closed-loop", NAMED["closed-loop"], STEPS, count, seed)
    return [
        {
            "allocator": row["allocator"],
            "left": row["left"],
            "left ±": row["plus_minus"],
            "with the true values": row["oracle"],
            "uniform": row["uniform"],
        }
        for row in found
    ]


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """One line for each allocator: with estimates and with the truth."""
    (panel,) = panels
    panel.set(
        title="regime closed-loop: four regions, levels 1, 2, 4, 8",
        xlabel=f"discrepancy left after {STEPS} steps (% of the start)",
    )
    places = list(range(len(rows)))
    for index, name in ((0, "left"), (1, "with the true values")):
        label = ("with the bank's estimates (99 % interval)", "with the true values")[index]
        half = [100 * row["left ±"] if name == "left" else 0.0 for row in rows]
        panel.errorbar(
            [100 * value for value in column(rows, name)], [place + 0.24 * index - 0.12 for place in places],
            xerr=half, fmt=plots.look(index).marker, ms=6,
            capsize=2.5, color=plots.look(index).colour, mfc="none" if index else plots.look(index).colour, label=label,
        )  # fmt: skip
    panel.axvline(100 * rows[0]["uniform"], color=plots.INK, lw=1, ls=":", label="uniform allocation")
    panel.grid(visible=False, axis="y")
    panel.set_yticks(places, list(ALLOCATORS))
    panel.invert_yaxis()
    panel.set_xlim(left=0.0)


PICTURE = Picture(
    "Allocators in a closed loop, beside the same rule with the true values",
    "Training reduces the discrepancy of the regions that it visits, and the allocator derives the visits from the "
    "estimates. Open marks are the same rules with the true values. These are not always better: without uncertainty, "
    "Thompson sampling sends all effort above the floor to the largest region.",
    measure,
    paint,
)
