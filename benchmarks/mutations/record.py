"""The record of a run: one JSON row for each mutant, and a table of results."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.mutations.changes import Finder, Mutation
from benchmarks.mutations.constants import RULES
from benchmarks.mutations.equivalents import reason
from benchmarks.mutations.sources import LEFT_OUT

STATES = ("killed", "timeout", "crashed", "equivalent", "survived")


@dataclass
class Result:
    """The result of a mutant: killed, timeout, crashed, survived, or equivalent (survived, and listed as such)."""

    status: str
    test: str = ""
    error: str = ""
    seconds: float = 0.0


@dataclass
class Record:
    """The results so far, in ``output``."""

    output: Path
    hashes: dict[str, str]  # of the sources
    finders: list[Finder]
    results: dict[tuple[object, ...], Result] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def mutations(self) -> list[Mutation]:
        return [mutation for finder in self.finders for mutation in finder.found]

    def remember(self) -> None:
        """Keep the results of earlier runs for files whose code is still the same; equivalents are those listed now.

        A mutant that a test has killed is taken to be killed by it still.
        """
        if not self.output.exists():
            return
        old = json.loads(self.output.read_text())
        rows: dict[str, list[dict[str, Any]]] = {}
        for row in old["mutations"]:
            rows.setdefault(row["file"], []).append(row)
        for finder in self.finders:
            if old["sources"].get(finder.file) == self.hashes[finder.file]:
                self._keep(finder.found, rows.get(finder.file, []))
        self.runs = old["runs"]

    def _keep(self, found: list[Mutation], rows: list[dict[str, Any]]) -> None:
        """Results of the same code: the n-th row is of the n-th mutation, wherever its line is now."""
        if [(m.literal, m.replacement) for m in found] != [(row["literal"], row["replacement"]) for row in rows]:
            return  # not all of them have been run
        for mutation, row in zip(found, rows):
            result = _from(Result, row)
            if result.status in ("survived", "equivalent"):
                listed = reason(mutation)
                result.status, result.error = ("equivalent" if listed else "survived"), listed
            self.results[mutation.key] = result

    def begin(self, command: str) -> None:
        """Add a run to the record before it begins."""
        self.runs.append({"command": command, "date": time.strftime("%Y-%m-%d"), "mutants": 0})

    def add(self, mutation: Mutation, result: Result) -> None:
        """Add the result of a mutant and save the record."""
        self.results[mutation.key] = result
        self.runs[-1]["mutants"] += 1
        self.save()

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(m) | asdict(self.results[m.key]) for m in self.mutations if m.key in self.results]

    def save(self) -> None:
        """Write one line per mutation, atomically."""
        rows = self.rows()
        ends = Counter(row["status"] for row in rows)
        head = {
            "runs": self.runs,
            "python": platform.python_version(),
            "libraries": {name: version(name) for name in ("torch", "numpy", "scipy", "pytest", "hypothesis")},
            "sources": self.hashes,
            "summary": {
                "changes": len(self.mutations),
                **{state: ends[state] for state in STATES if ends[state]},
                "not run yet": len(self.mutations) - len(rows),
            },
            "by kind": Counter(mutation.kind for mutation in self.mutations),
            "left out tests": LEFT_OUT,
            "rules": RULES,
            "skipped": [line for finder in self.finders for line in finder.skipped],
        }
        lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
        part = self.output.with_suffix(".part")
        part.write_text(f'{json.dumps(head, indent=1, ensure_ascii=False)[:-2]},\n "mutations": [\n{lines}\n ]\n}}\n')
        part.replace(self.output)

    def table(self) -> str:
        """Number of mutants of each file by result."""
        lines = [f"{'file':<36}" + "".join(f"{state:>12}" for state in ("mutants", *STATES))]
        counts: dict[str, Counter[str]] = {}
        for row in self.rows():
            counts.setdefault(row["file"], Counter())[row["status"]] += 1
        counts["all"] = sum(counts.values(), Counter())
        for file, count in counts.items():
            lines.append(f"{file:<36}{count.total():>12}" + "".join(f"{count[state]:>12}" for state in STATES))
        return "\n".join(lines)


def _from(kind: type, row: dict[str, Any]) -> Any:
    return kind(**{part.name: row[part.name] for part in fields(kind)})


def fingerprint(source: str) -> str:
    """A hash of the code: without docstrings, comments and layout, and of imports only the names.

    >>> fingerprint('from a import b; x = 1  # one') == fingerprint('from c import b; x = (1)')
    True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            node.module = None
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
