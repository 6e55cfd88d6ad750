"""The distributions: the source archive can be built, the wheel has all code and nothing else, and it works alone.

The wheel is installed into an environment of its own, to which only the libraries at hand are added by a path: whether
they can be downloaded is not what is tested here, and PyTorch is large. The checkout is not on that path.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

if importlib.util.find_spec("build") is None:
    pytest.skip("needs build", allow_module_level=True)
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("aria", "theory")
DATA = ROOT / "aria" / "tasks" / "emoji" / "data"
IMPORT_ALL = """
import importlib, pkgutil, sys
import aria, theory
names = [module.name for top in (aria, theory) for module in pkgutil.walk_packages(top.__path__, top.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(len(names), aria.__file__, theory.__file__)
"""


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sources() -> set[str]:
    """Every file that belongs into a wheel."""
    return {
        str(path.relative_to(ROOT))
        for top in PACKAGES
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".py", ".pyi") or path.name == "py.typed" or (path.is_file() and path.is_relative_to(DATA))
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source archive, made of a copy without anything that git ignores, and the wheel made of that archive."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=copy)
    (archive,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return archive, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The folder of programs of an environment that has the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not followed
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--disable-pip-version-check", "--ignore-installed", built[1], cwd=folder)
    return folder / "bin"


def test_the_wheel_has_all_code_and_nothing_else(built):
    names = zipfile.ZipFile(built[1]).namelist()
    info = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    assert set(names) - info == sources()
    assert {"aria/py.typed", "theory/py.typed"} <= set(names)
    assert all(any(name.endswith(f"/licenses/{one}") for name in info) for one in ("LICENSE", "NOTICE"))


def test_the_source_archive_has_what_is_needed_to_build_and_no_tests(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if not name.endswith("/")}
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", *sources()} <= names
    others = {name for name in names if name.split("/")[0] not in {"", "aria_distill.egg-info", *PACKAGES}}
    assert others <= {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in", "PKG-INFO", "setup.cfg"}


@pytest.mark.parametrize("program", ["aria", "aria-sim"])
def test_installed_programs_run(installed, program, tmp_path):
    assert "Usage" in run(installed / program, "--help", cwd=tmp_path)
    assert "0.2.0" in run(installed / program, "--version", cwd=tmp_path)


def test_every_module_can_be_imported(installed, tmp_path):
    if any(importlib.util.find_spec(name) is None for name in ("diffusers", "scipy", "sklearn")):
        pytest.skip("needs every extra")
    count, *places = run(installed / "python", "-c", IMPORT_ALL, cwd=tmp_path).split()
    assert int(count) > 200
    assert all(Path(place).is_relative_to(installed.parent) for place in places), places


def test_importing_aria_costs_little_more_than_torch():
    """Counted in modules, which do not depend on how busy the machine is."""
    code = "import sys; {}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    both = [code.format("import torch"), code.format("import aria; aria.Sampler")]
    torch, loaded = (set(line.split()) for line in run(sys.executable, "-c", "\n".join(both), cwd=ROOT).splitlines())
    assert {"aria", "torch"} <= loaded
    extra = loaded - torch - set(sys.stdlib_module_names)
    assert extra <= {"aria", "numpy", "safetensors", "click", "lazy_loader"}, extra
