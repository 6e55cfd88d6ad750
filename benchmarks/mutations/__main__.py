"""Mutation testing: does the test suite notice a number that is off by 10%, or a condition that is inverted?

    python -m benchmarks.mutations                          # all mutants: 45 minutes on two idle cores
    python -m benchmarks.mutations --only ucb.py            # mutants whose place contains the text
    python -m benchmarks.mutations --kinds constant,flag    # these kinds, in every file
    python -m benchmarks.mutations --source my.py --tests test_my.py --root FOLDER --output my.json

In trackers, allocators, bounds and limits every numeric literal is multiplied by 1.1 in turn; integers become at least
1 larger, and 0 becomes 0.1. For a default between 0.9 and 1, which must stay below 1, the distance to 1 grows instead.
In the sampler, the objectives and other code that decides what the engine trains on, operators, comparisons, conditions
and flags change as well: + for -, <= for <, "not x" for x, "and" for "or", True for False. ``sources.py`` lists the
kinds of changes for each file.

The file's own tests run first, up to the first failure; if they pass, the rest of the suite follows. A mutant that
survives must be listed in ``equivalents.py`` with the reason; otherwise the exit code is 1.

This process imports the libraries once and forks for every mutant, so that a mutant takes a fraction of a second longer
than its tests. The child loads the changed source in place of the file; nothing is written to the working tree. Tests
that start other processes are left out, because those processes load the unchanged code. Results are saved one by one;
a second run repeats only survivors and mutants of files that have changed since.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.mutations import equivalents
from benchmarks.mutations.changes import KINDS, find
from benchmarks.mutations.laboratory import Laboratory, prepare
from benchmarks.mutations.record import Record, fingerprint
from benchmarks.mutations.sources import PRELOAD, own_tests, sources
from benchmarks.mutations.survey import survey

ROOT = Path(__file__).resolve().parents[2]


def kinds(text: str) -> tuple[str, ...]:
    """The kinds in a comma-separated list."""
    named = tuple(text.split(","))
    for kind in named:
        if kind not in KINDS:
            raise argparse.ArgumentTypeError(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")
    return named


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutations", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="text in 'file:line function: source'")
    parser.add_argument("--kinds", type=kinds, metavar="KIND,…", help=f"in every file; of {', '.join(KINDS)}")
    parser.add_argument("--list", action="store_true", help="list the mutations without running them")
    parser.add_argument("--fresh", action="store_true", help="discard the results of earlier runs")
    parser.add_argument("--stages", type=int, default=3, help="1: the nearest tests; 2: their neighbours; 3: all")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds before a mutant may count as a timeout")
    parser.add_argument("--workers", type=int, default=2, help="number of mutants at a time (2)")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder of the project")
    parser.add_argument("--source", action="append", default=[], help="a file to change, in place of the usual ones")
    parser.add_argument("--tests", action="append", default=[], help="the tests of --source, and no others")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "benchmarks" / "results" / "mutations.json", help="the JSON to write"
    )
    return parser.parse_args()


def main() -> int:
    """Find the mutants, run the tests, print and save the results."""
    options = arguments()
    root = options.root.resolve()
    files = dict.fromkeys(options.source, ("constant",)) or sources(root)
    finders = [find(root, file, options.kinds or usual) for file, usual in files.items()]
    hashes = {file: fingerprint((root / file).read_text(encoding="utf-8")) for file in files}
    record = Record(options.output, hashes, finders)
    chosen = [mutation for mutation in record.mutations if options.only in mutation.place]
    if not options.source and options.kinds is None:
        equivalents.check_current(record.mutations)
    if options.list:
        for mutation in chosen:
            print(f"{mutation.file}:{mutation.line}: {mutation.before}  ->  {mutation.after}")
        return 0
    if not options.fresh:
        record.remember()
    todo = [m for m in chosen if m.key not in record.results or record.results[m.key].status == "survived"]
    if todo:
        record.begin(" ".join(["python -m benchmarks.mutations", *sys.argv[1:]]))
    prepare(() if options.source else PRELOAD)
    own = {file: (options.tests, []) if options.tests else own_tests(root, file) for file in files}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        stages = 1 if options.tests else options.stages
        laboratory = Laboratory(root, Path(scratch), own, stages, options.patience)
        began = time.monotonic()
        for done, (mutation, result) in enumerate(survey(laboratory, todo, options.workers), start=1):
            record.add(mutation, result)
            end = f"{result.test} ({result.error})" if result.status == "killed" else result.error
            print(f"[{done}/{len(todo)} {time.monotonic() - began:.0f} s] {mutation.file}:{mutation.line}", flush=True)
            print(f"    {mutation.before}\n    {mutation.after}\n    {result.status} {end}", flush=True)
    record.save()
    print(record.table())
    survivors = [row for row in record.rows() if row["status"] == "survived"]
    for row in survivors:
        print(f"survived: {row['file']}:{row['line']} {row['before']}  ->  {row['after']}")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
