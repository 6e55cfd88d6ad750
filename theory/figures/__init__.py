"""The figures of the report and the documents, one file each. To add a picture, list it here."""

from types import MappingProxyType

from theory.figures import (
    against_the_limit,
    allocation,
    best_rate,
    closed_loop,
    error_vs_rate,
    fixed_time_radius,
    rare_visits,
    selective_visits,
    worth,
    wrong_drift,
)
from theory.figures.base import Picture, Rows

__all__ = ["FIGURES", "Picture", "Rows"]

FIGURES = MappingProxyType(
    {
        "against-the-limit": against_the_limit.PICTURE,
        "best-rate": best_rate.PICTURE,
        "error-vs-rate": error_vs_rate.PICTURE,
        "closed-loop": closed_loop.PICTURE,
        "selective-visits": selective_visits.PICTURE,
        "wrong-drift": wrong_drift.PICTURE,
        "fixed-time-radius": fixed_time_radius.PICTURE,
        "rare-visits": rare_visits.PICTURE,
        "allocation": allocation.PICTURE,
        "worth": worth.PICTURE,
    }
)
"""Every picture by name, in the order of the report."""
