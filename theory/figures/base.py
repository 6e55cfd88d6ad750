"""What a figure is: a function that measures its numbers, and one that draws them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aria.plots import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from theory.simulate import Errors
    from theory.verdict import Interval

Rows = list[dict[str, Any]]
"""Rows of numbers and names by column; "x ±" is the half-width of the confidence interval of "x"."""
ALARM = 0.01
"""Probability that a confidence interval in a figure misses."""


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn from any seed; a larger ``size`` means more replicas."""

    title: str
    caption: str
    measure: Callable[[int, float], Rows]
    """Computes simulations and bounds from the seed and the size."""
    paint: Callable[[Rows, Sequence[Axes]], None]
    panels: int = 1

    def chart(self, rows: Rows) -> Chart:
        """The figure of these numbers."""
        return Chart(lambda panels: self.paint(rows, panels), self.panels)


def column(rows: Rows, name: str) -> list[float]:
    """One column of the rows."""
    return [row[name] for row in rows]


def replicas(count: int, size: float) -> int:
    """``count`` at size 1, and never fewer than 2."""
    return max(2, round(count * size))


def time_mean(found: Errors, name: str) -> Interval:
    """The mean over regions and the steps after burn of a recorded sum, from independent replicas."""
    from theory.verdict import mean_interval

    return mean_interval(found[name].mean(-1) / (found.steps - found.burn), ALARM)
