"""Reading a scene back from an image: a small convolutional network trained on drawings."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aria import files
from aria.progress import Report
from aria.tasks.course import Course, fit
from aria.tasks.shapes.render import render
from aria.tasks.shapes.scenes import ABOVE, BESIDE, NONE, SIZES, Facts, Scenes
from aria.tasks.worn import worn

ATTRIBUTES = ("shape", "colour", "size", "place")
"""What is classified; the place is that of one object, or the relation of two."""


class Reader(nn.Module):
    """Classifies the layout of an image and the object in each of its slots."""

    def __init__(self, scenes: Scenes, width: int = 16) -> None:
        super().__init__()
        self.sizes = (BESIDE + 1, scenes.shapes, scenes.shapes, scenes.colours, scenes.colours, len(SIZES))
        layers: list[nn.Module] = []
        for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.see = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * 16, 128), nn.ReLU())
        self.say = nn.Linear(128, sum(self.sizes))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits of the layout, both shapes, both colours and the size; ``images`` are (N, 3, 32, 32) in [−1, 1]."""
        return torch.split_with_sizes(self.say(self.see(images)), self.sizes, 1)

    @torch.no_grad()
    def read(self, images: Tensor) -> Facts:
        """The most likely scene of each image."""
        layout, *slots, size = (logits.argmax(1) for logits in self(images))
        two = layout >= ABOVE
        shape, colour = torch.stack(slots[:2], 1), torch.stack(slots[2:], 1)
        size = torch.stack([torch.where(two, NONE, size), torch.full_like(size, NONE)], 1)
        for value in (shape, colour):
            value[:, 1] = torch.where(two, value[:, 1], NONE)
        return Facts(layout, shape, colour, size)


def train_reader(scenes: Scenes, course: Course, *, seed: int, device: str, progress: Report) -> Reader:
    """A reader of ``scenes``, trained on drawings that are blurred and noisy, as generated images are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = Reader(scenes).to(device)

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(scenes), (course.batch_size,), generator=generator, device=device)
        facts = scenes.facts[rows.cpu()].to(device)
        images = worn(render(facts, generator), generator)
        truths = (facts.layout, *facts.shape.unbind(1), *facts.colour.unbind(1), facts.size[:, 0])
        return torch.stack(
            [_error(logits, truth) for logits, truth in zip(reader(images), truths, strict=True)]
        ).sum()

    fit(reader, loss, course, seed=seed, progress=progress)
    return reader


def marks(read: Facts, described: Facts) -> dict[str, Tensor]:
    """(N,) by attribute: 1 where the image shows what the caption describes, 0 where it does not, NaN where the caption
    does not mention the attribute.

    Of two objects both must be right, each in its place.
    """
    right = {name: (getattr(read, name) == getattr(described, name)).all(1) for name in ("shape", "colour", "size")}
    scores = {name: value.double() for name, value in right.items()}
    scores["place"] = (read.layout == described.layout).double()
    scores["size"] = torch.where(described.layout < ABOVE, scores["size"], torch.nan)
    return {name: scores[name] for name in ATTRIBUTES}


def save_reader(reader: Reader, path: Path) -> None:
    """Write the weights of a reader."""
    files.write_tensors(path, reader.state_dict())


def load_reader(scenes: Scenes, path: Path) -> Reader:
    """The reader that :func:`save_reader` wrote."""
    reader = Reader(scenes)
    reader.load_state_dict(load_file(path))
    return reader.eval()


def _error(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy over the images that have the attribute."""
    return nn.functional.cross_entropy(logits, truth, ignore_index=NONE, reduction="sum") / len(truth)
