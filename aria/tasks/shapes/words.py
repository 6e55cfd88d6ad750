"""A CLIP tokenizer for captions of scenes: one token for each known word, and letters for everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from aria.tasks.shapes.scenes import COLOURS, PLACES, RELATIONS, SHAPES, SIZES

LENGTH = 12
"""Number of tokens of a padded caption; the longest caption has eight words."""
START, END = "<|startoftext|>", "<|endoftext|>"


def tokenizer() -> Any:
    """A :class:`transformers.CLIPTokenizer` with the words of all possible captions in its vocabulary."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    words = {word for text in ("a an", *SHAPES, *COLOURS, *SIZES, *PLACES, *RELATIONS) for word in text.split()}
    merges = learned_merges(words)
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    vocabulary = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def learned_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte-pair merges (R. Sennrich et al., ACL 2016) until each word is one token.

    >>> learned_merges(["red", "bed"])
    [('e', 'd</w>'), ('b', 'ed</w>'), ('r', 'ed</w>')]
    """
    split = [[*word[:-1], f"{word[-1]}</w>"] for word in sorted(words)]
    merges: list[tuple[str, str]] = []
    while True:
        counts = Counter(pair for parts in split for pair in pairwise(parts))
        if not counts:
            return merges
        best = max(counts, key=lambda pair: (counts[pair], [-ord(letter) for letter in "".join(pair)]))
        merges.append(best)
        split = [_merged(parts, best) for parts in split]


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged
