"""Any spec string names a part or is refused in one line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aria import registry
from aria.cli import main
from aria.interfaces import Allocator, Partitioner, Tracker
from tests.fuzz.hostile import Tried, exit_code_of, mutated

KINDS = {Tracker: registry.tracker, Allocator: registry.allocator, Partitioner: registry.partitioner}
KNOWN = [
    "ema(rate=0.1)", "window(8)", "progress(of=second_moment(of=ema(rate=0.3)), rate=0.1)", "bank", "kmeans(64)",
    "softmax(temperature=2)", "product(labels('style'), bins('timestep', 0, 1000, 10))", "aria.trackers:EMA(rate=0.5)",
    "none.py:Mine(top=3)",
]  # fmt: skip
names = st.sampled_from([name for kind in KINDS for name in registry.available(kind)])
literals = st.recursive(
    st.sampled_from(["1", "-0.5", "1e999", "None", "True", "'x'", "b'x'", "nan", "...", "10**9", "9" * 5000, "x.y"])
    | names,
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]")
    | st.tuples(names, inner).map(lambda part: f"{part[0]}({part[1]})"),
    max_leaves=4,
)
fields = st.sampled_from(["rate", "size", "of", "power", "base", "weight", "x", "*", "**", ""])
argument = st.tuples(fields, literals).map(lambda pair: f"{pair[0]}={pair[1]}" if pair[0] else pair[1])
arguments = st.lists(argument, max_size=3)
written = st.tuples(names, arguments).map(lambda drawn: f"{drawn[0]}({', '.join(drawn[1])})")
texts = st.one_of(
    st.text(max_size=30),
    st.text("aemrt()=,'\"[]{}:.0159-_* \n\\\x00", max_size=30),
    written,
    st.sampled_from(KNOWN).flatmap(lambda spec: mutated(spec.encode())).map(lambda data: data.decode(errors="replace")),
    st.sampled_from(["(" * 5000, "ema(" * 500 + ")" * 500, f"ema(rate={'-' * 20000}1)", f"ema({'[' * 99}{']' * 99})"]),
)


@settings(max_examples=150)
@given(st.sampled_from(list(KINDS)), texts)
def test_any_text_is_resolved_or_refused(kind, text):
    with Tried() as tried:
        part = KINDS[kind](text)
    if tried.refused is None:
        assert isinstance(part, kind)


@pytest.mark.parametrize("spec", KNOWN[:-1])
def test_the_specs_to_mutate_are_valid(spec):
    resolved = 0
    for resolve in KINDS.values():
        with Tried() as tried:
            resolve(spec)
        resolved += tried.refused is None
    assert resolved == 1


@settings(max_examples=40)
@given(texts.filter(lambda text: not text.startswith("-") and "\x00" not in text))
def test_the_command_refuses_a_spec_that_names_nothing(text):
    with Tried() as tried:
        registry.tracker(text)
    if tried.refused is not None:
        assert exit_code_of(main, ["check", "tracker", text]) == 2


@pytest.mark.parametrize("count", [10**7, 10**30])
def test_more_bins_than_fit_into_memory_are_refused(count):
    with Tried() as tried:
        registry.partitioner(f"bins('guidance', 1, 9, {count})")
    assert tried.refused is not None and f"count must be at most 1048576, got {count}" in tried.refused
