"""The files to mutate, the kinds of changes, and the tests of each file."""

from __future__ import annotations

from pathlib import Path

from benchmarks.mutations.changes import KINDS

CONSTANTS = ("constant",)
SOURCES = {
    "aria/trackers/*.py": CONSTANTS,
    "aria/allocators/*.py": CONSTANTS,
    "theory/bounds/*.py": CONSTANTS,
    "theory/limits.py": CONSTANTS,
    "aria/samplers/*.py": KINDS,
    "aria/distill/objectives/*.py": KINDS,
    "aria/distill/engine/replacement.py": KINDS,
    "aria/distill/models/schedule.py": KINDS,
    "aria/distill/engine/on_policy.py": KINDS,
}
"""Numerical code has its constants changed; code that decides which samples the engine trains on, all kinds."""
NOT_SOURCES = ("conformance.py",)
PRELOAD = (
    "torch", "safetensors.torch", "hypothesis.extra.numpy", "scipy.special", "scipy.stats", "scipy.optimize",
    "scipy.integrate", "accelerate", "diffusers.schedulers", "diffusers.training_utils",
)  # fmt: skip
"""Libraries that tests import, which takes longest; nothing of this project, which a mutant must load anew."""
ENGINE_TESTS = (
    *(f"tests/distill/engine/test_{name}.py" for name in ("replacement", "on_policy", "batches")),
    "tests/distill/models/test_schedule.py",
)
OWN_TESTS = {
    "aria/trackers": ("tests/trackers",),
    "aria/allocators": ("tests/allocators",),
    "theory/bounds": tuple(f"tests/theory/test_{name}.py" for name in ("constants*", "bounds_*", "limits")),
    "aria/samplers": ("tests/samplers",),
    "aria/distill/objectives": ("tests/distill/objectives",),
    "aria/distill/engine": ENGINE_TESTS,
    "aria/distill/models": ENGINE_TESTS,
    "theory": tuple(f"tests/theory/test_{name}.py" for name in ("constants*", "limits", "bounds_*")),
}
"""Tests of the files in a folder; a file's own doctest and the tests named after it run first."""
LEFT_OUT = {
    "tests/test_architecture.py": "reads the sources, not what they compute",
    "tests/samplers/test_ranks.py": "starts other processes, which run the shipped code",
    "tests/test_examples.py": "starts other processes, which run the shipped code",
    "tests/benchmarks": "starts other processes, which run the shipped code",
    "tests/theory/test_claims.py": "measures by simulation what the bounds' own tests compute",
    "tests/theory/test_commands.py": "measures by simulation what the bounds' own tests compute",
    "tests/theory/claims": "measures by simulation what the bounds' own tests compute",
    "theory/claims": "measures by simulation what the bounds' own tests compute",
    "theory/commands": "measures by simulation what the bounds' own tests compute",
}


def sources(root: Path) -> dict[str, tuple[str, ...]]:
    """The files to mutate, each with its kinds of changes."""
    return {
        str(path.relative_to(root)): kinds
        for pattern, kinds in SOURCES.items()
        for path in sorted(root.glob(pattern))
        if path.name not in NOT_SOURCES
    }


def own_tests(root: Path, file: str) -> tuple[list[str], list[str]]:
    """The tests of a file: its doctest, those named after it and those of constants; then its neighbours' tests."""
    found = [
        str(path.relative_to(root))
        for pattern in OWN_TESTS[str(Path(file).parent)]
        for path in sorted((root / pattern).rglob("test_*.py") if (root / pattern).is_dir() else root.glob(pattern))
    ]
    tests = [test for test in dict.fromkeys(found) if test not in LEFT_OUT]
    near = [test for test in tests if Path(file).stem.strip("_") in Path(test).stem.split("_")]
    if not any("constants" in test for test in near):
        near = [*(test for test in tests if Path(test).stem == "test_constants"), *near]
    return [file, *near], [test for test in tests if test not in near]
