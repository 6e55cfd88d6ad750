"""What training leaves where allocators follow estimates, beside what it would leave if they knew the truth."""

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
    """Discrepancy left in the regime closed-loop, as a share of what there was; rows in the order of ALLOCATORS."""
    count = replicas(300, size)
    found = closed_loop.measure_allocators(TRACKER, ALLOCATORS, "closed-loop", NAMED["closed-loop"], STEPS, count, seed)
    return [
        {
            "allocator": row["allocator"],
            "left": row["left"],
            "left ±": row["plus_minus"],
            "led by the truth": row["oracle"],
            "uniform": row["uniform"],
        }
        for row in found
    ]


def paint(rows: Rows, panels: Sequence[Axes]) -> None:
    """One line for each allocator: led by estimates and led by the truth."""
    (panel,) = panels
    panel.set(
        title="regime closed-loop: four regions, levels 1, 2, 4, 8",
        xlabel=f"discrepancy left after {STEPS} steps (% of the start)",
    )
    places = list(range(len(rows)))
    for index, name in ((0, "left"), (1, "led by the truth")):
        label = ("led by the bank's estimates (99 % interval)", "led by the truth")[index]
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
    "Allocators in a closed loop, beside the same rule led by the truth",
    "Training lowers the discrepancy of what it visits, and the allocator decides visits by what the tracker "
    "believes. Open marks are the same rules shown the truth. Knowing is not always better: Thompson sampling "
    "without doubt sends all effort above the floor to the largest region.",
    measure,
    paint,
)
