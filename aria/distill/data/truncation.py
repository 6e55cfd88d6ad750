"""Prompts that are longer than the text encoder takes: found while they are encoded, reported in one line.

The libraries below warn of every such prompt, with the part of it that is cut.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from aria.distill.models.denoisers.base import TokenLimit

NOISE = ("The following part of your input was truncated", "Token indices sequence length is longer")
"""How the warnings of diffusers and transformers about a single prompt begin."""
SHOWN = 40
"""Characters of a prompt that are shown."""


def are_cut(texts: list[str], limit: TokenLimit | None) -> Tensor:
    """(N,) bool: whether each text has more tokens than the encoder takes; none has where there is no encoder."""
    if limit is None:
        return torch.zeros(len(texts), dtype=torch.bool)
    tokens = limit.tokenizer(texts, padding=False, truncation=False, verbose=False).input_ids
    return torch.tensor([len(found) > limit.tokens for found in tokens], dtype=torch.bool)


def sentence(cut: Tensor, texts: Any, limit: TokenLimit | None) -> str | None:
    """The one line about the prompts of which ``cut`` (N,) is true; None if there are none."""
    if limit is None or not bool(cut.any()):
        return None
    first = int(cut.nonzero()[0])
    text = " ".join(texts[first].split())
    begins = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
    return (
        f"{int(cut.sum()):,} of {len(cut):,} prompts are longer than the text encoder's {limit.tokens} tokens and are "
        f"cut: first prompt {first}, {begins!r}"
    )


@contextmanager
def without_library_warnings(pipeline: Any) -> Iterator[None]:
    """Keep the libraries from warning of each long prompt."""

    def other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(NOISE)

    names = {kind.__module__ for kind in type(pipeline).__mro__ if kind.__module__.startswith("diffusers.")}
    loggers = [logging.getLogger(name) for name in {*names, "transformers.tokenization_utils_base"}]
    for logger in loggers:
        logger.addFilter(other)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(other)
