"""What is known of the built-in parts from their source alone is what importing them shows."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from aria import specs

NEEDS_DIFFUSERS = importlib.util.find_spec("diffusers") is None


def concrete(kind):
    """The classes of a kind that its package exports."""
    home = importlib.import_module(kind.home)
    base = getattr(importlib.import_module(kind.module), kind.base)
    values = [getattr(home, name) for name in getattr(home, "__all__", vars(home))]
    return {
        value.__name__: value
        for value in values
        if inspect.isclass(value) and issubclass(value, base) and not inspect.isabstract(value)
    }


@pytest.mark.parametrize("kind", specs.KINDS, ids=lambda kind: kind.word)
def test_the_source_lists_the_classes_and_their_arguments(kind):
    if NEEDS_DIFFUSERS and kind.home.startswith(("aria.distill", "aria.tasks")):
        pytest.skip("needs diffusers")
    classes = concrete(kind)
    assert {one.name for one in specs.built_in(kind).values()} == set(classes)
    for name, found in specs.built_in(kind).items():
        parameters = inspect.signature(classes[found.name]).parameters
        written = [argument.partition("=") for argument in specs.arguments(kind, name).split(", ") if argument]
        assert [argument for argument, _, _ in written] == list(parameters)
        for argument, equals, default in written:
            assert bool(equals) == (parameters[argument].default is not inspect.Parameter.empty)
            if equals and default != "…":
                assert eval(default) == parameters[argument].default


@pytest.mark.parametrize("word", ["tracker", "allocator", "partitioner", "objective", "weighting", "replacement"])
def test_a_misspelt_name_is_refused_without_importing_torch(word):
    code = (
        "import sys; from aria import specs\n"
        f"try: specs.check('nonsense(1)', {word!r})\n"
        "except specs.SpecError as error: print(error)\n"
        "assert 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"unknown {word} 'nonsense'; there are: ")


@pytest.mark.parametrize("kind", specs.KINDS, ids=lambda kind: kind.word)
def test_the_source_tells_all_arguments_of_a_built_in_class(kind):
    """They are checked without importing the class."""
    for name, found in specs.built_in(kind).items():
        known = {one.split("=")[0] for one in specs.arguments(kind, name).split(", ")}
        assert set(inspect.signature(getattr(importlib.import_module(kind.home), found.name)).parameters) <= known


def test_an_argument_that_a_class_does_not_take_is_refused_without_importing_it():
    with pytest.raises(specs.SpecError, match=r"^ema: got an unexpected keyword argument 'rat' \(did you"):
        specs.check("progress(of=ema(rat=0.1))", "tracker")
