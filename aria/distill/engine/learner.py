"""A denoising model with the layers that the loss compares, and projections to the teacher's widths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.engine.plan import Plan, named
from aria.distill.models import taps
from aria.distill.models.denoisers import Condition, Evaluate
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.objectives import Objective, Pairs
from aria.distill.teachers.teacher import Teacher

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Data type of frozen models for each mixed precision; without mixed precision they keep their own."""


class Learner(nn.Module):
    """A denoising model that also returns the features of the layers ``names``, each through its projection.

    ``forward`` uses every parameter that trains, as data-parallel wrappers require.
    """

    def __init__(
        self,
        denoiser: Evaluate,
        model: nn.Module,
        names: Sequence[str] = (),
        projections: Sequence[nn.Module] | None = None,
        convert: tuple[NoiseSchedule, str, str] | None = None,
    ) -> None:
        """``convert`` is (schedule, given, wanted) if the model's prediction type differs from the one compared."""
        super().__init__()
        self.denoiser = denoiser
        self.model = model
        self.names = tuple(names)
        self.projections = nn.ModuleList(projections if projections is not None else [nn.Identity() for _ in names])
        self.convert = convert

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Condition) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, …) output and tapped features."""
        with taps.taps(self.model, self.names) as seen:
            output = self.denoiser(self.model, noisy, timestep, condition)
        if self.convert is not None:
            schedule, given, wanted = self.convert
            output = schedule.convert(output, given, wanted, noisy, timestep)
        features = (project(seen[name]) for project, name in zip(self.projections, self.names, strict=True))
        return output, tuple(features)


def projections(
    student: Sequence[Tensor], teacher: Sequence[Tensor], names: Sequence[tuple[str, str]]
) -> list[nn.Module]:
    """A 1×1 projection for each pair of features whose widths differ; the identity where they are equal."""
    return [_projection(*features) for features in zip(student, teacher, names, strict=True)]


def _projection(student: Tensor, teacher: Tensor, name: tuple[str, str]) -> nn.Module:
    convolution = {4: nn.Conv2d, 5: nn.Conv3d}.get(student.ndim)
    channel = -1 if convolution is None else 1
    if student.ndim != teacher.ndim or _rest(student, channel) != _rest(teacher, channel):
        raise ValueError(
            f"the teacher's {name[0]!r} gives features of shape {tuple(teacher.shape[1:])}, "
            f"the student's {name[1]!r} of {tuple(student.shape[1:])}: only their channels may differ"
        )
    width, wanted = student.shape[channel], teacher.shape[channel]
    if width == wanted:
        return nn.Identity()
    return nn.Linear(width, wanted) if convolution is None else convolution(width, wanted, 1)


def _rest(feature: Tensor, channel: int) -> list[int]:
    """The shape without channels."""
    shape = list(feature.shape)
    del shape[channel]
    return shape


def compile_blocks(*models: Any, **settings: Any) -> None:
    """Compile the repeated blocks of diffusers models one by one, in place, so that parameter names do not change.

    ``settings`` are passed to ``torch.compile``.
    """
    check_repeats(*models)
    _raise_limits(sum(map(_kinds, models)))
    for model in models:
        model.compile_repeated_blocks(**settings)


def check_repeats(*models: Any) -> None:
    """Refuse models that do not name their repeated blocks."""
    for model in models:
        if not getattr(model, "_repeated_blocks", None):
            raise ValueError(f"{type(model).__name__} does not name its repeated blocks: train without compile")


def _kinds(model: Any) -> int:
    """Number of repeated blocks of a model that differ in the shapes of their weights."""
    blocks = (block for block in model.modules() if type(block).__name__ in model._repeated_blocks)
    return len({tuple((name, value.shape) for name, value in block.named_parameters()) for block in blocks})


def _raise_limits(kinds: int) -> None:
    """Raise the compiler's recompile limits by enough for this many kinds of blocks.

    The limits apply to one piece of Python code, which all blocks of the process share; beyond them, calls run
    uncompiled.
    """
    config: Any = torch._dynamo.config
    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        name = limit if hasattr(config, limit) else limit.replace("recompile", "cache_size")
        setattr(config, name, getattr(config, name) + _EACH * kinds)


_EACH = 8
"""Torch's default recompile limit for one piece of code."""


def check_pair(teacher: Teacher, student: Any, terms: Iterable[Objective], plan: Plan) -> dict[str, Pairs]:
    """The layers that each term compares; a student that cannot be compared with the teacher as planned is refused."""
    same_latents(teacher.model, student)
    if plan.compile:
        check_repeats(teacher.model, student)
    if plan.guidance is not None and not getattr(teacher.denoiser, "takes_guidance", True):
        raise ValueError(f"{type(student).__name__} cannot take the guidance scale as an input")
    teacher.schedule.check_conversion(plan.student_prediction or teacher.prediction, teacher.prediction)
    plan.weighting.table(teacher.schedule, teacher.prediction)
    layers = {name: term.pairs(plan.layers) for name, term in named(tuple(terms)).items()}
    for teacher_layer, student_layer in (pair for pairs in layers.values() for pair in pairs):
        taps.find(teacher.model, teacher_layer)
        taps.find(student, student_layer)
    if not teacher.plain:
        for term in terms:
            term.check_outputs_only(one_pass=teacher.evaluate is None)
    return layers


def freeze(model: nn.Module) -> nn.Module:
    """The model without gradients and in evaluation mode."""
    return model.requires_grad_(False).eval()


_SAME = (
    "sample_size", "in_channels", "out_channels", "cross_attention_dim", "encoder_hid_dim", "class_embed_type",
    "num_class_embeds", "addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim",
    "caption_channels", "text_dim", "joint_attention_dim", "pooled_projection_dim", "cap_feat_dim",
    "num_embeds_ada_norm",
)  # fmt: skip
"""Keys of a model's configuration that determine the shapes of its latents and conditions."""


def same_latents(teacher: Any, student: Any) -> None:
    """Refuse a student whose latents or conditions have different shapes than the teacher's."""
    if not (hasattr(teacher, "config") and hasattr(student, "config")):
        return
    projected = teacher.config.get("caption_channels") is not None  # to the model's own width, which may differ
    for name in _SAME:
        if name == "cross_attention_dim" and projected:
            continue
        own, wanted = student.config.get(name), teacher.config.get(name)
        if own != wanted:
            raise ValueError(f"the student's {name} is {own!r}, the teacher's {wanted!r}: they cannot be compared")
