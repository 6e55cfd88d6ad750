"""Students for distillation: smaller UNets made from a teacher's, plain diffusers models all of them."""

from .block_map import BlockMap, read_map
from .folder import read_feature_pairs, read_record, write_student
from .inherit import Inheritance
from .low_rank import add_low_rank, merge
from .make import prune
from .measure import Size, count_macs, example_inputs, size
from .plan import Plan, build_student, plan_student
from .presets import PRESETS, preset

__all__ = [
    "PRESETS",
    "BlockMap",
    "Inheritance",
    "Plan",
    "Size",
    "add_low_rank",
    "build_student",
    "count_macs",
    "example_inputs",
    "merge",
    "plan_student",
    "preset",
    "prune",
    "read_feature_pairs",
    "read_map",
    "read_record",
    "size",
    "write_student",
]
