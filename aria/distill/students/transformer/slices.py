r"""Which entries of a wide transformer's tensor become a narrow one's.

Every axis but those of the heads is cut as in :mod:`aria.distill.students.axis`: into the finest parts that both widths
have, whose leading entries stay. All axes along the inner width then keep the same entries, also where several stand
one after the other (shifts, scales and gates, or the sines and cosines of two axes). Of the heads, the leading ones
stay, and of each the entries that the same rule leaves of its width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aria.distill.students.axis import Run
from aria.distill.students.config import Config

INTO = re.compile(r"\.(?:to_[qkv]|add_[qkv]_proj)\.(?:weight|bias)$")
"""Axis 0 of these are the heads."""
NORM = re.compile(r"\.norm_[qk]\.weight$")
"""Axis 0 of these is one head, or all of them."""
OUT = re.compile(r"\.(?:to_out\.0|to_add_out)\.weight$")
"""Axis 1 of these."""
Heads = tuple[int, int]
"""Heads and the width of each."""


@dataclass(frozen=True)
class TransformerSlicer:
    """Cuts the tensors of a transformer to those of a narrower one with the same blocks."""

    wide: Heads
    narrow: Heads
    cross: tuple[Heads, Heads] | None = None
    """The heads of cross-attention, wide and narrow, where they are others."""

    @classmethod
    def between(cls, wide: Config, narrow: Config) -> TransformerSlicer:
        """For two configs that differ only in their widths."""
        own = [(config["num_attention_heads"], config["attention_head_dim"]) for config in (wide, narrow)]
        if not wide.get("num_cross_attention_heads"):
            return cls(own[0], own[1])
        cross = [(config["num_cross_attention_heads"], config["cross_attention_head_dim"]) for config in (wide, narrow)]
        return cls(own[0], own[1], (cross[0], cross[1]))

    def __call__(self, name: str, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The part of ``tensor`` that becomes the student's tensor ``name`` of ``shape``."""
        wide, narrow = self.cross if self.cross and ".attn2." in name else (self.wide, self.narrow)
        into = INTO.search(name) or (NORM.search(name) and tensor.shape[0] == math.prod(wide))
        for axis, left in enumerate(shape):
            heads = (into and axis == 0) or (OUT.search(name) and axis == 1)
            index = kept_heads(wide, narrow) if heads else Run(tensor.shape[axis], left).index()
            tensor = tensor.index_select(axis, index.to(tensor.device))
        return tensor


def kept_heads(wide: Heads, narrow: Heads) -> Tensor:
    """The entries of an axis of heads that stay.

    >>> kept_heads((3, 4), (2, 2)).tolist()
    [0, 2, 4, 6]
    """
    return (torch.arange(narrow[0])[:, None] * wide[1] + Run(wide[1], narrow[1]).index()).flatten()
