"""The model card of a distilled pipeline: its teacher, its training, its settings and its measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from aria import run_log
from aria.distill.models.denoisers import Denoiser
from aria.distill.runs.callbacks.grids import VALIDATION
from aria.distill.runs.plan import RunPlan
from aria.distill.runs.summary import count
from aria.distill.settings.config import Config, settings
from aria.run_log import LOSSES
from aria.text import markdown, shown

if TYPE_CHECKING:
    from aria.distill.engine.distiller import Distiller


def write(plan: RunPlan, distiller: Distiller, denoiser: Denoiser) -> str:
    """The card as Markdown, with the metadata header that the hub reads. Nothing in a setting is taken for Markdown,
    HTML or YAML."""
    teacher = plan.config.models.pretrained_model_name_or_path
    base = json.dumps(shown(_named(teacher)), ensure_ascii=False)  # a JSON string without line breaks is YAML
    header = ["---", "library_name: diffusers", f"base_model: {base}", "tags:"]
    header += [f"- {tag}" for tag in ("diffusers", "diffusers-training", "distillation")] + ["---", ""]
    title = [f"# Distilled from {markdown(_named(teacher))}", ""]
    text = [
        f"A student with {count(distiller.student)} parameters, trained for {distiller.step_count} steps to reproduce "
        f"the outputs of its teacher ({count(distiller.teacher)} parameters) under random conditions allocated by ARIA "
        "(`aria-distill`).",
        "",
    ]
    return "\n".join([*header, *title, *text, *_use(plan, denoiser), *_measured(plan.output), *_settings(plan.config)])


def _use(plan: RunPlan, denoiser: Denoiser) -> list[str]:
    """How to call the pipeline, if that differs from its teacher."""
    scales = plan.loop.guidance
    if scales is None and not plan.halved:
        return []
    sentences, arguments = [], [denoiser.prompt_argument]
    if plan.halved:
        sentences.append(
            f"It takes {plan.student_steps} sampling steps where its teacher takes {plan.teacher_steps}."
        )
        arguments.append(f"num_inference_steps={plan.student_steps}")
    if scales is not None:
        sentences.append(
            f"It takes the guidance scale, from {scales[0]:g} to {scales[1]:g}, as an input, in one pass per step."
        )
        arguments.append(f"{denoiser.scale_argument}={(scales[0] + scales[1]) / 2:g}")
    else:
        sentences.append("It was trained without guidance.")
        arguments.append(f"{denoiser.scale_argument}={denoiser.unguided:g}")
    sentences.append(f"Call it as `pipeline({', '.join(arguments)})`.")
    if plan.halved:
        sentences.append("It is not trained for other numbers of steps.")
    return [" ".join(sentences), ""]


def _named(path: str) -> str:
    """The name of a model on the hub, or the last part of a local path, which reveals nothing about this machine."""
    return Path(path).name if Path(path).exists() else path


def _measured(output: Path) -> list[str]:
    rows = run_log.read_losses(output / LOSSES)
    if not rows:
        return []
    names = run_log.terms(rows)
    table = ["## Training losses", "", f"| step | {' | '.join(map(markdown, names))} |", f"|---|{'---|' * len(names)}"]
    shown = [rows[0], rows[-1]] if len(rows) > 1 else rows
    table += [f"| {row['step']} | {' | '.join(f'{row[name]:.4g}' for name in names)} |" for row in shown]
    return [*table, "", *_validated(output)]


def _validated(output: Path) -> list[str]:
    rows = run_log.read(output / VALIDATION, run_log.GAP)
    if not rows:
        return []
    text = "Mean squared difference between the final latents of teacher and student, from the same noise and prompts."
    shown = [rows[0], rows[-1]] if len(rows) > 1 else rows
    table = [f"| {row['step']} | {row['gap']:.4g} |" for row in shown]
    return ["## Generation gap", "", text, "", "| step | gap |", "|---|---|", *table, ""]


def _settings(config: Config) -> list[str]:
    """A table of the settings, without local paths."""
    rows = ["## Settings", "", "| | |", "|---|---|"]
    for one in settings():
        value = getattr(getattr(config, one.section), one.name)
        if one.about.place != "run" and value not in (None, ()):
            rows.append(f"| {one.name} | {markdown(_named(value) if one.about.place == 'input' else value)} |")
    return [*rows, ""]
