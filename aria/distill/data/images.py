"""A folder of captioned images, read one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aria.distill.data.prompt_files import NAMES, json_object, lines, spelled

METADATA = "metadata.jsonl"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class Image(NamedTuple):
    """An image file and its caption."""

    path: Path
    caption: str


def read_images(folder: str | Path, *, column: str | None = None) -> list[Image]:
    """The images of a folder, sorted by path.

    Captions are in ``metadata.jsonl``, one object a line with ``file_name`` and ``column`` (else the first of ``text``,
    ``prompt``, ``caption``), or beside each image in a .txt file of the same name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder of images {folder}")
    metadata = folder / METADATA
    found = _listed(metadata, column) if metadata.is_file() else _beside(folder)
    if not found:
        raise ValueError(f"{folder} holds no image ending in {', '.join(sorted(SUFFIXES))}")
    return sorted(found)


def _listed(metadata: Path, column: str | None) -> list[Image]:
    """The images that a metadata file lists."""
    found = []
    for number, line in lines(metadata):
        if not line.strip():
            continue
        row = json_object(metadata, number, line)
        if not isinstance(row.get("file_name"), str):
            raise ValueError(f"{metadata}, line {number}: it must be an object with a file_name")
        names = [column] if column is not None else [name for name in NAMES if name in row]
        caption = spelled(names[0], row.get(names[0])) if names else None
        if not isinstance(caption, str):
            wanted, have = column or ", ".join(NAMES), ", ".join(sorted(row))
            raise ValueError(f"{metadata}, line {number}: no caption in {wanted}; there are: {have}")
        path = metadata.parent / row["file_name"]
        if not path.is_file():
            raise ValueError(f"{metadata}, line {number}: there is no image {path}")
        found.append(Image(path, caption.strip()))
    return found


def _beside(folder: Path) -> list[Image]:
    """The images with a .txt file beside each."""
    found = []
    for path in folder.rglob("*"):
        if path.suffix.lower() in SUFFIXES:
            text = path.with_suffix(".txt")
            if not text.is_file():
                raise ValueError(f"{path} has no caption: neither {folder / METADATA} nor {text} exists")
            try:
                found.append(Image(path, text.read_text(encoding="utf-8-sig").strip()))
            except UnicodeDecodeError as error:
                raise ValueError(f"{text}: not UTF-8 at byte {error.start}") from None
    return found


def pixels(path: Path, side: int) -> Tensor:
    """(3, side, side) in [−1, 1]: the image upright, scaled to cover the square, cut to its middle."""
    import numpy as np
    from PIL import Image as Pictures
    from PIL import ImageOps

    try:
        with Pictures.open(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, Pictures.DecompressionBombError) as error:
        raise ValueError(f"{path}: no image that can be read: {error}") from None
    square = ImageOps.fit(picture, (side, side), Pictures.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1).float() / 127.5 - 1
