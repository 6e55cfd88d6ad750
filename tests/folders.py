"""What folders hold, for comparisons."""

from __future__ import annotations

from pathlib import Path


def sizes(folder: Path) -> dict[str, int]:
    """The size in bytes of every file under ``folder``."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
    }
