"""Which checkpoint a run resumes from: the same one in every process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aria.distill.runs import resume
from aria.distill.runs.checkpoint import Saved


def among(*others):
    """An accelerator whose other processes begin at these steps."""
    return SimpleNamespace(device="cpu", gather=lambda own: torch.cat([own, torch.tensor(others, dtype=own.dtype)]))


def saved(step):
    return Saved(Path(f"checkpoint-{step}"), {"step": step})


def test_processes_begin_with_the_same_checkpoint():
    resume.agree(saved(4), among(4, 4))
    resume.agree(None, among(-1))
    cases = ((saved(4), (2, 4), "that of step 2, that of step 4"), (None, (4,), "none, that of step 4"))
    for own, others, shown in cases:
        with pytest.raises(ValueError, match=f"different checkpoints to resume from: {shown}$"):
            resume.agree(own, among(*others))
