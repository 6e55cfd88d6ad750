"""How a setting is declared: its default and the line that explains it."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def said(default: Any, help: str) -> Any:
    """A dataclass field with a default and a line of help."""
    return field(default=default, metadata={"help": help})
