"""Students beside their teacher on prompts in groups: generation gap and scores, with intervals and paired tests."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import files, registry
from aria.checks import InvalidSetting
from aria.distill.data.prompt_files import read_prompts
from aria.distill.data.prompts import Prompts
from aria.distill.engine.learner import same_latents
from aria.distill.evaluation import comparison, grids, students
from aria.distill.evaluation.examiner import Examiner
from aria.distill.evaluation.gap import generation_gap
from aria.distill.evaluation.scorers import Scorer
from aria.distill.models.pipelines import open_model, open_pipeline
from aria.progress import Bar, silent

FORMAT = "aria-evaluation/1"
EVERY = "all"
"""The group of all prompts."""
SHEET = 3
"""Number of best, median and worst prompts on the sheet of pictures."""
SETTINGS = ("steps", "student_steps", "guidance", "resolution", "frames", "seed")
RESULT, PAGE, PICTURES, FILM = "evaluation.json", "report.html", "prompts.png", "prompts.webp"


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and how images are made."""

    teacher: str
    students: Sequence[str]
    prompts: Path
    column: str | None = None
    """The column of the prompts themselves."""
    group: str | None = None
    """The column whose values are the groups; without it there is one group, :data:`EVERY`."""
    pool: Path | None = None
    """The pool of prompts on which students were trained, for the coverage of its groups."""
    scorers: Sequence[str] = ()
    """Specs of scorers."""
    steps: int = 25
    student_steps: int | None = None
    guidance: float = 7.5
    resolution: int | None = None
    frames: int | None = None
    """Of the videos, for a teacher that makes videos."""
    seed: int = 0
    dtype: torch.dtype = torch.float32
    names: Sequence[str] = field(init=False, repr=False)
    """A name for each student: the last parts of its path that tell them apart."""

    def __post_init__(self) -> None:
        if repeated := [name for name, count in Counter(self.students).items() if count > 1]:
            raise InvalidSetting("students", "conflict", f"{repeated[0]} is given more than once")
        object.__setattr__(self, "names", told_apart(self.students))


def evaluate(plan: Evaluation, output: Path, *, bar: Bar = silent) -> dict[str, Any]:
    """Evaluate, and write the result, its page and a sheet of pictures into the folder ``output``."""
    from aria.distill.evaluation import evaluation_page

    scorers = {spec: registry.resolve(spec, Scorer) for spec in plan.scorers}
    prompts = read_prompts(plan.prompts, column=plan.column)
    groups = groups_of(prompts, plan.group, plan.prompts)
    covered = None if plan.pool is None else coverage(groups, read_prompts(plan.pool, column=plan.column), plan)
    texts = list(prompts.texts)
    examiner, teacher, made = _generated(plan, texts, bar)
    values: dict[str, dict[str, Tensor]] = {}
    theirs = examiner.images(teacher) if scorers else None
    for name in plan.names:
        values[name] = {comparison.GAP: check_finite(name, generation_gap(teacher, made[name]))}
        if theirs is not None:
            ours = examiner.images(made[name])
            for spec, scorer in scorers.items():
                comparison.add_scores(values[name], spec, scored(spec, scorer, texts, ours, theirs), len(texts))
    rows = comparison.by_group(values, groups)
    first = values[plan.names[0]][comparison.GAP]
    shown = comparison.extremes(first, SHEET)
    result = {
        "format": FORMAT,
        "teacher": plan.teacher,
        "students": dict(zip(plan.names, plan.students, strict=True)),
        "settings": {name: getattr(plan, name) for name in SETTINGS},
        "groups": {group: len(members) for group, members in groups.items()},
        "coverage": covered,
        "table": rows,
        "shown": {kind: [texts[row] for row in chosen] for kind, chosen in shown.items()},
        "prompts": [
            {"prompt": text, "values": {name: {m: _known(v[row]) for m, v in values[name].items()} for name in values}}
            for row, text in enumerate(texts)
        ],
    }
    output.mkdir(parents=True, exist_ok=True)
    chosen = [row for kind in shown.values() for row in kind]
    named = {row: f", {group}" for group, members in groups.items() if group != EVERY for row in members}
    captions = [f"{kind}{named.get(row, '')}: {texts[row]}" for kind, kinds in shown.items() for row in kinds]
    made_of = {"teacher": teacher, **made}
    columns = [(name, [grids.frames_of(one) for one in examiner.images(x[chosen])]) for name, x in made_of.items()]
    grids.write_png(grids.grid(captions, columns), output / PICTURES)
    film = grids.write_film(captions, columns, output / FILM)
    files.write_text(output / RESULT, json.dumps(result, indent=1, allow_nan=False) + "\n")
    files.write_text(output / PAGE, evaluation_page.page(result, output / PICTURES, film))
    return result


def told_apart(paths: Sequence[str]) -> list[str]:
    """The shortest ends of paths that differ from one another.

    >>> told_apart(["runs/a/final", "runs/b/final"]), told_apart(["teacher", "student/"])
    (['a/final', 'b/final'], ['teacher', 'student'])
    """
    parts = [Path(path).parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def groups_of(prompts: Prompts, column: str | None, path: Path) -> dict[str, list[int]]:
    """The prompts of each group, and of all."""
    every = {EVERY: list(range(len(prompts)))}
    if column is None:
        return every
    if column not in prompts.columns:
        have = ", ".join(sorted(prompts.columns)) or "none"
        raise InvalidSetting("group", "unknown", f"{path}: there is no column {column!r}; there are: {have}")
    found: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(prompts.columns[column]):
        found[str(value)].append(row)
    if EVERY in found:
        raise InvalidSetting("group", "conflict", f"{path}: {EVERY!r} is the group of all prompts; rename this one")
    return every | dict(sorted(found.items()))


def coverage(groups: Mapping[str, Sequence[int]], pool: Prompts, plan: Evaluation) -> dict[str, Any]:
    """How much of the pool is in a group that has a prompt here, and what is not."""
    if plan.group is None or plan.group not in pool.columns:
        message = f"{plan.pool}: the coverage of the pool needs a column that both files have: give --group"
        raise InvalidSetting("pool", "missing", message)
    counts = Counter(str(value) for value in pool.columns[plan.group])
    missing = {group: count for group, count in counts.most_common() if group not in groups}
    total = sum(counts.values())
    return {
        "share": 1 - sum(missing.values()) / total,
        "groups": len(counts) - len(missing),
        "of": len(counts),
        "missing": dict(list(missing.items())[:20]),
    }


def scored(name: str, scorer: Scorer, prompts: Sequence[str], images: Tensor, teacher: Tensor) -> Mapping[str, Tensor]:
    """The scores of images (N, 3, H, W), or for videos (N, 3, F, H, W) the means of their frames' scores."""
    if images.ndim == 4:
        return scorer.scores(prompts, images, teacher)
    frames = images.shape[2]
    every = [prompt for prompt in prompts for _ in range(frames)]
    scores = scorer.scores(every, *(videos.transpose(1, 2).flatten(0, 1) for videos in (images, teacher)))
    checked = comparison.check_scores(name, scores, len(every))
    return {key: value.view(-1, frames).nanmean(1) for key, value in checked.items()}


def check_finite(name: str, gaps: Tensor) -> Tensor:
    """Refuse gaps that are not finite: a student that makes no image is not left out of its mean."""
    if count := int((~gaps.isfinite()).sum()):
        message = f"{name} makes no finite image of {count} of {len(gaps)} prompts"
        raise InvalidSetting("students", "range", message)
    return gaps


def _generated(plan: Evaluation, texts: list[str], bar: Bar) -> tuple[Examiner, Tensor, dict[str, Tensor]]:
    """The latents that the teacher and every student made. All students are opened once before any image is made, so
    that a wrong one costs no time."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = open_pipeline(plan.teacher, dtype=plan.dtype).to(device)
    how: dict[str, Any] = {"guidance": plan.guidance, "seed": plan.seed, "resolution": plan.resolution}
    how["frames"] = plan.frames
    examiner = Examiner(pipeline, texts, **how)
    paths = dict(zip(plan.names, map(Path, plan.students), strict=True))
    schedulers = {}
    for name, path in paths.items():
        students.check_ended(path)
        same_latents(examiner.teacher, open_model(path, dtype=plan.dtype))
        schedulers[name] = students.scheduler_of(path, pipeline)

    def made(name: str, model: Any, **options: Any) -> Tensor:
        with bar(name) as progress:
            return examiner.latents(model, progress=progress, **options)

    teacher = made("teacher", examiner.teacher, steps=plan.steps)
    own: dict[str, Any] = {"steps": plan.student_steps or plan.steps}
    return examiner, teacher, {
        name: made(name, open_model(path, dtype=plan.dtype).to(device).eval(), scheduler=schedulers[name], **own)
        for name, path in paths.items()
    }


def _known(value: Tensor) -> float | None:
    return None if bool(value.isnan()) else float(value)
