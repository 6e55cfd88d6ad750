"""The model card of a distilled pipeline: what it was made from, how, and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aria.distill.runs.callbacks import lines
from aria.distill.runs.callbacks.grids import VALIDATION
from aria.distill.runs.callbacks.log import LOSSES
from aria.distill.settings.config import Config, settings, student_steps, teacher_steps

if TYPE_CHECKING:
    from aria.distill.engine.distiller import Distiller


def write(config: Config, distiller: Distiller, output: Path) -> str:
    """The card as Markdown with the hub's header."""
    teacher = config.models.pretrained_model_name_or_path
    header = ["---", "library_name: diffusers", f"base_model: {json.dumps(_shown(teacher))}", "tags:"]
    header += [f"- {tag}" for tag in ("diffusers", "diffusers-training", "distillation")] + ["---", ""]
    title = [f"# Distilled from {_shown(teacher)}", ""]
    told = [
        f"A student of {_parameters(distiller.student)} parameters, trained for {distiller.step_count} steps to answer "
        f"as its teacher ({_parameters(distiller.teacher)}) does, on random conditions that ARIA (`aria-distill`) "
        "allocated.",
        "",
    ]
    return "\n".join([*header, *title, *told, *_use(config), *_measured(output), *_settings(config)])


def _use(config: Config) -> list[str]:
    """How it is called, where otherwise than its teacher: once, with all that matters."""
    scales, halved = config.conditioning.guidance, config.models.halve_from is not None
    if scales is None and not halved:
        return []
    told, arguments = [], ["prompt"]
    if halved:
        told.append(f"It makes in {student_steps(config)} steps what its teacher makes in {teacher_steps(config)}.")
        arguments.append(f"num_inference_steps={student_steps(config)}")
    if scales is not None:
        told.append(f"It is told the guidance scale, from {scales[0]:g} to {scales[1]:g}, and asked once a step.")
        arguments.append(f"guidance_scale={(scales[0] + scales[1]) / 2:g}")
    else:
        told.append("It was trained without guidance.")
        arguments.append("guidance_scale=1")
    told.append(f"Call it as `pipeline({', '.join(arguments)})`.")
    if halved:
        told.append("Other numbers of steps are not what it was trained for.")
    return [" ".join(told), ""]


def _shown(path: str) -> str:
    """A folder's own name, a hub's whole name: where folders lie on one machine is nobody's business."""
    return Path(path).name if Path(path).exists() else path


def _parameters(model: Any) -> str:
    return _count(sum(value.numel() for value in model.parameters()))


def _count(number: int) -> str:
    """A number in people's units.

    >>> _count(859_520_964), _count(12_345), _count(96)
    ('859.5 M', '12.3 k', '96')
    """
    for size, unit in ((10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def _measured(output: Path) -> list[str]:
    rows = lines.read(output / LOSSES)
    if not rows:
        return []
    names = [name for name in rows[0] if name not in {"step", "lr", "steps_per_second"}]
    table = ["## Training losses", "", f"| step | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    shown = [rows[0], rows[-1]] if len(rows) > 1 else rows
    table += [f"| {row['step']} | {' | '.join(f'{row[name]:.4g}' for name in names)} |" for row in shown]
    return [*table, "", *_validated(output)]


def _validated(output: Path) -> list[str]:
    rows = lines.read(output / VALIDATION)
    if not rows:
        return []
    told = "Mean squared difference of teacher's and student's final latents, from the same noise and prompts."
    shown = [rows[0], rows[-1]] if len(rows) > 1 else rows
    table = [f"| {row['step']} | {row['gap']:.4g} |" for row in shown]
    return ["## Generation gap", "", told, "", "| step | gap |", "|---|---|", *table, ""]


def _settings(config: Config) -> list[str]:
    """A table of the settings, without where on this machine the run was written."""
    lines = ["## Settings", "", "| | |", "|---|---|"]
    for one in settings():
        value = getattr(getattr(config, one.section), one.name)
        if one.about.place != "run" and value not in (None, ()):
            lines.append(f"| {one.name} | {_shown(value) if one.about.place == 'input' else value} |")
    return [*lines, ""]
