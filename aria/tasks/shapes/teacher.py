"""``python -m aria.tasks.shapes.teacher --preset small --output_dir T`` makes a teacher of scenes; run again it goes on
where it stopped."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from aria.progress import bar
from aria.tasks.shapes.recipe import RECIPES
from aria.tasks.shapes.train import make_teacher


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a teacher from the command line."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m aria.tasks.shapes.teacher", description="Make a teacher.")
    parser.add_argument("--preset", choices=sorted(RECIPES), default="small", help="small for a CPU, full for a GPU")
    parser.add_argument("--output_dir", required=True, help="where the pipeline is saved")
    told = parser.parse_args(arguments)
    try:
        make_teacher(told.output_dir, RECIPES[told.preset], bar=bar)
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
