"""``python -m aria.tasks.emoji.teach --output_dir T`` trains the teachers of emoji, the autoencoder they share and the
judge. The same command continues an interrupted training; several processes can work in one folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from aria.progress import bar
from aria.tasks.emoji.kinds import KINDS
from aria.tasks.emoji.pictures import PACKAGED, Pictures
from aria.tasks.emoji.recipe import RECIPES
from aria.tasks.emoji.train import make_autoencoder, make_judge, make_teacher


def main(arguments: Sequence[str] | None = None) -> int:
    """Train teachers from the command line."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m aria.tasks.emoji.teach", description="Train teachers of emoji.")
    parser.add_argument(
        "--preset",
        choices=sorted(RECIPES),
        default="small",
        help="Size of the models and length of training: small for a CPU, full for a GPU.",
    )
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS, help="Kinds of teacher; by default all.")
    parser.add_argument(
        "--pictures", type=Path, default=PACKAGED, help="Folder of pictures, needed for those of 64 pixels a side."
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="Folder of the teachers.")
    options = parser.parse_args(arguments)
    recipe = RECIPES[options.preset]
    try:
        pictures = Pictures(options.pictures)
        if pictures.side != recipe.side:
            needed = f"the preset {options.preset} needs pictures of {recipe.side} pixels a side"
            parser.error(f"{needed}, those in {options.pictures} have {pictures.side}: see --pictures")
        make_autoencoder(options.output_dir, recipe, pictures, bar=bar)
        make_judge(options.output_dir, recipe, pictures, bar=bar)
        for name in options.kinds:
            make_teacher(options.output_dir, name, recipe, pictures, bar=bar)
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
