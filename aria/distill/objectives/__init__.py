"""Objectives and weightings. A new one is one file and one line here."""

from aria import registry
from aria.distill.objectives.base import Answer, Objective, Pairs, Shown, per_sample
from aria.distill.objectives.feature import Feature
from aria.distill.objectives.output import Output
from aria.distill.objectives.task import Task
from aria.distill.objectives.weighting import MinSNR, TruncatedSNR, Uniform, Velocity, Weighting

registry.add_kind(Objective, "objective", __name__)
registry.add_kind(Weighting, "weighting", __name__)

__all__ = [
    "Answer",
    "Feature",
    "MinSNR",
    "Objective",
    "Output",
    "Pairs",
    "Shown",
    "Task",
    "TruncatedSNR",
    "Uniform",
    "Velocity",
    "Weighting",
    "per_sample",
]
