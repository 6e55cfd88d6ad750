"""The user's own task: a teacher on disk or on the hub, a student, a pool of prompts, and prompts held out of it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aria import checks, registry
from aria.distill.data.prompt_files import read_prompts
from aria.distill.students import PRESETS, prune
from aria.progress import Bar
from aria.tasks.on_disk import OnDisk, Questions

GROUP = "group"
"""The column of the held-out prompts that says which group each belongs to."""
EVERY = "uniform"
"""The group of all held-out prompts alike."""


@dataclass(frozen=True)
class Folder(OnDisk):
    """A comparison on one's own models and prompts; nothing is known of them but what is in the files.

    >>> Folder(teacher="teacher", prompts="pool.jsonl", held_out="held-out.jsonl").student
    'bk-base'
    """

    teacher: str = ""
    """A pipeline's folder, or its name on the hub."""
    prompts: str = ""
    """The pool, with any columns and weights."""
    held_out: str = ""
    """The prompts that are asked, with a column ``group``."""
    student: str = "bk-base"
    """A preset to prune the teacher by, or the folder of a student."""
    images: str = ""
    """A folder of captioned images; without one the teacher makes its own."""
    num_images: int = 256
    """How many it makes."""
    partitioner: str = "auto"
    steps: int = 25
    """Sampling steps of the teacher's images and of the examination."""
    guidance: float = 7.5

    def __post_init__(self) -> None:
        for name in ("teacher", "prompts", "held_out"):
            if not getattr(self, name):
                raise ValueError(f"{name} is missing: folder(teacher=…, prompts=…, held_out=…)")
        if self.student not in PRESETS and not Path(self.student).is_dir():
            raise ValueError(f"student must be {', '.join(PRESETS)} or a student's folder, got {self.student!r}")
        checks.whole("num_images", self.num_images, least=0)
        checks.whole("steps", self.steps, least=1)
        checks.non_negative("guidance", self.guidance)

    def prepare(self, place: Path, bar: Bar, device: str) -> None:
        """Check the held-out prompts, and prune the student where it is not the user's."""
        self.questions(place)
        target = place / "student"
        if self.student in PRESETS and not target.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            prune(self.teacher, target, preset=self.student)

    def settings(self, place: Path) -> dict[str, Any]:
        return {
            "pretrained_model_name_or_path": self.teacher,
            "student": str(place / "student") if self.student in PRESETS else self.student,
            "prompts": self.prompts,
            "train_data_dir": self.images,
            "num_images": self.num_images,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
        }

    def questions(self, place: Path) -> Questions:
        """Every value of the column ``group`` is a group; within it prompts count by their ``weight``, or alike."""
        asked = read_prompts(self.held_out)
        if GROUP not in asked.columns:
            have = ", ".join(sorted(asked.columns)) or "none"
            raise ValueError(f"{self.held_out}: there is no column {GROUP!r}; there are: {have}")
        weight = torch.ones(len(asked), dtype=torch.float64) if asked.weight is None else asked.weight
        rows: dict[str, list[int]] = defaultdict(list)
        for row, group in enumerate(asked.columns[GROUP]):
            rows[str(group)].append(row)
        if EVERY in rows:
            raise ValueError(f"{self.held_out}: {EVERY!r} is the group of all prompts; call this one something else")
        shares = {EVERY: torch.full((len(asked),), 1 / len(asked), dtype=torch.float64)}
        for group, members in sorted(rows.items()):
            share = torch.zeros(len(asked), dtype=torch.float64)
            share[members] = weight[members]
            if not float(share.sum()) > 0:
                raise ValueError(f"{self.held_out}: the weights of the group {group!r} must have a positive sum")
            shares[group] = share / share.sum()
        return Questions(list(asked.texts), shares)

    def regions(self) -> str:
        return self.partitioner

    def identity(self) -> str:
        """The knobs and the contents of the prompt files; that the models are the same is the engine's to check."""
        files = [Path(name) for name in (self.prompts, self.held_out)]
        told = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()]
        return " ".join([registry.spec(self), *told])
