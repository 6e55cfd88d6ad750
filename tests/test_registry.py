"""Spec strings: what they resolve to, and the one line with which a mistake is refused."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint

import pytest
import torch

import aria
from aria import allocators, partitioners, registry, specs, trackers
from aria.allocators import Proportional, TopFraction
from aria.partitioners import Bins, Labels, Product
from aria.testing import check_allocator
from aria.trackers import EMA, Bank, Progress, SecondMoment, Window

GREEDY = '''
"""An allocator of somebody else's."""
from dataclasses import dataclass
from aria import Allocator
from aria.allocators import reading

@dataclass(frozen=True)
class Greedy(Allocator):
    """Everything to the regions within `slack` of the largest estimate."""
    slack: float = 0.1

    def __call__(self, estimate, mass):
        score = reading.relative(reading.index(estimate), mass)  # 0 to 1, and 1 where nothing was seen
        return mass * (score >= 1 - self.slack)

LIMIT = 3
'''


@pytest.fixture
def greedy(tmp_path):
    path = tmp_path / "my-greedy.py"
    path.write_text(GREEDY)
    return path


@pytest.mark.parametrize(
    ("resolve", "text", "expected"),
    [
        (registry.tracker, "ema", EMA()),
        (registry.tracker, " ema( rate = 0.5 ) ", EMA(rate=0.5)),
        (registry.tracker, "window(8)", Window(size=8)),
        (
            registry.tracker,
            "progress(of=second_moment(of=ema(rate=0.3)), rate=0.1)",
            Progress(SecondMoment(EMA(0.3)), 0.1),
        ),
        (registry.tracker, "Bank()", Bank()),
        (registry.tracker, "aria.trackers:Bank(size=3)", Bank(size=3)),
        (registry.allocator, "proportional(power=2, base=0.5)", Proportional(power=2, base=0.5)),
        (registry.allocator, "topfraction(0.25)", TopFraction(fraction=0.25)),
        (
            registry.partitioner,
            "product(labels('style'), bins('timestep', 0, 1000, 10))",
            Product(Labels("style"), Bins("timestep", 0, 1000, 10)),
        ),
    ],
)
def test_specs_resolve(resolve, text, expected):
    assert resolve(text) == expected


def test_objects_pass_through():
    tracker = EMA(rate=0.5)
    assert registry.tracker(tracker) is tracker


@pytest.mark.parametrize("package", [trackers, allocators, partitioners])
def test_specs_round_trip(package):
    kind = {trackers: registry.tracker, allocators: registry.allocator, partitioners: registry.partitioner}[package]
    for cls in (getattr(package, name) for name in package.__all__):
        if not hasattr(cls, "examples") or cls is allocators.Oracle:
            continue
        for example in cls.examples():
            assert kind(registry.spec(example)) == example


def test_a_file_outside_the_repository_drives_a_sampler(greedy):
    allocator = registry.allocator(f"{greedy}:Greedy(slack=0.5)")
    assert allocator.slack == 0.5
    check_allocator(allocator)
    pool = aria.Pool(columns={"label": [0, 1, 2]})
    sampler = aria.Sampler(partitioners.Labels("label").fit(pool), "ema(rate=0.5)", f"{greedy}:Greedy", floor=0.1)
    for _ in range(30):
        draw = sampler.draw(8)
        sampler.observe(draw, 1.0 + draw.region)
    assert sampler.probs().tolist() == pytest.approx([0.1 / 3, 0.1 / 3, 0.1 / 3 + 0.9])


def test_a_module_on_the_path_is_imported(greedy, monkeypatch):
    (greedy.parent / "greedy_package.py").write_text(GREEDY)
    monkeypatch.syspath_prepend(str(greedy.parent))
    assert registry.allocator("greedy_package:Greedy(0.2)").slack == 0.2


def test_a_plug_in_can_be_nested(tmp_path):
    (tmp_path / "own.py").write_text("from aria.trackers import EMA\nclass Mine(EMA): pass\n")
    nested = registry.tracker(f"progress(of={tmp_path}/own.py:Mine(rate=0.5), rate=0.1)")
    assert (type(nested.of).__name__, nested.of.rate) == ("Mine", 0.5)


def test_the_spec_of_a_file_does_not_depend_on_where_it_lies(greedy):
    assert registry.spec(registry.allocator(f"{greedy}:Greedy")) == "my-greedy.py:Greedy(slack=0.1)"


def test_a_spec_with_full_paths_is_loaded_from_any_folder(tmp_path, monkeypatch):
    """Of the part and of those inside it, though the file was named relative to the folder."""
    (tmp_path / "own.py").write_text(
        "from dataclasses import dataclass\nfrom aria.trackers import EMA\n\n"
        "@dataclass(frozen=True)\nclass Mine(EMA):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    part = registry.tracker("progress(of=own.py:Mine(rate=0.5))")
    spec = registry.spec(part, full_paths=True)
    assert f"of={tmp_path / 'own.py'}:Mine(" in spec and str(tmp_path) not in registry.spec(part)
    monkeypatch.chdir(tmp_path.parent)
    assert registry.tracker(spec) == part


def test_entry_points_are_found(monkeypatch):
    point = EntryPoint("shiny", "aria.trackers:EMA", "aria.trackers")
    monkeypatch.setattr(specs, "entry_points", lambda group: [point] if group == "aria.trackers" else [])
    assert registry.tracker("shiny(rate=0.7)") == EMA(rate=0.7)
    assert "shiny" in registry.available(aria.Tracker)
    assert "shiny" not in registry.available(aria.Allocator)
    with pytest.raises(aria.SpecError, match="there are: bank, .*shiny"):
        registry.tracker("shin")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("emma", r"unknown tracker 'emma' \(did you mean 'ema'\?\); there are: bank, certificate_gain, constant, "),
        ("proportional", "unknown tracker 'proportional', which is the name of one of the allocators; there are: "),
        (
            "ema(rat=0.1)",
            r"ema: got an unexpected keyword argument 'rat' \(did you mean 'rate'\?\); it takes \(rate=0.1, importance",
        ),
        ("kalman", r"kalman: missing a required argument: 'sigma'; it takes \(sigma, drift\)"),
        ("ema(0.1, True, None, 7)", "ema: too many positional arguments"),
        ("ema(rate=", r"cannot read the tracker spec 'ema\(rate=': write name, name\(argument=value\)"),
        ("", "cannot read the tracker spec ''"),
        ("ema(rate=1+1)", r"cannot read '1 \+ 1' in 'ema\(rate=1\+1\)': arguments are literals or specs"),
        ("ema(rate=__import__('os').getcwd())", "only names can be called"),
        ("(lambda: 0)()", "only names can be called"),
        ("ema(rate=0.1, rate=0.2)", "each argument is named once"),
        ("ema(**{'rate': 0.1})", "each argument is named once"),
        ("ema(importance='no')", "importance must be True or False, got 'no'"),
        ("greedy.py", "name a class of the file: greedy.py:Class"),
        ("../w:Top", "'../w' is neither the name of a module nor a file that ends in .py"),
        ("aria.trackers:EMAA", r"aria.trackers has no 'EMAA' \(did you mean 'EMA'\?\); its classes: Bank, "),
        ("no_such_module:Thing", "cannot import 'no_such_module'"),
        ("no/such/file.py:Thing", "there is no file 'no/such/file.py'"),
        ("aria.allocators:Uniform", "aria.allocators:Uniform is no tracker: it does not derive from"),
        ("0.5", "'0.5' gives a float, which is not an aria.interfaces.Tracker"),
        (7, "a tracker is a spec string or a Tracker, got 7"),
    ],
)
def test_mistakes_are_refused_in_one_line(text, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        registry.tracker(text)
    assert "\n" not in str(caught.value)


def test_quoted_text_is_left_alone():
    assert registry.partitioner("labels('a:b')") == Labels("a:b")
    assert registry.partitioner('product(labels("x.py:y"), labels("z"))').first == Labels("x.py:y")


def test_a_path_may_hold_spaces(tmp_path):
    folder = tmp_path / "my folder"
    folder.mkdir()
    (folder / "greedy.py").write_text(GREEDY)
    assert registry.allocator(f"{folder}/greedy.py:Greedy(slack=0.2)").slack == 0.2


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import no_such_module", "cannot import '.*own.py': ModuleNotFoundError: No module named 'no_such_module'"),
        ("def (:", "cannot import '.*own.py': SyntaxError: "),
        ("from aria import Allocator\nclass Mine(Allocator): pass", "Mine: Can't instantiate abstract class"),
    ],
)
def test_a_broken_plug_in_is_refused_in_one_line(tmp_path, source, sentence):
    (tmp_path / "own.py").write_text(source)
    with pytest.raises(aria.SpecError, match=sentence):
        registry.allocator(f"{tmp_path}/own.py:Mine")


def test_equal_settings_have_equal_specs_in_every_process():
    assert registry.spec(EMA(rate=1)) == registry.spec(EMA(rate=1.0)) == "ema(rate=1, importance=False, sigma=None)"
    first, second = (torch.linspace(0, 1, 2000) + shift for shift in (0, 1e-9))
    assert registry.spec(allocators.Oracle(first)) == registry.spec(allocators.Oracle(first.clone()))
    assert registry.spec(allocators.Oracle(first.double())) != registry.spec(allocators.Oracle(second.double() + 1e-9))
    assert "0x" not in registry.spec(allocators.Oracle(lambda: first))


def test_settings_of_plain_classes_are_distinguished():
    class Plain(aria.Allocator):
        def __init__(self, top):
            self.top = top

        def __call__(self, estimate, mass):
            return mass

    assert registry.spec(Plain(1)) != registry.spec(Plain(2))


def test_a_file_without_the_class_lists_what_it_has(greedy):
    with pytest.raises(aria.SpecError, match=r"has no 'Gredy' \(did you mean 'Greedy'\?\)"):
        registry.allocator(f"{greedy}:Gredy")
    with pytest.raises(aria.SpecError, match="is a int, not a class"):
        registry.allocator(f"{greedy}:LIMIT()")


@pytest.mark.parametrize("spec, complaint", [
    ("os:system('touch {called}')", "os:system is a builtin_function_or_method, not a class"),
    ("builtins:open('{called}', 'w')", "builtins:open is a builtin_function_or_method, not a class"),
    ("pathlib:Path('{called}')", "pathlib:Path is no allocator: it does not derive from aria.interfaces.Allocator"),
    ("{file}:Open('{called}')", "{file}:Open is no allocator: it does not derive from aria.interfaces.Allocator"),
    ("{file}:make('{called}')", "{file}:make is a function, not a class"),
    ("{file}:Mine(of={file}:Open('{called}'))", "{file}:Open is no allocator: it does not derive from aria.inter"),
    ("aria.trackers:EMA()", "aria.trackers:EMA is no allocator: it does not derive from aria.interfaces.Allocator"),
])  # fmt: skip
def test_only_classes_of_the_wanted_kind_are_called(spec, complaint, tmp_path):
    file, called = tmp_path / "own.py", tmp_path / "called"
    file.write_text(
        "import aria\ndef make(path):\n    open(path, 'w')\n"
        "class Open:\n    def __init__(self, path):\n        open(path, 'w')\n"
        "class Mine(aria.Allocator):\n    def __init__(self, of):\n        self.of = of\n"
        "    def __call__(self, estimate, mass):\n        return mass\n"
    )
    with pytest.raises(aria.SpecError, match=f"^{re.escape(complaint.format(file=file))}"):
        registry.allocator(spec.format(file=file, called=called))
    assert not called.exists()


def test_a_saved_state_never_imports(greedy, monkeypatch):
    """A state whose settings name foreign code is compared as text and refused; nothing is loaded."""
    pool = aria.Pool(columns={"label": [0, 1, 2]})
    partition = partitioners.Labels("label").fit(pool)
    state = aria.Sampler(partition, allocator=f"{greedy}:Greedy").state_dict()
    victim = aria.Sampler(partition)
    loaded = set(sys.modules)
    monkeypatch.setattr(registry, "_module", lambda name: pytest.fail(f"imported {name}"))
    with pytest.raises(ValueError, match="saved with allocator='my-greedy.py:Greedy"):
        victim.load_state_dict({name: torch.as_tensor(tensor) for name, tensor in state.items()})
    assert set(sys.modules) == loaded
