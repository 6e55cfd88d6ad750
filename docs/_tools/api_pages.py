"""The pages of the Python API: one page per package that exports names, and each name on one page only."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_HEADING = "\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false"
CONTRACTS = "aria.interfaces"
"""Exports all its classes, without ``__all__``."""


def exported() -> dict[str, list[str]]:
    """The names in ``__all__`` of every module that has one, by module, read without importing any."""
    found: dict[str, list[str]] = {}
    for module, tree in _trees().items():
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                    found[module] = list(ast.literal_eval(value))
                case ast.ClassDef(name=name) if module == CONTRACTS:
                    found.setdefault(module, []).append(name)
    return found


def index() -> str:
    """All pages, each with the first paragraph of its module's docstring."""
    rows = ["# Python API", "", "Everything that is exported, by package.", ""]
    for module in sorted(exported()):
        summary = (ast.get_docstring(_trees()[module]) or "").partition("\n\n")[0]
        rows.append(f"- [`{module}`]({module}.md)  \n  {' '.join(summary.split())}")
    return "\n".join(rows) + "\n"


def pages() -> dict[str, str]:
    """The Markdown of every page by its name, such as ``aria.trackers``."""
    written, known = {}, set(exported())
    homes: dict[str, str] = {}
    for module, names in sorted(exported().items(), key=lambda one: (one[0].count("."), one[0])):
        parts = [f"# {module}", f"::: {module}{WITHOUT_HEADING}\n      members: []"]
        for name in names:
            if f"{module}.{name}" in known:
                parts.append(f"- [`{name}`]({module}.{name}.md)")
            elif (home := homes.setdefault(_origin(module, name), module)) == module:
                parts.append(f"::: {module}.{name}")
            else:
                parts.append(f"`{name}` is [`{home}.{name}`][{home}.{name}].")
        written[module] = "\n\n".join(parts) + "\n"
    return dict(sorted(written.items()))


@cache
def _trees() -> dict[str, ast.Module]:
    paths = sorted([*ROOT.glob("aria/**/*.py"), *ROOT.glob("theory/**/*.py")])
    return {_module(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _origin(module: str, name: str) -> str:
    """Where a name is defined, so that a name exported by two packages is documented once."""
    import importlib

    value = getattr(importlib.import_module(module), name)
    where = getattr(value, "__module__", None)
    own = isinstance(where, str) and where.split(".")[0] in ("aria", "theory")
    return f"{where}.{getattr(value, '__qualname__', name)}" if own else f"{module}.{name}"
