"""Encoding prompts once: one row per distinct text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import checks
from aria.distill.data import fingerprint, truncation
from aria.distill.data.keys import find, first_equal, hashes
from aria.distill.data.prompts import Prompts
from aria.distill.data.saved_prompts import load_prompts, save_prompts
from aria.distill.data.store import Writer, written
from aria.distill.models.denoisers import Denoiser
from aria.tensor_files import write_tensors

Progress = Callable[[int, int], None]
"""Called with the number of rows that are done and with their total."""
PROMPTS, NULL = "prompts.safetensors", "null.safetensors"
FORMAT = 2
"""Of what the rows of a cache hold; since 2 each is stored with the hash of its text."""
FEATURES, TEXT, CUT = "features", "text", "cut"
"""Stored beside the condition's tensors: the vectors that regions are made of, the hash of each text, and whether the
text was longer than the text encoder takes."""


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
    before_change: Callable[[], None] | None = None,
) -> int:
    """Write the embeddings of all prompts, their features and the null condition into ``folder``; return how many texts
    were encoded for that.

    A text that the folder already holds is not encoded again, whatever the prompts were when it was: prompts may be
    added, removed and reordered. The rows of removed prompts stay in the folder, unused, until it is deleted. A folder
    made with another encoder is refused. ``before_change`` is called before the prompts in the folder are replaced by
    others, so that what refers to them by number can be withdrawn.
    """
    checks.whole("batch_size", batch_size, least=1)
    folder = Path(folder)
    keys = hashes(prompts.texts)  # (N, 2)
    first, which = torch.unique(first_equal(keys), return_inverse=True)  # (U,), (N,)
    keys = keys[first]  # (U, 2)
    limit = denoiser.token_limit(pipeline)
    made_with = conditions_fingerprint(pipeline, denoiser, dtype)
    with Writer(folder, made_with) as writer, truncation.without_library_warnings(pipeline):
        place = find(keys, written(folder, TEXT, 2))  # (U,) the row of each text, or −1
        new = (place < 0).nonzero().flatten()
        place[new] = writer.rows + torch.arange(len(new))
        total = writer.rows + len(new)
        if before_change is not None and not _holds(folder / PROMPTS, prompts):
            before_change()
        if len(new):
            writer.expect(total)  # from here to the last row readers refuse the folder
        null = denoiser.null(pipeline, device)
        write_tensors(folder / NULL, {name: [_stored(x, dtype)] for name, x in null.items()})
        save_prompts(prompts, place[which], folder / PROMPTS)
        writer.expect(total)
        for begin in range(0, len(new), batch_size):
            if progress:
                progress(len(first) - len(new) + begin, len(first))
            batch = new[begin : begin + batch_size]
            texts = [prompts.texts[i] for i in first[batch].tolist()]
            condition = denoiser.encode(pipeline, texts, device)
            stored = {name: _stored(x, dtype) for name, x in condition.items()}
            about = {FEATURES: denoiser.features(condition).float(), TEXT: keys[batch]}
            writer.append(stored | about | {CUT: truncation.are_cut(texts, limit)})
    if progress:
        progress(len(first), len(first))
    return len(new)


def _holds(path: Path, prompts: Prompts) -> bool:
    """Whether a file of prompts holds these texts, in this order."""
    return path.is_file() and len(had := load_prompts(path)[0].texts) == len(prompts) and had.starts_with(prompts.texts)


def conditions_fingerprint(pipeline: Any, denoiser: Denoiser, dtype: torch.dtype) -> dict[str, str | int | None]:
    """What embeddings depend on. The size of the latents is part of it because some models take it as an input."""
    size = "x".join(map(str, denoiser.latent_shape(pipeline)))
    parts = fingerprint.encoders(pipeline, dtype) | {"cache format": FORMAT, "latent size": size}
    return parts | denoiser.depends_on(pipeline)


def _stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Whole numbers, such as class ids and masks, keep their type; a value beyond the range of ``dtype`` is refused."""
    if not x.is_floating_point():
        return x
    stored = x.to(dtype)
    if not bool(stored.isfinite().all()):
        raise ValueError(f"an embedding as large as {float(x.abs().max()):.4g} is not finite in {dtype}: use bf16")
    return stored
