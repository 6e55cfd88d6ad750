"""Real 8 × 8 digits in several styles, with a teacher that is exact for these images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aria import checks
from aria.distill.data.memory import EncodingsInMemory, LatentsInMemory
from aria.distill.teachers.teacher import Teacher
from aria.pool import Pool
from aria.tasks.base import Task, World, check_unseen, held_out_groups
from aria.tasks.concepts import TIMESTEPS, scaled_linear, told_tokens
from aria.tasks.film import FilmMLP
from aria.tasks.mixture import MixtureTeacher

DIM, EXAMPLES = 12, 64
STYLES: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "negative": lambda x: -x,
    "mirrored": lambda x: x.flip(-1),
    "upside down": lambda x: x.flip(-2),
    "lying": lambda x: x.transpose(-1, -2),
    "edges": lambda x: (x - x.roll(1, -1)) * 0.8,
}


@dataclass(frozen=True)
class Digits(Task):
    """Ten digits × six styles, with two tokens for each condition; the images are scikit-learn's (E. Alpaydin,
    C. Kaynak, 1998).

    The teacher is the posterior mean under the empirical distribution of each condition's examples, smoothed by a
    little noise (empirical Bayes), so discrepancies can be computed exactly.

    >>> len(Digits().world(0).pool)
    60
    """

    skew: float = 1.0
    unseen: float = 1 / 3
    """Share of each style's digits that have no images."""
    images: int = 2000
    width: int = 48
    steps: int = 2000

    def __post_init__(self) -> None:
        checks.non_negative("skew", self.skew)
        checks.closed_unit("unseen", self.unseen)
        checks.whole("images", self.images, least=1)
        checks.whole("width", self.width, least=1)
        checks.whole("steps", self.steps, least=1)
        check_unseen("digits of a style", self.unseen, 10)

    def world(self, seed: int) -> World:
        generator = torch.Generator().manual_seed(seed)
        examples = _examples(generator)  # (10, E, 8, 8)
        templates = torch.stack([draw(examples) for draw in STYLES.values()]).flatten(0, 1).flatten(2)  # (60, E, 64)
        style, digit = torch.arange(len(STYLES)).repeat_interleave(10), torch.arange(10).repeat(len(STYLES))
        order = torch.stack([torch.randperm(10, generator=generator) for _ in STYLES])  # (6, 10) rank of each digit
        rank = order[style, digit]
        share = (style + 1.0).double() ** -self.skew * (rank + 1.0).double() ** (-self.skew / 2)
        share = share / share.sum()
        unseen = rank >= 10 - round(10 * self.unseen)
        by_style, by_digit = (torch.randn(count, DIM, generator=generator) for count in (len(STYLES), 10))
        tokens = torch.stack([by_style[style], by_digit[digit]], 1)  # (60, 2, D)
        schedule = scaled_linear(TIMESTEPS)
        pixels = templates.shape[-1]
        model = MixtureTeacher(templates, share.float(), torch.eye(pixels), torch.full((pixels,), 0.01), schedule)
        shown = torch.multinomial(share * ~unseen, self.images, replacement=True, generator=generator)
        which = torch.randint(EXAMPLES, (self.images,), generator=generator)
        noise = 0.1 * torch.randn(self.images, pixels, generator=generator)
        images = LatentsInMemory((templates[shown, which] + noise).view(-1, 1, 8, 8), shown)
        null = {"tokens": torch.zeros(1, 2, DIM), "concept": torch.tensor([len(tokens)])}
        columns = {"style": [list(STYLES)[place] for place in style.tolist()], "digit": digit.tolist()}
        columns["concept"] = list(range(len(tokens)))
        return World(
            Teacher(model, told_tokens, schedule, "epsilon"),
            Pool(embeddings=tokens.flatten(1).numpy(), columns=columns, weight=share),
            EncodingsInMemory({"tokens": tokens, "concept": torch.arange(len(tokens))}, null),
            images,
            held_out_groups(share, share >= share.quantile(0.8), share <= share.median(), unseen),
        )

    def student(self, seed: int) -> nn.Module:
        return FilmMLP(64, 2 * DIM, self.width, scaled_linear(TIMESTEPS), seed=seed)


def _examples(generator: torch.Generator) -> Tensor:
    """(10, E, 8, 8) images of each digit, from −1 to 1."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images, target = torch.from_numpy(data.images).float() / 8 - 1, torch.from_numpy(data.target)
    chosen = []
    for digit in range(10):
        places = (target == digit).nonzero()[:, 0]
        chosen.append(images[places[torch.randperm(len(places), generator=generator)[:EXAMPLES]]])
    return torch.stack(chosen)
