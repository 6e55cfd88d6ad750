"""A campaign: many seeded attacks, their verdicts in files, and the table of what was survived."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from tests.faults import ground, verdict
from tests.faults.attacks import ATTACKS, GOES_ON
from tests.faults.ground import Ground
from tests.faults.verdict import Verdict


def attempt(place: Ground, seed: int, number: int) -> tuple[str, Verdict]:
    """Attack ``number``: kinds take turns, and everything else about it is drawn. When a drawn moment comes depends on
    the machine, so kills and writers that meet do not find the same state each time."""
    name = list(ATTACKS)[number % len(ATTACKS)]
    folder = Path(tempfile.mkdtemp(prefix="attack-", dir=place.folder.parent))
    folder.chmod(0o755)
    try:
        return name, ATTACKS[name](place, random.Random(f"{seed} {number}"), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table(rows: list[dict[str, object]]) -> str:
    """Attempted and survived, by kind of attack, as a table in Markdown."""
    kinds = list(ATTACKS)
    attempted, survived = (
        Counter(row["attack"] for row in rows),
        Counter(row["attack"] for row in rows if row["outcome"] in verdict.SURVIVED),
    )
    same = Counter(row["attack"] for row in rows if row["outcome"] == verdict.SAME)
    lines = ["| attack | attempted | survived | with the same result | refused in one line |", "|---|---|---|---|---|"]
    lines += [f"| {k} | {attempted[k]} | {survived[k]} | {same[k]} | {survived[k] - same[k]} |" for k in kinds]
    total = (sum(attempted.values()), sum(survived.values()), sum(same.values()))
    return "\n".join([*lines, f"| all | {total[0]} | {total[1]} | {total[2]} | {total[1] - total[2]} |"])


def trivial(rows: list[dict[str, object]], least: int = 8) -> list[str]:
    """Kinds of attack after which work goes on, but of which no one of at least ``least`` attempts showed that."""
    found = []
    for kind in sorted(GOES_ON):
        tried = [row for row in rows if row["attack"] == kind]
        told = [row for row in tried if row["outcome"] == verdict.SAME and row["detail"] != verdict.UNTOUCHED]
        if len(tried) >= least and not told:
            found.append(kind)
    return found


def work(out: Path, seed: int, numbers: list[int], place: int) -> None:
    """One process: a ground of its own, and every attack of its share that has no verdict yet."""
    (out / f"ground-{place}").mkdir(parents=True, exist_ok=True)
    made = ground.make(out / f"ground-{place}")
    with (out / f"attacks-{place}.jsonl").open("a") as log:
        for number in numbers:
            try:
                name, found = attempt(made, seed, number)
            except Exception:  # of the attacker itself: an attack without a verdict would not be counted
                name, found = list(ATTACKS)[number % len(ATTACKS)], Verdict("attacker failed", traceback.format_exc())
            row = {"number": number, "attack": name, "outcome": found.outcome, "detail": found.detail[:500]}
            log.write(json.dumps(row) + "\n")
            log.flush()


def verdicts(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in sorted(out.glob("attacks-*.jsonl")) for line in path.read_text().splitlines()]
