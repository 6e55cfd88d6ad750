r"""Which entries of a wide transformer's tensor become a narrow one's.

Every axis but those of the heads is cut as in :mod:`aria.distill.students.axis`: into the finest parts that both widths
have, whose leading entries stay. All axes along the inner width then keep the same entries, also where several stand
one after the other (shifts, scales and gates, or the sines and cosines of two axes). Of the heads, the leading ones
stay, and of each the entries that the same rule leaves of its width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aria.distill.students.axis import Run
from aria.distill.students.config import Config

INTO = re.compile(r"\.(?:to_[qkv]|add_[qkv]_proj)\.(?:weight|bias)$")
"""Axis 0 of these are the heads."""
OUT = re.compile(r"\.(?:to_out\.0|to_add_out)\.weight$")
"""Axis 1 of these."""


@dataclass(frozen=True)
class TransformerSlicer:
    """Cuts the tensors of a transformer to those of a narrower one with the same blocks."""

    wide: tuple[int, int]
    """Heads and the width of each."""
    narrow: tuple[int, int]

    @classmethod
    def between(cls, wide: Config, narrow: Config) -> TransformerSlicer:
        """For two configs that differ only in their widths."""
        heads = [(config["num_attention_heads"], config["attention_head_dim"]) for config in (wide, narrow)]
        return cls(*heads)

    def __call__(self, name: str, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The part of ``tensor`` that becomes the student's tensor ``name`` of ``shape``."""
        for axis, narrow in enumerate(shape):
            heads = bool((INTO.search(name) and axis == 0) or (OUT.search(name) and axis == 1))
            index = self.heads() if heads else Run(tensor.shape[axis], narrow).index()
            tensor = tensor.index_select(axis, index.to(tensor.device))
        return tensor

    def heads(self) -> Tensor:
        """The entries of an axis of heads that stay.

        >>> TransformerSlicer((3, 4), (2, 2)).heads().tolist()
        [0, 2, 4, 6]
        """
        (_, wide), (heads, narrow) = self.wide, self.narrow
        return (torch.arange(heads)[:, None] * wide + Run(wide, narrow).index()).flatten()
