"""Students for distillation: smaller UNets and transformers made from a teacher's, plain diffusers models all."""

from aria.distill.students.factorise import factorise, unfactorise
from aria.distill.students.folder import read_feature_pairs, read_record, write_student
from aria.distill.students.inherit import Inheritance
from aria.distill.students.low_rank import add_low_rank, merge
from aria.distill.students.measure import Size, count_macs
from aria.distill.students.plan import Plan, build_student
from aria.distill.students.presets import PRESETS, preset
from aria.distill.students.prune import prune
from aria.distill.students.transformer.family import Family, family_of
from aria.distill.students.transformer.measure import transformer_inputs, transformer_size
from aria.distill.students.transformer.measurement import Measurement
from aria.distill.students.transformer.plan import plan_transformer
from aria.distill.students.unet.blocks import BlockMap, read_map
from aria.distill.students.unet.measure import example_inputs, size
from aria.distill.students.unet.plan import plan_student

__all__ = [
    "PRESETS",
    "BlockMap",
    "Family",
    "Inheritance",
    "Measurement",
    "Plan",
    "Size",
    "add_low_rank",
    "build_student",
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
