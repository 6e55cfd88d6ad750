"""How the teachers of emoji are made: everything that determines them, in one value with a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from aria import checks
from aria.checks import InvalidSetting
from aria.tasks.course import Course
from aria.tasks.emoji.kinds import CrossAttention, JointAttention, Kind, UNet

VERSION = 1
"""Raised whenever the training code changes, so that older teachers are not taken for new ones."""


@dataclass(frozen=True)
class Recipe:
    """The autoencoder, which all teachers share, the judge, and the kinds of teacher with how long each is trained."""

    kinds: Mapping[str, tuple[Kind, Course]]
    autoencoder: Course = field(default=Course(5000, 16, 2e-3, 0.999))
    widths: tuple[int, ...] = (24, 48, 64)
    """Widths of the autoencoder's three stages."""
    balance: float = 0.25
    """How much rarer the pictures of a concept are shown that has many, as people in all skin tones: each of ``n`` with
    the weight n^−balance."""
    judge: Course = field(default=Course(3000, 64, 2e-3))
    judge_width: int = 24
    side: int = 32
    """Width and height of the pictures."""
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.widths) != 3:
            raise InvalidSetting("widths", "range", f"widths must be 3 numbers, got {self.widths}")
        checks.whole("side", self.side, least=16)
        checks.closed_unit("balance", self.balance)

    def kind(self, name: str) -> tuple[Kind, Course]:
        """The kind of teacher called ``name`` and its training."""
        checks.one_of("teacher", name, tuple(self.kinds))
        return self.kinds[name]

    def record(self, part: str, pictures: str) -> dict[str, Any]:
        """What determines a part – ``"autoencoder"``, ``"judge"`` or a kind of teacher – as plain values.

        ``pictures`` is the hash of the pictures.
        """
        shared: dict[str, Any] = {"version": VERSION, "pictures": pictures, "side": self.side, "seed": self.seed}
        if part == "judge":
            return _plain(shared | {"course": asdict(self.judge), "width": self.judge_width})
        coder = {"autoencoder": asdict(self.autoencoder), "widths": self.widths}
        if part == "autoencoder":
            return _plain(shared | coder)
        kind, course = self.kind(part)
        made = {"kind": type(kind).__name__, **vars(kind), "course": asdict(course), "balance": self.balance}
        return _plain(shared | coder | made)

    def digest(self, part: str, pictures: str) -> str:
        """A hash of :meth:`record`, the same in every process."""
        text = json.dumps(self.record(part, pictures), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain


SMALL = Recipe(
    {
        "unet-epsilon": (UNet("epsilon"), Course(20000, 16, 1.2e-3, 0.9995)),
        "unet-v": (UNet("v_prediction"), Course(20000, 16, 1.2e-3, 0.9995)),
        "cross-attention": (CrossAttention(), Course(7500, 32, 1e-3, 0.999)),
        "joint-attention": (JointAttention(), Course(3600, 32, 1e-3, 0.999)),
    }
)
"""For a CPU: 45 minutes of one core for each teacher, a quarter of them for the autoencoder that all share."""
FULL = Recipe(
    {
        "unet-epsilon": (UNet("epsilon", (128, 256, 256), 256, 4), Course(40000, 256, 5e-4, 0.9995)),
        "unet-v": (UNet("v_prediction", (128, 256, 256), 256, 4), Course(40000, 256, 5e-4, 0.9995)),
        "cross-attention": (CrossAttention(8, 48, 12, 2, 256, 4), Course(40000, 256, 3e-4, 0.9995)),
        "joint-attention": (JointAttention(8, 48, 12, 2, 128, 4), Course(40000, 256, 3e-4, 0.9995)),
    },
    autoencoder=Course(20000, 64, 1e-3, 0.9995),
    widths=(64, 128, 128),
    judge=Course(10000, 256, 1e-3),
    judge_width=48,
    side=64,
)
"""For a GPU, in bfloat16, on pictures of 64 pixels a side."""
TINY = Recipe(
    {
        "unet-epsilon": (UNet("epsilon", (8, 16), 16, 1), Course(4, 4, 2e-3)),
        "unet-v": (UNet("v_prediction", (8, 16), 16, 1), Course(4, 4, 2e-3)),
        "cross-attention": (CrossAttention(2, 8, 8, 2, 16, 1), Course(4, 4, 2e-3)),
        "joint-attention": (JointAttention(2, 8, 4, 4, 16, 2), Course(4, 4, 2e-3)),
    },
    autoencoder=Course(4, 4, 2e-3),
    widths=(8, 8, 8),
    judge=Course(4, 8, 2e-3),
    judge_width=4,
)
"""For tests: takes seconds, and does not learn to draw."""
RECIPES = {"tiny": TINY, "small": SMALL, "full": FULL}
