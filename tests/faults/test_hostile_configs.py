"""Configuration files of any size and shape are read or refused within seconds."""

from __future__ import annotations

import importlib.util
import json
import os
import time

import pytest

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs diffusers", allow_module_level=True)

from aria.cli.commands.prune import _read_map
from aria.distill.settings.config import Config
from aria.distill.settings.config_file import LARGEST

ALIASES = "a: &a0 [x, x, x]\n" + "".join(f"b{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 30))
MERGED = "a: &a0 {x: 1}\n" + "".join(f"b{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 16))
NESTED = '{"a":' * 100 + "1" + "}" * 100


def refused(path, content):
    path.write_text(content)
    begun = time.process_time()
    with pytest.raises(ValueError, match=r"^[^\n]+\Z") as caught:
        Config.read(path)
    assert time.process_time() - begun < 5
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize("content", [ALIASES, MERGED, ALIASES + "learning_rate: *a20\n"])
def test_an_alias_stands_for_nothing(content, tmp_path):
    assert "the alias *a0 is not read here" in refused(tmp_path / "c.yaml", content)
    path = tmp_path / "map.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match="the alias"):
        _read_map(path)


@pytest.mark.parametrize("start", ["a", "[a", "x = {a", 'x = [1, {"a"', "\n [[ 'a'"])
def test_a_key_of_thousands_of_parts_is_refused(start, tmp_path):
    assert "a key of more than 8 parts, in line" in refused(tmp_path / "c.toml", start + " . a" * 50_000 + " = 1")


def test_dots_in_values_are_no_keys(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('run.validation_prompts = ["a.b.c.d.e.f.g.h.i.j.k.l", "e.g. a. b. c. d. e. f. g. h. i. j."]\n')
    assert len(Config.read(path).run.validation_prompts) == 2


@pytest.mark.parametrize("ending", [".json", ".yaml", ".toml"])
def test_a_file_of_megabytes_is_not_parsed(ending, tmp_path):
    assert "is larger than 262,144 bytes" in refused(tmp_path / f"c{ending}", "#" * (LARGEST + 1))


@pytest.mark.parametrize("ending", [".json", ".yaml"])
def test_a_nested_value_is_refused(ending, tmp_path):
    assert "nested more than 32 deep" in refused(tmp_path / f"c{ending}", NESTED)
    refused(tmp_path / f"c{ending}", '{"run": ' + json.dumps(["x" * 50] * 500) + "}")


@pytest.mark.parametrize("ending", [".json", ".yaml", ".toml"])
def test_only_regular_files_are_opened(ending, tmp_path):
    path = tmp_path / f"c{ending}"
    os.mkfifo(path)
    with pytest.raises(ValueError, match=rf"cannot read the configuration {path}: {path} is a pipe, not a file"):
        Config.read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="is a folder, not a file"):
        Config.read(path)
