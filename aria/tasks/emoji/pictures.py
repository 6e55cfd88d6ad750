"""Emoji of three designs, with captions made of their Unicode names and tags."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import integrity
from aria.checks import InvalidSetting
from aria.fields import TEXT, Field, check, each

STYLES = ("noto", "twemoji", "fluent")
COLUMNS = 64
"""Number of pictures in a row of a sheet."""
NAMES = "names.jsonl"
PACKAGED = Path(__file__).parent / "data"
TAGS = 3
"""Largest number of tags in a caption."""
CATEGORIES = (
    "smileys-emotion", "people-body", "animals-nature", "food-drink", "travel-places", "activities", "objects",
    "symbols", "flags",
)  # fmt: skip
"""Unicode's categories."""
FIELDS = {
    **dict.fromkeys(("name", "concept", "subcategory"), TEXT),
    "category": Field(lambda value: value in CATEGORIES, f"one of {', '.join(CATEGORIES)}"),
    "tags": each(TEXT, of="texts"),
    "styles": each(Field(lambda value: value in STYLES, "a style"), of=f"{', '.join(STYLES)}"),
}
"""What a line of the names holds."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures in a folder of ``python -m benchmarks.emoji_pictures``, by default those of this package.

    >>> pictures = Pictures()
    >>> len(pictures), pictures.side, pictures.names[0]
    (10701, 32, 'a noto emoji of grinning face')
    """

    folder: Path = PACKAGED
    style: tuple[int, ...] = field(init=False, repr=False)
    """Number of the style in :data:`STYLES`, of each picture."""
    names: tuple[str, ...] = field(init=False, repr=False)
    """Caption of each picture by its name."""
    tagged: tuple[str | None, ...] = field(init=False, repr=False)
    """Caption of each picture by its tags; None of pictures that differ in skin tone only."""
    concept: tuple[str, ...] = field(init=False, repr=False)
    """Name without the skin tone."""
    category: tuple[str, ...] = field(init=False, repr=False)
    subcategory: tuple[str, ...] = field(init=False, repr=False)
    side: int = field(init=False)

    def __post_init__(self) -> None:
        if not (self.folder / NAMES).is_file():
            message = f"{self.folder} is no folder of emoji: it has no {NAMES}"
            raise InvalidSetting("pictures", "file", message)
        lines = (self.folder / NAMES).read_text(encoding="utf-8").splitlines()
        emoji = [_checked(self.folder / NAMES, number, line) for number, line in enumerate(lines, 1)]
        rows = [(number, row) for number, style in enumerate(STYLES) for row in emoji if style in row["styles"]]
        words = [f"a {STYLES[number]} emoji" for number, _ in rows]
        set_ = object.__setattr__
        set_(self, "style", tuple(number for number, _ in rows))
        set_(self, "names", tuple(f"{start} of {plain(row['name'])}" for start, (_, row) in zip(words, rows)))
        set_(self, "tagged", tuple(_tagged(start, row) for start, (_, row) in zip(words, rows)))
        for name in ("concept", "category", "subcategory"):
            set_(self, name, tuple(str(row[name]) for _, row in rows))
        with _opened(self.folder / f"{STYLES[0]}.webp") as sheet:
            set_(self, "side", sheet.width // COLUMNS)

    def __len__(self) -> int:
        return len(self.names)

    def images(self) -> Tensor:
        """(N, 3, side, side) all pictures in [−1, 1]."""
        return self.pixels().float() / 127.5 - 1

    def pixels(self) -> Tensor:
        """(N, 3, side, side) uint8, all pictures."""
        return torch.cat([self._sheet(number, style) for number, style in enumerate(STYLES)])

    def digest(self) -> str:
        """A hash of the pictures and their names."""
        parts = [integrity.digest(self.folder / name) for name in (NAMES, *(f"{style}.webp" for style in STYLES))]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]

    def _sheet(self, number: int, style: str) -> Tensor:
        import numpy

        count, path = self.style.count(number), self.folder / f"{style}.webp"
        with _opened(path) as opened:
            size, expected = opened.size, (COLUMNS * self.side, -(-count // COLUMNS) * self.side)
            if size != expected:
                message = f"{path} must have {expected[0]} × {expected[1]} pixels, it has {size[0]} × {size[1]}"
                raise InvalidSetting("pictures", "file", message)
            sheet = torch.from_numpy(numpy.array(opened.convert("RGB")))
        cells = sheet.view(-1, self.side, COLUMNS, self.side, 3).permute(0, 2, 4, 1, 3)
        return cells.reshape(-1, 3, self.side, self.side)[:count].contiguous()


def plain(name: str) -> str:
    """A name in words and commas.

    >>> plain("waving hand: medium-light skin tone"), plain("flag: Côte d’Ivoire")
    ('waving hand, medium-light skin tone', 'flag, côte d’ivoire')
    """
    return re.sub(r"\s+", " ", name.lower().replace(":", ",").replace("“", "").replace("”", "")).strip()


def _checked(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InvalidSetting("pictures", "file", f"{path}, line {number}: no JSON: {error}") from None
    return check(f"{path}, line {number}", value, FIELDS)


def _tagged(start: str, row: dict[str, Any]) -> str | None:
    if row["name"] != row["concept"]:
        return None
    return f"{start} about {', '.join(row['tags'])}" if len(row["tags"]) > 1 else None


def _opened(path: Path):  # type: ignore[no-untyped-def]
    from PIL import Image

    try:
        return Image.open(path)
    except OSError as error:
        raise InvalidSetting("pictures", "file", f"{path} cannot be read: {error}") from error
