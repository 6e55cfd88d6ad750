"""The pages of the API: one for each module that exports names, with each name on one page only."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_HEADING = "\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false"
CONTRACTS = "aria.interfaces"
"""The module that exports all of its classes, without ``__all__``."""


def exported() -> dict[str, list[str]]:
    """The names in ``__all__`` of every module that has one, by module, read without importing any."""
    names: dict[str, list[str]] = {}
    for module, tree in _trees().items():
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                    names[module] = list(ast.literal_eval(value))
                case ast.Assign(value=ast.Call(func=ast.Name(id="attach_stub"))):
                    names[module] = _in_stub(module)
                case ast.ClassDef(name=name) if module == CONTRACTS:
                    names.setdefault(module, []).append(name)
    return names


def _in_stub(module: str) -> list[str]:
    """The names that the stub of a lazily loaded package lists."""
    stub = ast.parse(ROOT.joinpath(*module.split("."), "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return sorted(alias.name for node in imports for alias in node.names)


def index() -> str:
    """All pages, each with the first sentence of its module."""
    rows = ["# Programming interface", "", "Everything that is exported, by package.", ""]
    for module in sorted(exported()):
        summary = (ast.get_docstring(_trees()[module]) or "").partition("\n\n")[0]
        rows.append(f"- [`{module}`]({module}.md)  \n  {' '.join(summary.split())}")
    return "\n".join(rows) + "\n"


def pages() -> dict[str, str]:
    """Markdown by the name of its page, such as ``aria.trackers``."""
    pages, known = {}, set(exported())
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
        pages[module] = "\n\n".join(parts) + "\n"
    return dict(sorted(pages.items()))


@cache
def _trees() -> dict[str, ast.Module]:
    paths = sorted([*ROOT.glob("aria/**/*.py"), *ROOT.glob("theory/**/*.py")])
    return {_module(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _origin(module: str, name: str) -> str:
    """Where a name is defined, so that a name which two packages export is documented once."""
    import importlib

    value = getattr(importlib.import_module(module), name)
    where = getattr(value, "__module__", None)
    own = isinstance(where, str) and where.split(".")[0] in ("aria", "theory")
    return f"{where}.{getattr(value, '__qualname__', name)}" if own else f"{module}.{name}"
