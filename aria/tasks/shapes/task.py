"""Scenes as a benchmark task: a trained teacher, a student pruned from it, and many captions, few with images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import checks, files, registry
from aria.checks import InvalidSetting
from aria.distill.data.latents import generator
from aria.distill.students import PRESETS, prune
from aria.progress import Bar
from aria.tasks.on_disk import SHORT, OnDisk, Questions
from aria.tasks.shapes.reader import ATTRIBUTES, Reader, load_reader, marks
from aria.tasks.shapes.recipe import RECIPES, Recipe
from aria.tasks.shapes.render import render
from aria.tasks.shapes.scenes import Scenes
from aria.tasks.shapes.train import READER, make_teacher

PROMPTS, IMAGES = "prompts.jsonl", "images"
RUNS = {
    "tiny": {"max_train_steps": 8, "train_batch_size": 4},
    "small": {"max_train_steps": 800, "train_batch_size": 32},
    "full": {"max_train_steps": 10000, "train_batch_size": 64},
}
"""Length and batch size of a student's training, by preset."""


@dataclass(frozen=True)
class Shapes(OnDisk):
    """Scenes of one or two objects (32 × 32), whose captions follow Zipf's law over shapes and over colours.

    Some combinations of shape and colour appear in no image: the pool has only their captions. The evaluation compares
    the images that student and teacher make from the same noise, and a classifier checks whether the student's images
    show what their captions describe. All seeds share one world; they are the seeds of training.

    >>> Shapes().scenes.captions[0], Shapes().settings(Path("place"))["max_train_steps"]
    ('a small red circle at the top left', 800)
    """

    preset: str = "small"
    teacher: str = ""
    """Folder of the teacher, which is trained if the folder is empty; by default in the task's own folder."""
    student: str = "bk-small"
    """A preset of block removal, or a block map in JSON."""
    width: float = 1.0
    """Width of the student relative to the teacher."""
    images: int = 1500
    """Number of training images."""
    asked: int = 160
    """Largest number of captions in the evaluation."""
    steps: int = 10
    """Sampling steps of the evaluation."""
    guidance: float = 2.0
    """Guidance scale of the evaluation."""

    def __post_init__(self) -> None:
        checks.one_of("preset", self.preset, tuple(RECIPES))
        if self.student not in PRESETS:
            self._block_map()
        checks.half_open_unit("width", self.width)
        checks.whole("images", self.images, least=1)
        checks.whole("asked", self.asked, least=1)
        checks.whole("steps", self.steps, least=1)
        checks.non_negative("guidance", self.guidance)

    @property
    def recipe(self) -> Recipe:
        """How the teacher is made."""
        return RECIPES[self.preset]

    @property
    def scenes(self) -> Scenes:
        """All captions and the scenes they describe."""
        return self.recipe.scenes

    def prepare(self, place: Path, bar: Bar, device: str) -> None:
        """Make teacher, student, prompts and images, each of them once."""
        place.mkdir(parents=True, exist_ok=True)
        teacher = make_teacher(self._teacher(place), self.recipe, bar=bar, device=device)
        if not (place / "student").is_dir():
            blocks: dict[str, Any] = (
                {"preset": self.student} if self.student in PRESETS else {"block_map": self._block_map()}
            )
            prune(teacher, place / "student", width=None if self.width == 1 else self.width, **blocks)
        if not (place / PROMPTS).is_file():
            rows = zip(self.scenes.captions, self.scenes.share.tolist(), strict=True)
            prompts = [
                {"prompt": text, "weight": share, "concept": self.scenes.concept(row)}
                for row, (text, share) in enumerate(rows)
            ]
            files.write_text(place / PROMPTS, "".join(json.dumps(row) + "\n" for row in prompts))
        if not (place / IMAGES).is_dir():
            with files.replacing_folder(place / IMAGES) as folder, bar("images") as progress:
                draw_images(self.scenes, self.images, folder, progress)

    def settings(self, place: Path) -> dict[str, Any]:
        return {
            "pretrained_model_name_or_path": str(self._teacher(place)),
            "student": str(place / "student"),
            "prompts": str(place / PROMPTS),
            "train_data_dir": str(place / IMAGES),
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            **SHORT,
            **RUNS[self.preset],
        }

    def questions(self, place: Path) -> Questions:
        chosen = self._chosen
        groups = {name: share[chosen] for name, share in self.scenes.groups().items()}
        shares = {name: share / share.sum() for name, share in groups.items() if float(share.sum()) > 0}
        return Questions([self.scenes.captions[row] for row in chosen.tolist()], shares)

    def regions(self) -> str:
        return "labels('concept')"

    def identity(self) -> str:
        return f"{registry.spec(self)} {self.recipe.digest()}"

    def marks(self, place: Path, images: Tensor) -> dict[str, Tensor]:
        """Whether the images show the caption's shape, colour, size and place; their mean is the accuracy."""
        reader = self._reader(place).to(images.device)
        read = reader.read(2 * images - 1)
        found = marks(read, self.scenes.facts[self._chosen].to(images.device))
        every = torch.stack([found[name] for name in ATTRIBUTES])
        return {"accuracy": every.nanmean(0), **found}

    @cached_property
    def _chosen(self) -> Tensor:
        """(M,) the captions of the evaluation, the same for all runs, in order."""
        order = torch.randperm(len(self.scenes), generator=torch.Generator().manual_seed(1))
        return order[: self.asked].sort()[0]

    def _reader(self, place: Path) -> Reader:
        return load_reader(self.scenes, self._teacher(place) / READER)

    def _teacher(self, place: Path) -> Path:
        return Path(self.teacher) if self.teacher else place / "teacher"

    def _block_map(self) -> dict[str, Any]:
        try:
            found = json.loads(self.student)
        except json.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            message = f"student must be {', '.join(PRESETS)} or a block map in JSON, got {self.student!r}"
            raise InvalidSetting("student", "choice", message)
        return found


def draw_images(scenes: Scenes, count: int, folder: Path, progress: Any) -> None:
    """Write drawings as PNG files and their captions as ``metadata.jsonl``. Captions are drawn by their frequencies;
    unseen ones have no image."""
    from PIL import Image

    random = torch.Generator().manual_seed(2)
    rows = torch.multinomial(scenes.share * ~scenes.unseen, count, replacement=True, generator=random)
    lines = []
    for place, row in enumerate(rows.tolist()):
        image = render(scenes.facts[torch.tensor([row])], generator(3, place))[0]
        pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        name = f"{place:06d}.png"
        Image.fromarray(pixels).save(folder / name)
        lines.append(json.dumps({"file_name": name, "prompt": scenes.captions[row]}) + "\n")
        progress(place + 1, count)
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
