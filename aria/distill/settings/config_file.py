"""Settings in a YAML, TOML or JSON file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from aria import checks


def read(path: Path, *, sections: Collection[str]) -> dict[str, Any]:
    """Values by plain or dotted names, whether the file is flat or in sections."""
    return _flat(_parse(path), path, sections)


def _parse(path: Path) -> dict[str, Any]:
    checks.one_of("the ending of a configuration file", path.suffix, (".yaml", ".yml", ".toml", ".json"))
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"there is no configuration {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"cannot read the configuration {path}: {why}") from None
    try:
        values = _parser(path.suffix)(text)
    except Exception as error:  # three parsers with three families of errors, all of them the file's fault
        raise ValueError(f"cannot read the configuration {path}: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"the configuration {path} must map names to values, got a {type(values).__name__}")
    return values


def _parser(suffix: str) -> Any:
    if suffix in {".yaml", ".yml"}:
        import yaml

        return yaml.safe_load
    return tomllib.loads if suffix == ".toml" else json.loads


def _flat(parsed: dict[str, Any], path: Path, sections: Collection[str]) -> dict[str, Any]:
    """Settings by name; the keys of sections get their section's name in front."""
    values: dict[str, Any] = {}
    for name, value in parsed.items():
        if name not in sections:
            values[name] = value
            continue
        if not isinstance(value, dict):
            raise ValueError(f"{path}: {name} is a section and holds settings, got {value!r}")
        values |= {f"{name}.{inner}": held for inner, held in value.items()}
    return values
