"""Students for distillation: smaller UNets and transformers made from a teacher's, plain diffusers models all."""

from .block_map import BlockMap, read_map
from .factorise import factorise, unfactorise
from .folder import read_feature_pairs, read_record, write_student
from .inherit import Inheritance
from .low_rank import add_low_rank, merge
from .make import prune
from .measure import Size, count_macs, example_inputs, size
from .plan import Plan, build_student, plan_student
from .presets import PRESETS, preset
from .transformer_family import Family, family_of
from .transformer_measure import transformer_inputs, transformer_size
from .transformer_plan import TransformerPlan, build_transformer, plan_transformer

__all__ = [
    "PRESETS",
    "BlockMap",
    "Family",
    "Inheritance",
    "Plan",
    "Size",
    "TransformerPlan",
    "add_low_rank",
    "build_student",
    "build_transformer",
    "count_macs",
    "example_inputs",
    "factorise",
    "family_of",
    "merge",
    "plan_student",
    "plan_transformer",
    "preset",
    "prune",
    "read_feature_pairs",
    "read_map",
    "read_record",
    "size",
    "transformer_inputs",
    "transformer_size",
    "unfactorise",
    "write_student",
]
