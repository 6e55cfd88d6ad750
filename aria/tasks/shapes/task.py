"""Scenes as a benchmark task: a trained teacher, a student pruned from it, and many captions of which few have images.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import checks, files, registry
from aria.distill.data.latents import generator
from aria.distill.students import PRESETS, prune
from aria.progress import Bar
from aria.tasks.on_disk import OnDisk, Questions
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
"""How long a student is trained, by preset."""


@dataclass(frozen=True)
class Shapes(OnDisk):
    """Scenes of one or two objects (32 × 32), whose captions follow Zipf's law over shapes and over colours.

    Some shapes and colours are never seen together in an image: their captions are there as texts alone. The
    examination compares what student and teacher make from the same noise, and reads back from the student's images
    what the captions ask for. The world is one; seeds are those of the training.

    >>> Shapes().scenes.captions[0], Shapes().settings(Path("place"))["max_train_steps"]
    ('a small red circle at the top left', 800)
    """

    preset: str = "small"
    teacher: str = ""
    """Folder of the teacher, made there unless it is there; by default in the task's own folder."""
    student: str = "bk-small"
    """A preset of block removal, or a block map in JSON."""
    width: float = 1.0
    """How wide the student is, as a part of the teacher."""
    images: int = 1500
    """Drawings that the run sees."""
    asked: int = 160
    """Captions of the examination, at most."""
    steps: int = 10
    """Sampling steps of the examination."""
    guidance: float = 2.0

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
        """Of the teacher."""
        return RECIPES[self.preset]

    @property
    def scenes(self) -> Scenes:
        """What there is to be drawn."""
        return self.recipe.scenes

    def prepare(self, place: Path, bar: Bar, device: str) -> None:
        """Teacher, student, prompts and images; each is made once."""
        place.mkdir(parents=True, exist_ok=True)
        teacher = make_teacher(self._teacher(place), self.recipe, bar=bar, device=device)
        if not (place / "student").is_dir():
            blocks: dict[str, Any] = (
                {"preset": self.student} if self.student in PRESETS else {"block_map": self._block_map()}
            )
            prune(teacher, place / "student", width=None if self.width == 1 else self.width, **blocks)
        if not (place / PROMPTS).is_file():
            rows = zip(self.scenes.captions, self.scenes.share.tolist(), strict=True)
            told = [
                {"prompt": text, "weight": share, "concept": self.scenes.concept(row)}
                for row, (text, share) in enumerate(rows)
            ]
            files.write_text(place / PROMPTS, "".join(json.dumps(row) + "\n" for row in told))
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
            "objective": ("output",),
            "learning_rate": 1e-3,
            "adam_weight_decay": 0.0,
            "ema_decay": 0.995,
            "every": 10,
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
        """Whether shape, colour, size and place are those of the caption, and the share of them that are."""
        reader = self._reader(place).to(images.device)
        seen = reader.read(2 * images - 1)
        found = marks(seen, self.scenes.facts[self._chosen].to(images.device))
        every = torch.stack([found[name] for name in ATTRIBUTES])
        return {"accuracy": every.nanmean(0), **found}

    @cached_property
    def _chosen(self) -> Tensor:
        """(M,) captions of the examination, drawn once for all, in order."""
        order = torch.randperm(len(self.scenes), generator=torch.Generator().manual_seed(1))
        return order[: self.asked].sort()[0]

    def _reader(self, place: Path) -> Reader:
        return load_reader(self.scenes, self._teacher(place) / READER)

    def _teacher(self, place: Path) -> Path:
        return Path(self.teacher) if self.teacher else place / "teacher"

    def _block_map(self) -> dict[str, Any]:
        try:
            told = json.loads(self.student)
        except json.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            raise ValueError(f"student must be {', '.join(PRESETS)} or a block map in JSON, got {self.student!r}")
        return told


def draw_images(scenes: Scenes, count: int, folder: Path, progress: Any) -> None:
    """Captioned drawings as PNG files with their ``metadata.jsonl``, as frequent as their captions; none of unseen."""
    from PIL import Image

    chance = torch.Generator().manual_seed(2)
    rows = torch.multinomial(scenes.share * ~scenes.unseen, count, replacement=True, generator=chance)
    lines = []
    for place, row in enumerate(rows.tolist()):
        image = render(scenes.facts[torch.tensor([row])], generator(3, place))[0]
        pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        name = f"{place:06d}.png"
        Image.fromarray(pixels).save(folder / name)
        lines.append(json.dumps({"file_name": name, "prompt": scenes.captions[row]}) + "\n")
        progress(place + 1, count)
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
