"""``python -m aria.tasks.shapes.teacher --preset small --output_dir T`` makes a teacher of scenes; run again it goes on
where it stopped."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aria.tasks.shapes.course import Progress
from aria.tasks.shapes.recipe import RECIPES
from aria.tasks.shapes.train import make_teacher


@contextmanager
def shown(name: str) -> Iterator[Progress]:
    """A progress bar on standard error."""
    from tqdm.auto import tqdm

    with tqdm(desc=name, mininterval=1.0) as told:

        def progress(done: int, total: int) -> None:
            told.total = total
            told.update(done - told.n)

        yield progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a teacher from the command line."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m aria.tasks.shapes.teacher", description="Make a teacher.")
    parser.add_argument("--preset", choices=sorted(RECIPES), default="small", help="small for a CPU, full for a GPU")
    parser.add_argument("--output_dir", required=True, help="where the pipeline is saved")
    told = parser.parse_args(arguments)
    try:
        make_teacher(told.output_dir, RECIPES[told.preset], bar=shown)
    except (ValueError, OSError) as error:
        parser.error(" ".join(str(error).split()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
