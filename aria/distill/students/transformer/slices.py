r"""Which entries of a wide transformer's tensor become a narrow one's.

Every axis but those of the heads is cut as in :mod:`aria.distill.students.axis`: into the finest parts that both widths
have, whose leading entries stay. All axes along the inner width then keep the same entries, also where several stand
one after the other (shifts, scales and gates, or the sines and cosines of two axes). Of the heads, the leading ones
stay, and of each the entries that the same rule leaves of its width; or, where rotary positions turn pairs of entries,
the pairs that it leaves of each axis. What a block with a single stream adds is read from its heads, with the values of
its feed-forward layer behind them; in FLUX.2 these are made together, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aria.distill.students.axis import Run
from aria.distill.students.config import Config
from aria.distill.students.transformer.family import Family

INTO = re.compile(r"\.(?:to_[qkv]|add_[qkv]_proj)\.(?:weight|bias)$")
"""Axis 0 of these are the heads."""
SHARED = re.compile(r"\.to_[kv]\.(?:weight|bias)$")
"""The heads of these may be fewer."""
NORM = re.compile(r"\.norm_(?:added_)?[qk]\.weight$")
"""Axis 0 of these is one head, or all of them."""
OUT = re.compile(r"\.(?:to_out\.0|to_add_out)\.weight$")
"""Axis 1 of these."""
BOTH = re.compile(r"^single_transformer_blocks\.\d+\.(?:proj_out|attn\.to_out)\.weight$")
"""Axis 1 of these begins with the heads."""
FUSED = re.compile(r"^single_transformer_blocks\.\d+\.attn\.to_qkv_mlp_proj\.weight$")
"""Axis 0 of these begins with the heads of queries, keys and values."""
Heads = tuple[int, int]
"""Heads and the width of each."""


@dataclass(frozen=True)
class TransformerSlicer:
    """Cuts the tensors of a transformer to those of a narrower one with the same blocks."""

    wide: Heads
    narrow: Heads
    cross: tuple[Heads, Heads] | None = None
    """The heads of cross-attention, wide and narrow, where they are others."""
    axes: tuple[Sequence[int], Sequence[int]] | None = None
    """Entries of a head for each axis of rotary positions, wide and narrow."""
    shared: tuple[int, int] | None = None
    """How many heads of keys and values there are, wide and narrow, where they are fewer."""

    @classmethod
    def between(cls, family: Family, wide: Config, narrow: Config) -> TransformerSlicer:
        """For two configs that differ only in their widths."""

        def both(setting: str) -> tuple[Any, Any] | None:
            return (wide[setting], narrow[setting]) if wide.get(setting) else None

        cross = both("num_cross_attention_heads")
        if cross is not None:
            cross = ((cross[0], wide["cross_attention_head_dim"]), (cross[1], narrow["cross_attention_head_dim"]))
        axes = (family.axes_of(wide), family.axes_of(narrow)) if family.axes_of(wide) else None
        return cls(family.heads(wide), family.heads(narrow), cross, axes, both(family.shared_setting))

    def __call__(self, name: str, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The part of ``tensor`` that becomes the student's tensor ``name`` of ``shape``."""
        wide, narrow = self.cross if self.cross and ".attn2." in name else (self.wide, self.narrow)
        if self.shared and SHARED.search(name):
            wide, narrow = (self.shared[0], wide[1]), (self.shared[1], narrow[1])
        head = Run(wide[1], narrow[1]).index() if self.axes is None else kept_pairs(*self.axes)
        heads = kept_heads(wide, narrow, head)
        norm, whole = NORM.search(name), math.prod(wide)
        for axis, left in enumerate(shape):
            index = Run(tensor.shape[axis], left).index()
            if norm:
                index = heads if tensor.shape[axis] == whole else head
            elif (INTO.search(name) and axis == 0) or (OUT.search(name) and axis == 1):
                index = heads
            elif (BOTH.search(name) and axis == 1) or (FUSED.search(name) and axis == 0):
                times = 1 if axis else 3
                front = [part * whole + heads for part in range(times)]
                behind = Run(tensor.shape[axis] - times * whole, left - times * len(heads)).index()
                index = torch.cat([*front, times * whole + behind])
            tensor = tensor.index_select(axis, index.to(tensor.device))
        return tensor


def kept_heads(wide: Heads, narrow: Heads, head: Tensor) -> Tensor:
    """The entries of an axis of heads that stay, ``head`` of each.

    >>> kept_heads((3, 4), (2, 2), torch.tensor([0, 2])).tolist()
    [0, 2, 4, 6]
    """
    return (torch.arange(narrow[0])[:, None] * wide[1] + head).flatten()


def kept_pairs(wide: Sequence[int], narrow: Sequence[int]) -> Tensor:
    """The entries of a head that stay, in pairs of neighbours, axis by axis.

    >>> kept_pairs((4, 8), (2, 4)).tolist()
    [0, 1, 4, 5, 8, 9]
    """
    starts = [sum(wide[:axis]) for axis in range(len(wide))]
    pairs = [Run(old // 2, new // 2).index()[:, None] * 2 + torch.arange(2) for old, new in zip(wide, narrow)]
    return torch.cat([start + pair.flatten() for start, pair in zip(starts, pairs)])
