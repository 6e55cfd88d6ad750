"""Emoji as a benchmark task: real pictures, a trained teacher, a pruned student, and captions without pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import checks, files, registry
from aria.checks import InvalidSetting
from aria.distill.evaluation.examiner import Examiner
from aria.distill.models.pipelines import open_pipeline
from aria.distill.students import prune
from aria.progress import Bar
from aria.tasks.emoji import judge, train
from aria.tasks.emoji.kinds import KINDS
from aria.tasks.emoji.pictures import PACKAGED, Pictures
from aria.tasks.emoji.recipe import RECIPES, Recipe
from aria.tasks.emoji.split import VERSION, Split
from aria.tasks.on_disk import SHORT, OnDisk, Questions

PROMPTS, IMAGES = "prompts.jsonl", "images"
GENERATED = 7
"""Seed of the noise of the teacher's own pictures."""
_UNETS: dict[str, dict[str, Any]] = {
    "mild": {"preset": "bk-base"}, "strong": {"preset": "bk-small"}, "narrow": {"width": 0.5}
}  # fmt: skip
STUDENTS: dict[str, dict[str, dict[str, Any]]] = {
    "unet-epsilon": _UNETS,
    "unet-v": _UNETS,
    "cross-attention": {
        "mild": {"blocks": (0, 1, 3, 4, 6, 7)}, "strong": {"preset": "third"}, "narrow": {"width": 0.6}
    },
    "joint-attention": {"mild": {"blocks": (0, 1, 3)}, "strong": {"preset": "half"}, "narrow": {"width": 0.6}},
}  # fmt: skip
"""How each kind of teacher is pruned: few blocks removed, many, or all kept and made narrow."""
RUNS = {
    "tiny": {"max_train_steps": 8, "train_batch_size": 4},
    "small": {"max_train_steps": 400, "train_batch_size": 16},
    "full": {"max_train_steps": 20000, "train_batch_size": 64},
}
"""Length and batch size of a student's training, by preset."""


@dataclass(frozen=True)
class Emoji(OnDisk):
    """Emoji of three designs, captioned with their Unicode names and tags.

    Half of the captions are of people, most in several skin tones: the pool's natural skew. Of some concepts, and of
    whole subcategories of a design, the student's data has no picture. The evaluation compares what student and teacher
    make from the same noise, and a classifier checks whether the student's pictures have the style and the category
    of their captions. All seeds share one world; they are the seeds of training.

    >>> Emoji().questions(Path()).prompts[0], Emoji(images=150).settings(Path("place"))["max_train_steps"]
    ('a fluent emoji about accessibility, manual, wheelchair', 400)
    """

    teacher: str = "unet-v"
    """The kind of teacher: unet-epsilon, unet-v, cross-attention or joint-attention."""
    student: str = "strong"
    """How it is pruned: mild, strong or narrow."""
    images: int = 1500
    """Number of the student's pictures; with 0 the teacher makes as many as the default, of captions not withheld."""
    captions: int = 4000
    """Number of captions in the pool."""
    asked: int = 240
    """Number of captions in the evaluation."""
    steps: int = 10
    """Sampling steps of the evaluation."""
    guidance: float = 2.0
    """Guidance scale of the evaluation."""
    preset: str = "small"
    """Size of the teachers: small are those of this package."""
    teachers: str = ""
    """Folder of ``python -m aria.tasks.emoji.teach``; by default the teachers of this package."""
    pictures: str = ""
    """Folder of pictures; by default those of this package."""

    def __post_init__(self) -> None:
        checks.one_of("preset", self.preset, tuple(RECIPES))
        checks.one_of("teacher", self.teacher, KINDS)
        checks.one_of("student", self.student, tuple(STUDENTS[self.teacher]))
        checks.whole("images", self.images, least=0)
        checks.whole("captions", self.captions, least=1)
        checks.whole("asked", self.asked, least=1)
        checks.whole("steps", self.steps, least=1)
        checks.non_negative("guidance", self.guidance)
        if not self.teachers and self.preset != "small":
            message = f"there is no teacher of the preset {self.preset} in this package: give the folder of yours"
            raise InvalidSetting("teachers", "missing", message)

    @property
    def recipe(self) -> Recipe:
        """How the teacher was made."""
        return RECIPES[self.preset]

    @cached_property
    def split(self) -> Split:
        """The captions of the pool."""
        return Split(Pictures(Path(self.pictures) if self.pictures else PACKAGED), self.captions)

    def prepare(self, place: Path, bar: Bar, device: str) -> None:
        """Make teacher, student, prompts and pictures, each of them once."""
        self.check()
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "teacher").is_dir():
            train.assemble(self._teachers, self.teacher, place / "teacher")
        if not (place / "student").is_dir():
            prune(place / "teacher", place / "student", **STUDENTS[self.teacher][self.student])
        if not (place / PROMPTS).is_file():
            rows = zip(self.split.captions, self.split.cell, strict=True)
            lines = [json.dumps({"prompt": caption, "cell": cell}, ensure_ascii=False) for caption, cell in rows]
            files.write_text(place / PROMPTS, "".join(line + "\n" for line in lines))
        if not (place / IMAGES).is_dir():
            chosen = self.split.shown(self._count)
            pixels = self._real(chosen) if self.images else self._generated(place, chosen, bar, device)
            with files.replacing_folder(place / IMAGES) as folder:
                write_images(self.split, chosen.tolist(), pixels, folder)

    def _real(self, chosen: Tensor) -> list[Any]:
        """(H, W, 3) uint8 pictures of these captions."""
        pixels = self.split.pictures.pixels()[torch.tensor([self.split.rows[caption] for caption in chosen.tolist()])]
        return list(pixels.permute(0, 2, 3, 1).numpy())

    def _generated(self, place: Path, chosen: Tensor, bar: Bar, device: str) -> list[Any]:
        """The same, made by the teacher."""
        pipeline = open_pipeline(place / "teacher").to(device)
        prompts = [self.split.captions[caption] for caption in chosen.tolist()]
        examiner = Examiner(pipeline, prompts, guidance=self.guidance, seed=GENERATED)
        with bar("images") as progress:
            made = examiner.images(examiner.latents(examiner.teacher, steps=self.steps, progress=progress))
        return list((made * 255).round().byte().permute(0, 2, 3, 1).numpy())

    def settings(self, place: Path) -> dict[str, Any]:
        return {
            "pretrained_model_name_or_path": str(place / "teacher"),
            "student": str(place / "student"),
            "prompts": str(place / PROMPTS),
            "train_data_dir": str(place / IMAGES),
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            **SHORT,
            **RUNS[self.preset],
        }

    def questions(self, place: Path) -> Questions:
        rows, stands = self.split.asked(self.asked)
        shares = {name: share[rows] * stands for name, share in self.split.groups(self._count).items()}
        groups = {name: share / share.sum() for name, share in shares.items() if float(share.sum()) > 0}
        return Questions([self.split.captions[row] for row in rows.tolist()], groups)

    def regions(self) -> str:
        return "labels('cell')"

    def identity(self) -> str:
        """The settings, how the student is pruned, the captions' version, and hashes of pictures and models."""
        parts = [train.fingerprint(self._teachers, part) for part in self._parts]
        pruned = STUDENTS[self.teacher][self.student]
        return " ".join([registry.spec(self), str(pruned), str(VERSION), self.split.pictures.digest(), *parts])

    @property
    def _parts(self) -> tuple[str, ...]:
        return train.AUTOENCODER, train.JUDGE, self.teacher

    @property
    def _count(self) -> int:
        """Number of the student's pictures, its own or the teacher's."""
        return self.images or type(self).images

    def check(self) -> None:
        """Refuse a folder that lacks the teacher or holds one of another recipe, and more pictures than there are."""
        pictures = self.split.pictures.digest()
        for part in self._parts:
            if not train.check(self._teachers, part, self.recipe, pictures):
                message = f"{self._teachers} has no {part}: python -m aria.tasks.emoji.teach makes it"
                raise InvalidSetting("teachers", "missing", message)
        self.split.shown(self._count)

    def marks(self, place: Path, images: Tensor) -> dict[str, Tensor]:
        """Whether a classifier sees the style, the category, and both, of the caption."""
        rows, _ = self.split.asked(self.asked)
        truths = judge.truths(self.split.pictures, [self.split.rows[row] for row in rows.tolist()])
        model = train.open_judge(self._teachers, self.recipe).to(images.device)
        return judge.marks(model, 2 * images - 1, *(truth.to(images.device) for truth in truths))

    @property
    def _teachers(self) -> Path:
        return Path(self.teachers) if self.teachers else train.TEACHERS


def write_images(split: Split, chosen: Sequence[int], pixels: Sequence[Any], folder: Path) -> None:
    """Write (H, W, 3) pixels of captions as PNG files, and the captions as ``metadata.jsonl``."""
    from PIL import Image

    lines = []
    for place, (caption, one) in enumerate(zip(chosen, pixels, strict=True)):
        name = f"{place:06d}.png"
        Image.fromarray(one).save(folder / name)
        lines.append(json.dumps({"file_name": name, "prompt": split.captions[caption]}, ensure_ascii=False) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
