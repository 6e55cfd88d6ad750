"""From a teacher on disk to a student on disk, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aria import checks
from aria.distill.students.config import public
from aria.distill.students.folder import check_output, config_digest, write_student
from aria.distill.students.inherit import INITS, Inheritance, Init
from aria.distill.students.measure import Size
from aria.distill.students.open_teacher import open_teacher
from aria.distill.students.plan import build_student
from aria.distill.students.transformer.choose import RULES, By, Choice, Counts, by_measuring, by_position
from aria.distill.students.transformer.family import Family, family_of
from aria.distill.students.transformer.measure import transformer_size
from aria.distill.students.transformer.measurement import Measurement, sample
from aria.distill.students.transformer.plan import plan_transformer
from aria.distill.students.unet.measure import TOKENS, size
from aria.distill.students.unet.plan import plan_student


def prune(
    teacher: str | Path,
    output: str | Path,
    *,
    preset: str | None = None,
    block_map: Mapping[str, Any] | None = None,
    width: float | None = None,
    block_out_channels: Sequence[int] | None = None,
    blocks: Sequence[int] | None = None,
    single_blocks: Sequence[int] | None = None,
    num_attention_heads: int | None = None,
    attention_head_dim: int | None = None,
    keep: int | None = None,
    keep_single: int | None = None,
    by: By = "position",
    measurement: Measurement | None = None,
    init: Init = "slice",
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the student of the teacher in the folder ``teacher`` to the folder ``output``; return its record.

    Of a transformer ``keep`` blocks may stay, and ``keep_single`` of its second list, chosen ``by`` a rule of
    :mod:`aria.distill.students.transformer.choose`; all rules but one need a ``measurement``.
    """
    checks.one_of("init", init, INITS)
    checks.one_of("by", by, RULES)
    _check_rule(by, keep, keep_single, measurement)
    check_output(Path(output), overwrite=overwrite)
    model = open_teacher(teacher)
    config, family = public(model.config), family_of(type(model))
    given: dict[str, Any] = {"preset": preset, "width": width}
    own = {"block_map": block_map, "block_out_channels": block_out_channels}
    others = {
        "blocks": blocks, "single_blocks": single_blocks, "num_attention_heads": num_attention_heads,
        "attention_head_dim": attention_head_dim,
    }  # fmt: skip
    counts = {"keep": keep, "keep_single": keep_single}
    if family is None:
        _refuse(others | counts, model, "transformers")
        made = _unet(model, config, given | own, init, seed)
    else:
        _refuse(own, model, "UNets")
        given |= others
        choice = None
        if keep is not None or keep_single is not None:
            if named := [name for name in ("preset", "blocks", "single_blocks") if given[name] is not None]:
                raise ValueError(f"keep chooses the blocks: give keep or {named[0]}, not both")
            choice = _chosen(family, model, config, counts, by, measurement, teacher, seed)
            given |= choice.kept
        made = _transformer(family, model, config, given, init, seed)
        if choice is not None:
            made.blocks["choice"] = choice.record
    record = {
        "teacher": {"path": str(teacher), "class": type(model).__name__, "config_sha256": config_digest(config)},
        "blocks": {"preset": preset, **made.blocks},
        "width": {"factor": width, **made.width},
        "init": {"how": init, "seed": seed, **made.inheritance.counts()},
        "parameters": {name: found.parameters for name, found in made.sizes.items()},
        "macs": {name: found.macs for name, found in made.sizes.items()} | {"tokens": made.tokens},
        "feature_pairs": made.feature_pairs,
    }
    write_student(output, made.student, record, made.inheritance, overwrite=overwrite)
    return record


@dataclass(frozen=True)
class _Made:
    """A student, and the contents of its record."""

    student: Any
    inheritance: Inheritance
    sizes: dict[str, Size]
    tokens: int
    blocks: dict[str, Any]
    width: dict[str, Any]
    feature_pairs: list[tuple[str, str]]


def _unet(model: Any, config: dict[str, Any], given: dict[str, Any], init: Init, seed: int) -> _Made:
    plan = plan_student(config, **given)
    sizes = {"teacher": size(config), "student": size(plan.config)}
    student, inheritance = build_student(plan, model, init=init, seed=seed)
    blocks, width = {"block_map": given["block_map"]}, {"block_out_channels": plan.config["block_out_channels"]}
    return _Made(student, inheritance, sizes, TOKENS, blocks, width, plan.feature_pairs)


def _transformer(
    family: Family, model: Any, config: dict[str, Any], given: dict[str, Any], init: Init, seed: int
) -> _Made:
    plan = plan_transformer(family, config, **given)
    sizes = {"teacher": transformer_size(family, config), "student": transformer_size(family, plan.config)}
    student, inheritance = build_student(plan, model, init=init, seed=seed)
    width = dict(zip(("num_attention_heads", "attention_head_dim"), family.heads(plan.config), strict=True))
    blocks = {"kept": list(plan.blocks.blocks)}
    if plan.blocks.singles:
        blocks["kept_single"] = list(plan.blocks.singles)
    return _Made(student, inheritance, sizes, family.tokens, blocks, width, plan.feature_pairs)


def _chosen(
    family: Family,
    model: Any,
    config: dict[str, Any],
    keep: dict[str, int | None],
    by: By,
    measurement: Measurement | None,
    teacher: str | Path,
    seed: int,
) -> Choice:
    counts = Counts.of(family, config, **keep)
    if measurement is None:
        return by_position(counts)
    choice = by_measuring(family, counts, by, sample(teacher, model, measurement, seed), measurement)
    model.cpu()
    return choice


def _check_rule(by: By, keep: int | None, keep_single: int | None, measurement: Measurement | None) -> None:
    """Refuse a rule without a number of blocks, and one that lacks what it needs or has what it does not."""
    if by != "position" and keep is keep_single is None:
        raise ValueError(f"{by} chooses which blocks stay: give keep, how many that are")
    if measurement is not None:
        if by == "position":
            raise ValueError("position measures nothing: prompts and cache_dir are for similarity and recoverability")
        measurement.check()
    elif by != "position":
        raise ValueError(f"{by} measures the teacher on images of prompts: give prompts or cache_dir")


def _refuse(given: Mapping[str, Any], model: Any, kind: str) -> None:
    """Refuse settings of another kind of model."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is for {kind}; this is a {type(model).__name__}")
