"""Encoding prompts once: one row per distinct text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aria import checks
from aria.distill.data import fingerprint
from aria.distill.data.prompts import Prompts, Texts
from aria.distill.data.saved_prompts import load_prompts, save_prompts
from aria.distill.data.store import Writer
from aria.distill.data.tensor_files import write_tensors
from aria.distill.models.denoisers import Denoiser

Progress = Callable[[int, int], None]
"""Called with how many rows are done, and of how many."""
PROMPTS, ROWS, NULL = "prompts.safetensors", "rows.safetensors", "null.safetensors"
FEATURES = "features"
"""The name, beside those of the condition's tensors, of the vectors that regions are made of."""


def build_conditions(
    pipeline: Any,
    denoiser: Denoiser,
    prompts: Prompts,
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float16,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Write the embeddings of all prompts, their features and the null condition into ``folder``.

    A folder that was left unfinished is continued. One made from the beginning of these prompts is extended; one made
    from other prompts or with another encoder is refused.
    """
    checks.whole("batch_size", batch_size, least=1)
    folder = Path(folder)
    first, rows = distinct(prompts.texts)
    with Writer(folder, conditions_fingerprint(pipeline, denoiser, dtype), len(first)) as writer:
        _keep_prompts(folder, prompts)
        write_tensors(folder / ROWS, {"row": [rows]})
        null = denoiser.null(pipeline, device)
        write_tensors(folder / NULL, {name: [_stored(x, dtype)] for name, x in null.items()})
        while (done := writer.rows + writer.pending) < len(first):
            if progress:
                progress(done, len(first))
            texts = [prompts.texts[i] for i in first[done : done + batch_size].tolist()]
            condition = denoiser.encode(pipeline, texts, device)
            stored = {name: _stored(x, dtype) for name, x in condition.items()}
            writer.append(stored | {FEATURES: denoiser.features(condition).float()})
    if progress:
        progress(len(first), len(first))


def conditions_fingerprint(pipeline: Any, denoiser: Denoiser, dtype: torch.dtype) -> dict[str, str | int | None]:
    """What embeddings depend on; the size of the latents is among it because some models are told it."""
    size = "x".join(map(str, denoiser.latent_shape(pipeline)))
    return fingerprint.encoders(pipeline, dtype) | {"latent size": size} | denoiser.depends_on(pipeline)


def distinct(texts: Texts) -> tuple[Tensor, Tensor]:
    """(U,) int64 where each distinct text is first, in that order, and (N,) int32 which of them each text is.

    Texts are compared by 128 bits of a hash: fewer bytes to sort than the texts have.

    >>> distinct(Texts.of(["b", "a", "b"]))
    (tensor([0, 1]), tensor([0, 1, 0], dtype=torch.int32))
    """
    hashed = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in texts.raw())
    keys = np.frombuffer(hashed, np.uint64).reshape(-1, 2)
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: of equal texts the first comes first
    new = np.ones(len(order), bool)
    new[1:] = (keys[order[1:]] != keys[order[:-1]]).any(1)
    first = order[new]  # (U,) where each text is first, in order of the keys
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    row = np.empty(len(order), np.int32)
    row[order] = rank[np.cumsum(new) - 1]
    return torch.from_numpy(np.sort(first)), torch.from_numpy(row)


def _keep_prompts(folder: Path, prompts: Prompts) -> None:
    """Save the prompts; if there are some already, these must begin with them."""
    path = folder / PROMPTS
    if path.exists():
        old = load_prompts(path).texts
        if not prompts.texts.starts_with(old):
            i = next((i for i, (a, b) in enumerate(zip(old, prompts.texts)) if a != b), len(prompts))
            now = repr(prompts.texts[i]) if i < len(prompts) else "missing"
            raise ValueError(f"{folder} was made with prompt {i} = {old[i]!r}, which is {now} now: use another folder")
    save_prompts(prompts, path)


def _stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Whole numbers, such as class ids and masks, keep their type; a value beyond the range of ``dtype`` is refused."""
    if not x.is_floating_point():
        return x
    stored = x.to(dtype)
    if not bool(stored.isfinite().all()):
        raise ValueError(f"an embedding as large as {float(x.abs().max()):.4g} is not finite in {dtype}: use bf16")
    return stored
