"""Reading a picture: a convolutional network that names its style and its category, trained on the real pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aria import files
from aria.progress import Report
from aria.tasks.course import Course, fit
from aria.tasks.emoji.pictures import CATEGORIES, STYLES, Pictures
from aria.tasks.worn import worn


class Judge(nn.Module):
    """Classifies pictures (N, 3, H, W) in [−1, 1] by style and category."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        cells = (side // 8) ** 2
        self.see = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * cells, 128), nn.ReLU())
        self.say = nn.Linear(128, len(STYLES) + len(CATEGORIES))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3) logits of the style and (N, 9) of the category."""
        style, category = torch.split_with_sizes(self.say(self.see(images)), (len(STYLES), len(CATEGORIES)), 1)
        return style, category


def marks(judge: Judge, images: Tensor, style: Tensor, category: Tensor) -> dict[str, Tensor]:
    """(N,) float64 each: 1 where the judge names the style, the category, and both, of the caption; 0 where not."""
    with torch.no_grad():
        found = [logits.argmax(1) for logits in judge(images)]
    right = [(one == truth).double() for one, truth in zip(found, (style, category), strict=True)]
    return {"style": right[0], "category": right[1], "accuracy": right[0] * right[1]}


def truths(pictures: Pictures, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(N,) numbers of the style and of the category of these pictures."""
    style = torch.tensor([pictures.style[row] for row in rows])
    return style, torch.tensor([CATEGORIES.index(pictures.category[row]) for row in rows])


def train_judge(
    pictures: Pictures, held_out: Tensor, width: int, course: Course, *, seed: int, device: str, progress: Report
) -> Judge:
    """A judge trained on worn pictures, as generators make them, without those of the mask ``held_out`` (N,)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge(width, pictures.side).to(device)
    images = pictures.images().to(device)
    style, category = (truth.to(device) for truth in truths(pictures, range(len(pictures))))
    kept = (~held_out).nonzero()[:, 0].to(device)
    commonness = torch.bincount(category[kept], minlength=len(CATEGORIES))[category[kept]].double()
    weight = commonness**-0.5

    def loss(generator: torch.Generator) -> Tensor:
        rows = kept[torch.multinomial(weight, course.batch_size, replacement=True, generator=generator)]
        logits = judge(worn(images[rows], generator))
        errors = [
            nn.functional.cross_entropy(one, truth[rows]) for one, truth in zip(logits, (style, category), strict=True)
        ]
        return torch.stack(errors).sum()

    fit(judge, loss, course, seed=seed, progress=progress)
    return judge


def save_judge(judge: Judge, path: Path) -> None:
    """Write the weights of a judge in half precision."""
    files.write_tensors(path, {name: value.half() for name, value in judge.state_dict().items()})


def load_judge(path: Path, width: int, side: int) -> Judge:
    """The judge that :func:`save_judge` wrote."""
    judge = Judge(width, side)
    judge.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return judge.eval()
