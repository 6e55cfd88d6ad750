"""Tokenizers that are learned from captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

LENGTH = 28
"""Number of tokens of a padded caption; the longest has 25."""
SIZE = 2048
"""Number of tokens that a CLIP tokenizer has."""
RARE = 2
"""Words of fewer captions are spelled by the T5 tokenizer."""


def clip(texts: Sequence[str]) -> Any:
    """A :class:`transformers.CLIPTokenizer` of byte pairs that are frequent in ``texts``."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    start = CLIPTokenizer(vocab={token: place for place, token in enumerate(tokens)}, merges=[])
    learned = start.train_new_from_iterator([list(texts)], vocab_size=SIZE, show_progress=False)
    learned.model_max_length = LENGTH
    return learned


def t5(texts: Sequence[str]) -> Any:
    """A :class:`transformers.T5Tokenizer` that knows the words of several ``texts``, and spells all others."""
    from math import log

    from transformers import T5Tokenizer

    words = [f"▁{word}" for text in texts for word in text.split()]
    counts = Counter(piece for word in words for piece in re.findall(r"▁?\w+|▁?\W", word))
    pieces = {letter: 1 for text in texts for letter in text if not letter.isspace()}
    pieces |= {piece: count for piece, count in counts.items() if count >= RARE}
    total = sum(counts.values())
    ranked = sorted(pieces.items(), key=lambda entry: (-entry[1], entry[0]))
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", log(1 / total))]
    vocabulary = [*special, *((piece, log(count / total)) for piece, count in ranked)]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def padded(tokenizer: Any, texts: Sequence[str]) -> Any:
    """The tokens of each text, as pipelines pad and cut them."""
    length = tokenizer.model_max_length
    return tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
