"""Which layer may import which, and a few more rules about the source, read from its syntax tree.

A rule is a function from one parsed module to the violations it finds; next to each rule is source that breaks it, so
that every rule is shown to be able to fail. Each rule is one test over all modules, which are read and parsed once.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

BASE = {
    "aria.interfaces", "aria.pool", "aria.checks", "aria.statistics", "aria.files", "aria.fields", "aria.regular",
    "aria.tensor_files", "aria.run_log",
}  # fmt: skip
PARTS = {"aria.partitioners", "aria.trackers", "aria.allocators"}
FRAMEWORK = BASE | PARTS | {"aria.specs", "aria.registry", "aria.samplers"}
LIBRARY = FRAMEWORK | {
    "aria", "aria.integrity", "aria.text", "aria.testing", "aria.threads", "aria.progress", "aria.significance"
}  # fmt: skip
CLI = {"aria.cli.errors", "aria.cli.options", "aria.cli.tables"}
PAGES = {"aria.html", "aria.plots"}

ALLOWED: dict[str, set[str]] = {
    "aria.interfaces": set(),
    "aria.pool": {"aria.checks"},
    "aria.checks": set(),
    "aria.files": set(),
    "aria.fields": set(),
    "aria.integrity": {"aria.files"},
    "aria.tensor_files": {"aria.files", "aria.fields"},
    "aria.regular": set(),
    "aria.run_log": {"aria.files", "aria.fields", "aria.regular"},
    "aria.significance": set(),
    "aria.text": set(),
    "aria.threads": set(),
    "aria.progress": set(),
    "aria.statistics": {"aria.interfaces"},
    "aria.partitioners": BASE,
    "aria.trackers": BASE,
    "aria.allocators": BASE,
    "aria.specs": {"aria.checks"},
    "aria.registry": BASE | {"aria.specs"},
    "aria.samplers": BASE | PARTS | {"aria.registry"},
    "aria.testing": BASE | PARTS | {"aria.registry"},
    "aria": FRAMEWORK,
    "aria.html": {"aria.text"},
    "aria.plots": {"aria.files"},
    "aria.distill": LIBRARY | PAGES,
    "aria.tasks": LIBRARY | {"aria.distill"},
    "aria.bench": LIBRARY | PAGES | {"aria.distill", "aria.tasks"},
    "aria.cli.errors": {"aria.text"},
    "aria.cli.options": {"aria.files", "aria.specs"},
    "aria.cli.tables": {"aria.text"},
    "aria.cli.application": {"aria.checks", "aria.cli.errors"},
    "aria.cli.commands": LIBRARY | CLI | PAGES | {"aria.distill", "aria.tasks", "aria.bench"},
    "aria.cli": {"aria.cli.application", "aria.cli.commands", "aria.text"},
    "theory": LIBRARY | CLI | PAGES | {"aria.cli.application"},
}
"""What each layer may import of this package besides itself; ``aria`` alone is the package's ``__init__``."""
ALLOWED_IN_FUNCTIONS = {
    "aria.registry": PARTS,
    "aria.testing": {"aria.distill"},
    "aria.cli.errors": {"aria.registry"},
    "aria.cli.commands": {"theory"},
    "aria.bench": {"theory"},
}
ALLOWED_FOR_TYPES = {"aria.interfaces": {"aria.pool"}, "aria.testing": {"aria.distill"}}

LIGHT = {"torch", "numpy", "click", "safetensors", "filelock", "lazy_loader"}
"""The third-party packages that may be imported where a module starts."""
HEAVY = {"diffusers", "transformers", "accelerate", "matplotlib", "scipy", "sklearn", "faiss", "pandas"}
PICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


class Import(NamedTuple):
    """One imported module. ``when`` is "load", "call" (inside a function) or "types" (under TYPE_CHECKING)."""

    target: str
    when: str
    line: int


@dataclass(frozen=True)
class Module:
    """A module's name and source, parsed once."""

    name: str
    source: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def imports(self) -> list[Import]:
        return list(_imports(self, self.tree, "load"))

    @property
    def layer(self) -> str:
        return layer_of(self.name)


@cache
def layer_of(name: str) -> str:
    """The layer a module belongs to: "aria.trackers.ema" to "aria.trackers"; "?" for a module of no layer."""
    if name == "aria":
        return name
    return next((layer for layer in ALLOWED if layer != "aria" and f"{name}.".startswith(f"{layer}.")), "?")


def _imports(module: Module, node: ast.AST, when: str) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            yield from (Import(alias.name, when, node.lineno) for alias in names)
        case ast.ImportFrom(names=names):
            origin = _origin(module, node)
            yield from (Import(_target(origin, alias.name), when, node.lineno) for alias in names)
        case ast.Call(func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module")):
            match node.args:
                case [ast.Constant(value=str(target)), *_]:
                    yield Import(target, when, node.lineno)
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        for child in node.body:
            yield from _imports(module, child, "types")
        for child in node.orelse:
            yield from _imports(module, child, when)
        return
    inside = "call" if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) else when
    for child in ast.iter_child_nodes(node):
        yield from _imports(module, child, inside)


def _is_type_checking(test: ast.expr) -> bool:
    names = (getattr(node, "id", getattr(node, "attr", None)) for node in ast.walk(test))
    return "TYPE_CHECKING" in names


def _origin(module: Module, node: ast.ImportFrom) -> str:
    """The module after ``from``, with the dots of a relative import resolved."""
    if not node.level:
        return node.module or ""
    parents = module.name.split(".")
    keep = len(parents) - node.level + module.is_package
    return ".".join([*parents[:keep], *filter(None, [node.module])])


def _target(origin: str, name: str) -> str:
    """``from aria import registry`` imports a module, ``from aria import Sampler`` a name out of ``aria``."""
    return f"{origin}.{name}" if layer_of(f"{origin}.{name}") not in {"?", layer_of(origin)} else origin


# ------------------------------------------------------------------------------------------------------------ rules


def points_downward(module: Module) -> Iterator[str]:
    """A layer imports only what lies below it."""
    if module.layer == "?":
        yield f"{module.name} belongs to no layer: name it in ALLOWED"
        return
    for target, when, line in module.imports:
        if target.split(".")[0] not in {"aria", "theory"}:
            continue
        allowed = {module.layer} | ALLOWED[module.layer]
        allowed |= ALLOWED_IN_FUNCTIONS.get(module.layer, set()) if when == "call" else set()
        allowed |= ALLOWED_FOR_TYPES.get(module.layer, set()) if when == "types" else set()
        if layer_of(target) not in allowed:
            yield f"line {line}: {module.layer} may not import {target}"


def loads_light(module: Module) -> Iterator[str]:
    """Outside ``distill`` and ``tasks``, a module loads torch and numpy and nothing else that is heavy."""
    if module.layer in {"aria.distill", "aria.tasks"}:
        return
    for target, when, line in module.imports:
        top = target.split(".")[0]
        if when == "load" and top not in LIGHT | {"aria", "theory"} and top not in sys.stdlib_module_names:
            yield f"line {line}: import {target} where it is used, not where the module starts"


def theory_needs_no_diffusers(module: Module) -> Iterator[str]:
    """The theory package works without any library of diffusion models."""
    for target, _, line in module.imports:
        if module.layer == "theory" and target.split(".")[0] in {"diffusers", "transformers", "accelerate"}:
            yield f"line {line}: theory may not import {target}"


def never_pickles(module: Module) -> Iterator[str]:
    """Nothing is written or read by pickle, under any of its names."""
    for target, _, line in module.imports:
        if target.split(".")[0] in PICKLING:
            yield f"line {line}: {target} executes what it loads; use safetensors or JSON"
    for node in ast.walk(module.tree):
        match node:
            case ast.Attribute(value=ast.Name(id="torch"), attr="load" | "save"):
                yield f"line {node.lineno}: torch.{node.attr} pickles; use safetensors"
            case ast.ImportFrom(module="torch", names=names) if {"load", "save"} & {alias.name for alias in names}:
                yield f"line {node.lineno}: torch.load and torch.save pickle; use safetensors"
            case ast.keyword(arg="allow_pickle", value=value) if not _is_false(value):
                yield f"line {value.lineno}: allow_pickle executes what it loads"


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def never_prints(module: Module) -> Iterator[str]:
    """A library reports by return values, warnings and logging; only the command line writes to the screen."""
    if module.name.endswith(".cli"):
        return
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                yield f"line {node.lineno}: print outside the command line"


@dataclass(frozen=True)
class Rule:
    """A rule, modules that break it, and modules that come close and do not."""

    check: Callable[[Module], Iterator[str]]
    breaks: list[Module] = field(default_factory=list)
    holds: list[Module] = field(default_factory=list)


def package(name: str, source: str) -> Module:
    return Module(name, source, is_package=True)


RULES = [
    Rule(
        points_downward,
        breaks=[
            Module("aria.interfaces", "from aria.pool import Pool"),
            Module("aria.interfaces", "if TYPE_CHECKING:\n    from aria.samplers import Sampler"),
            Module("aria.interfaces", "def late():\n    import aria.pool"),
            Module("aria.pool", "from . import interfaces"),
            Module("aria.statistics", "from aria.trackers import recursion"),
            Module("aria.trackers.ema", "import aria.allocators.power"),
            Module("aria.trackers.ema", "from ..partitioners import labels"),
            Module("aria.allocators.power", "def late():\n    from aria import trackers"),
            Module("aria.allocators.power", "import importlib\nimportlib.import_module('aria.trackers')"),
            Module("aria.partitioners.labels", "from aria import Sampler"),
            package("aria.partitioners", "from ..registry import make"),
            Module("aria.registry", "from aria import trackers"),
            Module("aria.samplers.sampler", "import aria.testing"),
            Module("aria.testing", "import aria.samplers"),
            Module("aria.distill.loop", "from aria.tasks import shapes"),
            Module("aria.bench.report", "import theory"),
            Module("aria.cli", "def late():\n    import theory.claims"),
            Module("theory.simulate", "from aria.distill import loop"),
            Module("aria.surprise", "import math"),
            Module("aria.pool", "from aria import surprise"),
        ],
        holds=[
            Module("aria.interfaces", "if TYPE_CHECKING:\n    from aria.pool import Pool"),
            Module("aria.registry", "def late():\n    from aria import trackers"),
            Module("aria.trackers.ema", "from . import recursion\nfrom ..interfaces import State"),
            package("aria.trackers", "from .ema import EMA"),
            package("aria", "from aria.samplers import Sampler\nfrom .pool import Pool"),
            Module("aria.cli.commands.bench", "from aria import Sampler, bench"),
            Module("theory.simulate", "from aria.trackers import EMA\nfrom theory import bounds"),
        ],
    ),
    Rule(
        loads_light,
        breaks=[
            Module("aria.partitioners.kmeans", "from sklearn.cluster import MiniBatchKMeans"),
            Module("aria.bench.stats", "try:\n    import scipy.stats\nexcept ImportError:\n    pass"),
            Module("theory.cli", "import matplotlib.pyplot as plt"),
            Module("aria.pool", "class Pool:\n    import pandas"),
        ],
        holds=[
            Module("aria.partitioners.kmeans", "def fit():\n    from sklearn.cluster import MiniBatchKMeans"),
            Module("aria.samplers.draw", "import math\nimport numpy as np\nfrom torch import Tensor"),
            Module("aria.distill.adapters", "import diffusers"),
            Module("theory.report", "if TYPE_CHECKING:\n    import matplotlib"),
        ],
    ),
    Rule(
        theory_needs_no_diffusers,
        breaks=[Module("theory.simulate", "def late():\n    import diffusers.schedulers")],
        holds=[Module("aria.distill.adapters", "import diffusers"), Module("theory.simulate", "import torch")],
    ),
    Rule(
        never_pickles,
        breaks=[
            Module("aria.pool", "import pickle"),
            Module("aria.pool", "def late():\n    from joblib import dump"),
            Module("aria.samplers.sampler", "torch.load('state')"),
            Module("aria.samplers.sampler", "from torch import Tensor, save"),
            Module("theory.report", "np.load('rows', allow_pickle=True)"),
        ],
        holds=[Module("aria.pool", "import json\nnp.load('rows', allow_pickle=False)\nself.load('state')")],
    ),
    Rule(
        never_prints,
        breaks=[Module("theory.report", "def show():\n    print('hello')")],
        holds=[Module("aria.cli", "print('hello')"), Module("aria.pool", "'''>>> print(1)'''\nself.print()")],
    ),
]


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the two packages."""
    return tuple(_read(path) for top in ("aria", "theory") for path in sorted((ROOT / top).rglob("*.py")))


def violations(rule: Rule, checked: Iterable[Module]) -> list[str]:
    """What the rule finds in these modules, each line with the module's name."""
    return [f"{module.name}: {violation}" for module in checked for violation in rule.check(module)]


def _read(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    files = [path, *filter(Path.is_file, [path.with_suffix(".pyi")])]  # a stub has the imports of a lazy package
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return Module(".".join(parts[:-1] if is_package else parts), source, is_package)


def by_name(value: Rule | Module) -> str:
    return value.check.__name__ if isinstance(value, Rule) else value.name


@pytest.mark.parametrize("rule", RULES, ids=by_name)
def test_source_keeps_the_rule(rule: Rule) -> None:
    assert violations(rule, modules()) == []


@pytest.mark.parametrize(("rule", "module"), [(r, m) for r in RULES for m in r.breaks], ids=by_name)
def test_rule_can_fail(rule: Rule, module: Module) -> None:
    assert violations(rule, [module])


@pytest.mark.parametrize(("rule", "module"), [(r, m) for r in RULES for m in r.holds], ids=by_name)
def test_rule_lets_good_source_pass(rule: Rule, module: Module) -> None:
    assert violations(rule, [module]) == []


def test_a_violation_names_its_module_and_line() -> None:
    (rule,) = (rule for rule in RULES if rule.check is never_prints)
    bad = Module("aria.pool", "import json\n\nprint(1)")
    assert violations(rule, [Module("aria.checks", "import json"), bad]) == [
        "aria.pool: line 3: print outside the command line"
    ]


def test_every_rule_has_source_that_breaks_it() -> None:
    assert all(rule.breaks and rule.holds for rule in RULES)
    assert {module.name for module in modules()} >= {"aria", "aria.interfaces", "aria.pool"}


# ------------------------------------------------------------------------------------------------------- no circles


def circles(found: Sequence[Module]) -> list[str]:
    """Modules that reach themselves by imports, of whatever kind; a package's ``__init__`` is a module like others."""
    names = {module.name for module in found}
    reach = {module.name: _modules_of(module, names) - {module.name} for module in found}
    for middle in names:
        for name in names:
            if middle in reach[name]:
                reach[name] = reach[name] | reach[middle]
    return sorted(name for name in names if name in reach[name])


def _modules_of(module: Module, names: set[str]) -> set[str]:
    """The modules it imports: ``from package import name`` is the module ``package.name`` if there is one."""
    found = set()
    for node in ast.walk(module.tree):
        match node:
            case ast.ImportFrom(names=imported):
                origin = _origin(module, node)
                inner = {f"{origin}.{alias.name}" for alias in imported}
                found |= (inner & names) | ({origin} if inner - names else set())
            case ast.Import(names=imported):
                found |= {alias.name for alias in imported}
    return found & names


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circles(modules()) == []


def test_a_circle_would_be_seen() -> None:
    there = Module("aria.pool", "if TYPE_CHECKING:\n    from aria.samplers import draws")
    back = Module("aria.samplers.draws", "def late():\n    import aria.pool")
    apart = Module("aria.checks", "import aria.pool")
    assert circles([there, back, apart]) == ["aria.pool", "aria.samplers.draws"]
    assert circles([there, apart]) == []


# ------------------------------------------------------------------------------------------- what import really loads


def heavy_after(statement: str) -> set[str]:
    """The heavy packages a fresh interpreter has loaded after ``statement``."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return HEAVY & set(run.stdout.split())


def test_importing_aria_stays_light() -> None:
    assert not heavy_after("import aria, aria.cli")


def test_a_heavy_import_would_be_seen() -> None:
    assert heavy_after("import scipy") == {"scipy"}


# ---------------------------------------------------------------------------------------------- paths of one machine

MACHINE_PATH = re.compile(r"(?<![\w.:/~$}-])/(?:home|root|work|Users|mnt|opt|srv)/\w[\w./-]*")


def machine_paths(text: str) -> list[str]:
    return MACHINE_PATH.findall(text)


def committed_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listing.stdout.splitlines() if (path := ROOT / name).is_file()]


def test_no_path_of_one_machine_is_committed() -> None:
    found = {
        str(path.relative_to(ROOT)): paths
        for path in committed_files()
        if (paths := machine_paths(path.read_bytes().decode("utf-8", errors="ignore")))
    }
    assert not found


@pytest.mark.parametrize("top", ["home", "root", "work", "Users", "mnt", "opt", "srv"])
def test_a_path_of_one_machine_would_be_seen(top: str) -> None:
    assert machine_paths(f'data = "/{top}/someone/data"')
    assert not machine_paths(f"https://example.org/{top}/page and relative/{top}/file and ${{HOME}}/{top}/x")
