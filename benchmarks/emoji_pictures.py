"""Collects the pictures of ``aria.tasks.emoji`` from three npm packages and the names from a fourth.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0 \\
        @iconify-json/fluent-emoji-flat@1.2.6 emojibase-data@17.0.0
    pip install resvg-py
    python -m benchmarks.emoji_pictures --packages . --out aria/tasks/emoji/data

``--packages`` is the folder of the four archives, and ``--side`` the width and height of a picture. Licences of the
pictures are in NOTICE.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from aria import files
from aria.tasks.emoji.pictures import COLUMNS, NAMES, STYLES, TAGS

ARCHIVES = {
    "noto": "emoji-datasource-google-16.0.0.tgz",
    "twemoji": "emoji-datasource-twitter-16.0.0.tgz",
    "fluent": "iconify-json-fluent-emoji-flat-1.2.6.tgz",
}
LABELS = "emojibase-data-17.0.0.tgz"
LEVELS = 63
"""Steps of a colour: pictures look the same, and take two thirds of the space."""
LARGE = 128
"""Width at which vector pictures are drawn before they are made smaller."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one sheet of pictures for each style, and the names of all emoji."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emoji_pictures", description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder of the archives that npm pack makes")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--side", type=int, default=32, help="width and height of a picture in pixels")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = labels(options.packages / LABELS)
    for style in STYLES:
        pictures = drawn(style, options.packages / ARCHIVES[style])
        members = [row for row in rows if row["code"] in pictures]
        for row in members:
            row["styles"].append(style)
        made = [smaller(pictures[row["code"]](), options.side) for row in members]
        sheet(made).save(options.out / f"{style}.webp", lossless=True, quality=100, method=6)
        print(f"{style}: {len(made)} pictures")
    kept = [row for row in rows if row["styles"]]
    files.write_text(options.out / NAMES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
    return 0


def labels(archive: Path) -> list[dict[str, Any]]:
    """The emoji in Unicode's order, with name, tags, category, subcategory and skin tone."""
    with tarfile.open(archive) as package:
        emoji, groups = (_json(package, name) for name in ("en/data.json", "meta/groups.json"))
    rows = []
    for entry in emoji:
        if "group" not in entry or groups["groups"][str(entry["group"])] == "component":
            continue
        for variant in [entry, *entry.get("skins", [])]:
            rows.append(
                {
                    "code": _code(variant["hexcode"]),
                    "name": variant["label"],
                    "concept": entry["label"],
                    "tags": [tag for tag in entry.get("tags", []) if re.fullmatch("[a-z ]+", tag)][:TAGS],
                    "category": groups["groups"][str(entry["group"])],
                    "subcategory": groups["subgroups"][str(entry["subgroup"])],
                    "styles": [],
                }
            )
    return rows


def drawn(style: str, archive: Path) -> dict[str, Any]:
    """By code, a function that gives the picture in full size."""
    return _vectors(archive) if style == "fluent" else _bitmaps(archive)


def smaller(picture: Image.Image, side: int) -> Image.Image:
    """The picture on white, ``side`` pixels wide and high."""
    picture = picture.convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    plain = Image.alpha_composite(ground, picture).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    return plain.point([round(round(value * LEVELS / 255) * 255 / LEVELS) for value in range(256)] * 3)


def sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """All pictures on one, row by row."""
    side = pictures[0].width
    rows = -(-len(pictures) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * side, rows * side), "white")
    for place, picture in enumerate(pictures):
        whole.paste(picture, (place % COLUMNS * side, place // COLUMNS * side))
    return whole


def _bitmaps(archive: Path) -> dict[str, Any]:
    found = {}
    with tarfile.open(archive) as package:
        for member in package.getmembers():
            parts = member.name.split("/")
            if parts[1:2] == ["img"] and parts[3:4] == ["64"]:
                data = package.extractfile(member).read()  # type: ignore[union-attr]
                found[_code(parts[-1].removesuffix(".png"))] = lambda data=data: Image.open(io.BytesIO(data))
    return found


def _vectors(archive: Path) -> dict[str, Any]:
    import resvg_py

    with tarfile.open(archive) as package:
        names, icons = _json(package, "chars.json"), _json(package, "icons.json")

    def draw(name: str) -> Image.Image:
        width, height = icons.get("width", 16), icons.get("height", 16)
        body = icons["icons"][name]["body"]
        text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{body}</svg>'
        return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=text, width=LARGE, height=LARGE))))

    return {_code(code): lambda name=name: draw(name) for code, name in names.items() if name in icons["icons"]}


def _json(package: tarfile.TarFile, name: str) -> Any:
    return json.loads(package.extractfile(f"package/{name}").read())  # type: ignore[union-attr]


def _code(text: str) -> str:
    """Code points without the variation selector, by which the packages disagree."""
    return text.upper().replace("-FE0F", "")


if __name__ == "__main__":
    sys.exit(main())
