"""The documentation's site, as `make docs` builds it: built here, or the folder named by ``ARIA_SITE``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build(folder: Path) -> Path:
    """Build the site into a folder, where a warning is an error; ``ARIA_SITE`` names one that was just built."""
    if "ARIA_SITE" in os.environ:
        return ROOT / os.environ["ARIA_SITE"]
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
