"""Keys of texts: how a cache recognises a prompt when the order or the length of the prompts file changed.

Texts are compared by 128 bits of a BLAKE2b hash, held as two int64: fewer bytes to sort than the texts have.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from aria.distill.data.prompts import Texts


def hashes(texts: Texts) -> Tensor:
    """(N, 2) int64: the hash of each text."""
    digests = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in texts.raw())
    return torch.from_numpy(np.frombuffer(digests, np.int64).reshape(-1, 2).copy())


def numbered(keys: Tensor) -> Tensor:
    """(N, C + 1): each key with the number of equal keys before it, which makes all of them different.

    >>> numbered(torch.tensor([[7], [5], [7]])).tolist()
    [[7, 0], [5, 0], [7, 1]]
    """
    order, start = _sorted(keys)
    begin = np.maximum.accumulate(np.where(start, np.arange(len(order)), 0))
    repeat = np.empty(len(order), np.int64)
    repeat[order] = np.arange(len(order)) - begin
    return torch.cat([keys, torch.from_numpy(repeat)[:, None]], 1)


def first_equal(keys: Tensor) -> Tensor:
    """(N,) int64: for each key, where an equal one comes first.

    >>> first_equal(torch.tensor([[7], [5], [7]])).tolist()
    [0, 1, 0]
    """
    order, start = _sorted(keys)
    first = np.empty(len(order), np.int64)
    first[order] = order[start][np.cumsum(start) - 1]  # the sort is stable: of equal keys the first comes first
    return torch.from_numpy(first)


def find(wanted: Tensor, known: Tensor) -> Tensor:
    """(N,) int64: where each of ``wanted`` (N, C) is in ``known`` (U, C); −1 where it is not.

    >>> find(torch.tensor([[7], [5], [9]]), torch.tensor([[5], [7]])).tolist()
    [1, 0, -1]
    """
    place = first_equal(torch.cat([known, wanted]))[len(known) :]
    return place.masked_fill(place >= len(known), -1)


def distinct(texts: Texts) -> tuple[Tensor, Tensor]:
    """(U,) int64 where each distinct text comes first, in that order, and (N,) int64 which of them each text is.

    >>> distinct(Texts.of(["b", "a", "b"]))
    (tensor([0, 1]), tensor([0, 1, 0]))
    """
    first, which = torch.unique(first_equal(hashes(texts)), return_inverse=True)
    return first, which


def _sorted(keys: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The stable order of the keys, and where in that order a key differs from the one before."""
    columns = keys.numpy()
    order = np.lexsort(columns.T[::-1])
    start = np.ones(len(order), bool)
    start[1:] = (columns[order[1:]] != columns[order[:-1]]).any(1)
    return order, start
