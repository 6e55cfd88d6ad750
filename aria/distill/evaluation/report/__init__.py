"""A run's folder as one page, during the run or after it, however it ended."""

from aria.distill.evaluation.report.page import page
from aria.distill.evaluation.report.record import Record

__all__ = ["Record", "page"]
