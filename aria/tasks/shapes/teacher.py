"""``python -m aria.tasks.shapes.teacher --preset small --output_dir T`` trains a teacher of scenes. The same command
continues an interrupted training."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from aria.progress import bar
from aria.tasks.shapes.recipe import RECIPES
from aria.tasks.shapes.train import make_teacher


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a teacher from the command line."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m aria.tasks.shapes.teacher", description="Train a teacher of captioned scenes."
    )
    parser.add_argument(
        "--preset",
        choices=sorted(RECIPES),
        default="small",
        help="Size of the models and length of training: small for a CPU, full for a GPU.",
    )
    parser.add_argument("--output_dir", required=True, help="Folder in which the pipeline is saved.")
    options = parser.parse_args(arguments)
    try:
        make_teacher(options.output_dir, RECIPES[options.preset], bar=bar)
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
