"""Everything a run reads from its teacher again and again, computed once: encoded prompts and latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import checks
from aria.distill.data import Conditions, build_conditions
from aria.distill.data.images import read_images
from aria.distill.data.latents import IMAGES, SAMPLES, Latents, encode_images, sample_latents
from aria.distill.data.prompt_files import read_prompts
from aria.distill.data.prompts import Prompts
from aria.distill.models.denoisers import of
from aria.files import read_json, write_json
from aria.progress import Bar

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
RECORD = "cache.json"
TEXTS_PER_IMAGE = 8
"""How many texts are encoded in the place of one image: an encoder is that much lighter than a denoiser, and more."""


def fill(
    output: Path,
    pipeline: Any,
    *,
    prompts: Path,
    bar: Bar,
    column: str | None = None,
    num_images: int = 0,
    steps: int = 25,
    guidance: float = 7.5,
    data: Path | None = None,
    resolution: int | None = None,
    dtype: str = "fp16",
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, Any]:
    """Encode the prompts, sample or encode images, and return what the folder holds. What is there already is kept."""
    checks.non_negative("guidance_scale", guidance)
    given = read_prompts(prompts, column=column)
    images = [] if data is None else read_images(data, column=column)
    pool, shown = given.joined([image.caption for image in images])
    denoiser = of(pipeline)
    denoiser.latent_shape(pipeline, resolution)  # a resolution that cannot be is refused before the work begins
    pool = pool.with_columns(denoiser.columns(pipeline, pool.texts))
    common: dict[str, Any] = {"dtype": DTYPES[dtype], "device": pipeline.device}
    texts = batch_size * TEXTS_PER_IMAGE
    with bar("prompts") as progress:
        folder = output / "conditions"
        build_conditions(pipeline, denoiser, pool, folder, batch_size=texts, progress=progress, **common)
    common |= {"resolution": resolution, "seed": seed, "batch_size": batch_size}
    if num_images:
        index = chosen(len(given), num_images, seed)
        told: dict[str, Any] = common | {"steps": steps, "guidance": guidance}
        with bar("samples") as progress:
            conditions, folder = Conditions(output / "conditions", residency="disk"), output / "latents" / SAMPLES
            sample_latents(pipeline, denoiser, conditions, index, folder, progress=progress, **told)
    if images:
        with bar("images") as progress:
            folder = output / "latents" / IMAGES
            encode_images(pipeline, denoiser, images, shown, folder, progress=progress, **common)
    settings: dict[str, Any] = {"num_images": num_images, "num_inference_steps": steps, "guidance_scale": guidance}
    settings |= {"resolution": resolution, "dtype": dtype, "batch_size": batch_size, "seed": seed}
    record = {
        "format": "aria-cache-1",
        "teacher": pipeline.config.get("_name_or_path"),
        "prompts": {"source": str(prompts), "column": column, **_counts(given, pool)},
        "train_data_dir": None if data is None else str(data),
        "settings": settings,
        **held(output),
    }
    write_json(output / RECORD, record)
    return record


def kept(folder: Path, *, seed: int) -> dict[str, Any]:
    """Type and seed of a cache that is there, so that runs with seeds of their own can share it; else the run's."""
    path = folder / RECORD
    if not path.is_file():
        return {"seed": seed}
    record = read_json(path)
    try:
        told = {name: record["settings"][name] for name in ("dtype", "seed")}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no record of a cache: {error!r}") from None
    checks.one_of(f"{path}: dtype", told["dtype"], tuple(DTYPES))
    checks.whole(f"{path}: seed", told["seed"], least=0)
    return told


def held(output: Path) -> dict[str, Any]:
    """How much a cache holds."""
    conditions = Conditions(output / "conditions", residency="disk")
    texts = {"rows": len(conditions), "distinct": len(conditions.store), "bytes": conditions.store.nbytes()}
    if not (output / "latents").is_dir():
        return {"conditions": texts, "latents": {"rows": 0, "bytes": 0}}
    latents = Latents(output / "latents", residency="disk")
    shown = {"rows": len(latents), "bytes": latents.store.nbytes(), "shape": list(latents.shape)}
    return {"conditions": texts, "latents": shown}


def chosen(conditions: int, images: int, seed: int) -> Tensor:
    """(M,) conditions to be shown: a random order, begun anew where there are more images than conditions.

    A longer list begins with a shorter one of the same seed, so that a cache can grow.
    """
    order = torch.randperm(conditions, generator=torch.Generator().manual_seed(seed))
    return order.repeat(-(-images // conditions))[:images]


def _counts(given: Prompts, pool: Prompts) -> dict[str, Any]:
    left_out, joined = list(given.left_out), len(pool) - len(given)
    return {"rows": len(given), "skipped": given.skipped, "left_out": left_out, "captions_joined": joined}
