"""Tests that need diffusers are skipped where it is not installed."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("diffusers") is None:
    collect_ignore_glob = ["*"]
