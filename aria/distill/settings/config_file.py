"""Settings in a YAML, TOML or JSON file."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from aria import checks
from aria.fields import short
from aria.regular import check_nesting, read_text

LARGEST = 1 << 18
"""Bytes of a configuration; YAML of this size takes seconds."""
PARTS = 8
"""Parts of a key of TOML."""
_WORD = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_LONG_KEY = re.compile(rf"(?:^|[{{,\[])[ \t]*(?:{_WORD}\.[ \t]*){{{PARTS}}}", re.MULTILINE)


def read(path: Path, *, sections: Collection[str]) -> dict[str, Any]:
    """Values by plain or dotted names, whether the file is flat or in sections."""
    return _flat(_parse(path), path, sections)


def _parse(path: Path) -> dict[str, Any]:
    checks.one_of("the ending of a configuration file", path.suffix, (".yaml", ".yml", ".toml", ".json"))
    try:
        text = read_text(path, most=LARGEST)
    except FileNotFoundError:
        raise ValueError(f"there is no configuration {path}") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"cannot read the configuration {path}: {why}") from None
    try:
        values = _parser(path.suffix)(text)
    except Exception as error:  # three parsers with three families of errors, all of them the file's fault
        raise ValueError(f"cannot read the configuration {path}: {' '.join(str(error).split())}") from None
    check_nesting(f"cannot read the configuration {path}", values)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"the configuration {path} must map names to values, got a {type(values).__name__}")
    return values


def _parser(suffix: str) -> Callable[[str], Any]:
    known: dict[str, Callable[[str], Any]] = {".toml": _toml, ".json": json.loads}
    return known.get(suffix, read_yaml)


def read_yaml(text: str) -> Any:
    """The value of a YAML document without aliases: a few of them, nested, stand for more values than fit in memory."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # the library has no types
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()
                raise yaml.composer.ComposerError(
                    None, None, f"the alias *{event.anchor} is not read here: write its value", event.start_mark
                )
            return super().compose_node(parent, index)

    return yaml.load(text, Loader)


def _toml(text: str) -> dict[str, Any]:
    """The values in a TOML file. The parser takes long for a key of thousands of parts; settings have two."""
    if found := _LONG_KEY.search(text):
        raise ValueError(f"a key of more than {PARTS} parts, in line {text.count(chr(10), 0, found.start()) + 1}")
    return tomllib.loads(text)


def _flat(parsed: dict[str, Any], path: Path, sections: Collection[str]) -> dict[str, Any]:
    """Settings by name; the keys of sections get their section's name in front."""
    values: dict[str, Any] = {}
    for name, value in parsed.items():
        if name not in sections:
            values[name] = value
            continue
        if not isinstance(value, dict):
            raise ValueError(f"{path}: {name} is a section and holds settings, got {short(value)}")
        values |= {f"{name}.{inner}": held for inner, held in value.items()}
    return values
