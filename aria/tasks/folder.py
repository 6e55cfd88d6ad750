"""A task from your own files: a teacher on disk or on the hub, a student, a pool of prompts, and held-out prompts."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aria import checks, registry
from aria.checks import InvalidSetting
from aria.distill.data.prompt_files import read_prompts
from aria.distill.students import PRESETS, prune
from aria.progress import Bar
from aria.tasks.on_disk import OnDisk, Questions

GROUP = "group"
"""The column of the held-out prompts that holds the group of each."""
EVERY = "uniform"
"""The group of all held-out prompts, with equal weights."""


@dataclass(frozen=True)
class Folder(OnDisk):
    """A comparison on your own models and prompts.

    >>> Folder(teacher="teacher", prompts="pool.jsonl", held_out="held-out.jsonl").student
    'bk-base'
    """

    teacher: str = ""
    """Folder of a diffusers pipeline, or its name on the hub."""
    prompts: str = ""
    """File of the pool of prompts, with any columns and weights."""
    held_out: str = ""
    """File of the prompts on which students are evaluated, with a column ``group``."""
    student: str = "bk-base"
    """A preset by which the teacher is pruned, or the folder of a student."""
    images: str = ""
    """Folder of captioned images; without it the teacher generates images."""
    num_images: int = 256
    """Number of images that the teacher generates."""
    partitioner: str = "auto"
    """Partitioner of arms that do not set one."""
    steps: int = 25
    """Sampling steps of the teacher's images and of the evaluation."""
    guidance: float = 7.5
    """Guidance scale of both."""

    def __post_init__(self) -> None:
        for name in ("teacher", "prompts", "held_out"):
            if not getattr(self, name):
                raise InvalidSetting(name, "missing", f"{name} is missing: folder(teacher=…, prompts=…, held_out=…)")
        if self.student not in PRESETS and not Path(self.student).is_dir():
            message = f"student must be {', '.join(PRESETS)} or a student's folder, got {self.student!r}"
            raise InvalidSetting("student", "choice", message)
        checks.whole("num_images", self.num_images, least=0)
        checks.whole("steps", self.steps, least=1)
        checks.non_negative("guidance", self.guidance)

    def prepare(self, place: Path, bar: Bar, device: str) -> None:
        """Check the held-out prompts, and prune the student unless it is a folder of yours."""
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
        """Every value of the column ``group`` is a group. Its prompts have the weights in the column ``weight``, or
        equal ones."""
        prompts = read_prompts(self.held_out)
        if GROUP not in prompts.columns:
            have = ", ".join(sorted(prompts.columns)) or "none"
            raise ValueError(f"{self.held_out}: there is no column {GROUP!r}; there are: {have}")
        weight = torch.ones(len(prompts), dtype=torch.float64) if prompts.weight is None else prompts.weight
        rows: dict[str, list[int]] = defaultdict(list)
        for row, group in enumerate(prompts.columns[GROUP]):
            rows[str(group)].append(row)
        if EVERY in rows:
            raise ValueError(f"{self.held_out}: {EVERY!r} is the group of all prompts; call this one something else")
        shares = {EVERY: torch.full((len(prompts),), 1 / len(prompts), dtype=torch.float64)}
        for group, members in sorted(rows.items()):
            share = torch.zeros(len(prompts), dtype=torch.float64)
            share[members] = weight[members]
            if not float(share.sum()) > 0:
                raise ValueError(f"{self.held_out}: the weights of the group {group!r} must have a positive sum")
            shares[group] = share / share.sum()
        return Questions(list(prompts.texts), shares)

    def regions(self) -> str:
        return self.partitioner

    def identity(self) -> str:
        """The settings, hashes of the prompt files, and the state of the folders of models and images: names, sizes and
        times of their files. A teacher that was trained again has other runs, and so has a copy."""
        files = [Path(name) for name in (self.prompts, self.held_out)]
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()]
        folders = [Path(name) for name in (self.teacher, self.student, self.images) if name]
        return " ".join([registry.spec(self), *hashes, *(_state(folder) for folder in folders if folder.is_dir())])


def _state(folder: Path) -> str:
    """A hash that changes when a file in the folder does, without reading the files."""
    stats = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    rows = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in sorted(stats.items())]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
