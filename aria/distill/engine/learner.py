"""The student as it is trained: the model, the layers that are looked at, and projections to the teacher's widths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.engine.plan import Plan, named
from aria.distill.models import taps
from aria.distill.models.denoisers import Ask, Condition
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.objectives import Objective, Pairs
from aria.distill.teachers.teacher import Teacher

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""The type of frozen models by the run's mixed precision; without one they stay as they are."""


class Learner(nn.Module):
    """A denoising model and the features named in ``names``, each through its projection.

    Everything that trains is used inside ``forward``, which wrappers for several ranks rely on.
    """

    def __init__(
        self,
        denoiser: Ask,
        model: nn.Module,
        names: Sequence[str] = (),
        projections: Sequence[nn.Module] | None = None,
        convert: tuple[NoiseSchedule, str, str] | None = None,
    ) -> None:
        """``convert`` is (schedule, given, wanted) where the model predicts something else than it is compared in."""
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
    """A 1×1 projection for each pair of features whose widths differ, the identity where they agree."""
    return [_projection(ours, theirs, name) for ours, theirs, name in zip(student, teacher, names, strict=True)]


def _projection(ours: Tensor, theirs: Tensor, name: tuple[str, str]) -> nn.Module:
    channel = 1 if ours.ndim == 4 else -1
    if ours.ndim != theirs.ndim or _rest(ours, channel) != _rest(theirs, channel):
        raise ValueError(
            f"the teacher's {name[0]!r} gives features of shape {tuple(theirs.shape[1:])}, "
            f"the student's {name[1]!r} of {tuple(ours.shape[1:])}: only their channels may differ"
        )
    width, wanted = ours.shape[channel], theirs.shape[channel]
    if width == wanted:
        return nn.Identity()
    return nn.Conv2d(width, wanted, 1) if channel == 1 else nn.Linear(width, wanted)


def _rest(feature: Tensor, channel: int) -> list[int]:
    shape = list(feature.shape)
    del shape[channel]
    return shape


def compile_blocks(*models: Any, **settings: Any) -> None:
    """Compile the blocks that models of diffusers repeat, one by one and in place: names of weights stay.

    ``settings`` are those of ``torch.compile``.
    """
    check_repeats(*models)
    _expect(sum(map(_kinds, models)))
    for model in models:
        model.compile_repeated_blocks(**settings)


def check_repeats(*models: Any) -> None:
    """Refuse models that do not name the blocks they repeat."""
    for model in models:
        if not getattr(model, "_repeated_blocks", None):
            raise ValueError(f"{type(model).__name__} does not say which blocks it repeats: train without compile")


def _kinds(model: Any) -> int:
    """How many of the blocks that a model repeats differ in the shapes of their weights."""
    blocks = (block for block in model.modules() if type(block).__name__ in model._repeated_blocks)
    return len({tuple((name, value.shape) for name, value in block.named_parameters()) for block in blocks})


def _expect(kinds: int) -> None:
    """Let the compiler make so many kinds of blocks as often as it would make one.

    It counts what it makes of one piece of Python code, which all blocks of the process share, and leaves every call
    after its limit uncompiled.
    """
    known: Any = torch._dynamo.config
    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        name = limit if hasattr(known, limit) else limit.replace("recompile", "cache_size")
        setattr(known, name, getattr(known, name) + _EACH * kinds)


_EACH = 8
"""How often the compiler makes one piece of code anew before it gives up, by its own default."""


def check_pair(
    teacher: Teacher, student: Any, terms: Iterable[Objective], plan: Plan
) -> dict[str, Pairs]:
    """Refuse a student that cannot be compared with the teacher as planned; else the layers that each term compares."""
    same_latents(teacher.model, student)
    if plan.compile:
        check_repeats(teacher.model, student)
    if plan.guidance is not None and not getattr(teacher.denoiser, "takes_guidance", True):
        raise ValueError(f"{type(student).__name__} cannot take the guidance scale as an input")
    teacher.schedule.check_conversion(plan.student_prediction or teacher.prediction, teacher.prediction)
    plan.weighting.table(teacher.schedule, teacher.prediction)
    layers = {name: term.pairs(plan.layers) for name, term in named(tuple(terms)).items()}
    for theirs, ours in (pair for pairs in layers.values() for pair in pairs):
        taps.find(teacher.model, theirs)
        taps.find(student, ours)
    if not teacher.plain:
        for term in terms:
            term.check_asked_twice()
    return layers


def freeze(model: nn.Module) -> nn.Module:
    """The model without gradients and in evaluation mode."""
    return model.requires_grad_(False).eval()


_SAME = (
    "sample_size", "in_channels", "out_channels", "cross_attention_dim", "encoder_hid_dim", "class_embed_type",
    "num_class_embeds", "addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim",
    "caption_channels", "joint_attention_dim", "pooled_projection_dim", "num_embeds_ada_norm",
)  # fmt: skip
"""What a model's configuration says of its latents and conditions."""


def same_latents(teacher: Any, student: Any) -> None:
    """Refuse a student that speaks of other latents or is told other conditions than the teacher."""
    if not (hasattr(teacher, "config") and hasattr(student, "config")):
        return
    projected = teacher.config.get("caption_channels") is not None  # to the model's own width, which may differ
    for name in _SAME:
        if name == "cross_attention_dim" and projected:
            continue
        ours, theirs = student.config.get(name), teacher.config.get(name)
        if ours != theirs:
            raise ValueError(f"the student's {name} is {ours!r}, the teacher's {theirs!r}: they cannot be compared")
