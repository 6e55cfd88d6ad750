"""The cache of a run: prompts encoded by its teacher, and latents of images, computed once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import checks
from aria.checks import InvalidSetting
from aria.distill.data import Conditions, build_conditions, truncation
from aria.distill.data.images import read_images
from aria.distill.data.latents import (
    IMAGES,
    SAMPLES,
    Latents,
    encode_images,
    follow,
    kept_images,
    sample_latents,
    withdraw,
)
from aria.distill.data.prompt_files import read_prompts
from aria.distill.data.prompts import Prompts
from aria.distill.models.denoisers import of
from aria.files import locked_folder, read_json, write_json
from aria.progress import Bar

log = logging.getLogger(__name__)

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
RECORD = "cache.json"
TEXTS_PER_IMAGE = 8
"""Texts in a batch for each image in a batch of images: an encoder needs at least that much less memory a sample."""


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
    texts: str | None = None,
) -> dict[str, Any]:
    """Encode the prompts, sample or encode images, and return what the folder holds.

    What is there already is kept, and follows the prompts file when that changes. Of several processes that fill one
    folder, each waits for the one before it. Prompts with another digest than ``texts`` are refused before anything is
    written.
    """
    checks.non_negative("guidance_scale", guidance)
    with locked_folder(output, wait=True):
        given = read_prompts(prompts, column=column)
        images = [] if data is None else read_images(data, column=column)
        pool, captions = given.joined([image.caption for image in images])
        if texts is not None and pool.texts.digest() != texts:
            raise InvalidSetting(
                "prompts",
                "conflict",
                f"{prompts} holds other prompts than this run was started with: resume with the same ones or choose "
                "another output folder",
            )
        denoiser = of(pipeline)
        denoiser.latent_shape(pipeline, resolution)  # refuses an impossible resolution before the work begins
        pool = pool.with_columns(denoiser.columns(pipeline, pool.texts))
        common: dict[str, Any] = {"dtype": DTYPES[dtype], "device": pipeline.device}
        sources = {name: output / "latents" / name for name in (SAMPLES, IMAGES)}

        def withdraw_images() -> None:
            for folder in sources.values():
                withdraw(folder)

        encoding: dict[str, Any] = common | {"batch_size": batch_size * TEXTS_PER_IMAGE}
        encoding["before_change"] = withdraw_images
        with bar("prompts") as progress:
            encoded = build_conditions(pipeline, denoiser, pool, output / "conditions", progress=progress, **encoding)
        common |= {"resolution": resolution, "seed": seed, "batch_size": batch_size}
        conditions = Conditions(output / "conditions", residency="disk")
        long = truncation.sentence(conditions.cut(), pool.texts, denoiser.token_limit(pipeline)) if encoded else None
        if long is not None:
            log.warning(long)
        if num_images:
            _, kept = kept_images(sources[SAMPLES], conditions)
            index = chosen(len(given), num_images, seed, kept)
            sampling: dict[str, Any] = common | {"steps": steps, "guidance": guidance}
            with bar("samples") as progress:
                sample_latents(pipeline, denoiser, conditions, index, sources[SAMPLES], progress=progress, **sampling)
        elif sources[SAMPLES].is_dir():
            follow(sources[SAMPLES], conditions)
        if images:
            with bar("images") as progress:
                encode_images(pipeline, denoiser, images, captions, sources[IMAGES], progress=progress, **common)
        elif sources[IMAGES].is_dir():
            follow(sources[IMAGES], conditions)
        settings: dict[str, Any] = {"num_images": num_images, "num_inference_steps": steps, "guidance_scale": guidance}
        settings |= {"resolution": resolution, "dtype": dtype, "batch_size": batch_size, "seed": seed}
        record = {
            "format": "aria-cache-1",
            "teacher": pipeline.config.get("_name_or_path"),
            "prompts": {"source": str(prompts), "column": column, "texts": pool.texts.digest(), **_counts(given, pool)},
            "train_data_dir": None if data is None else str(data),
            "settings": settings,
            **held(output),
        }
        write_json(output / RECORD, record)
        return record


def kept(folder: Path, *, seed: int) -> dict[str, Any]:
    """The type and seed that an existing cache was made with, so that runs with other seeds can share it; without a
    cache, the run's seed."""
    path = folder / RECORD
    if not path.is_file():
        return {"seed": seed}
    record = read_json(path)
    try:
        settings = {name: record["settings"][name] for name in ("dtype", "seed")}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the record of a cache: {error!r}") from None
    checks.one_of(f"{path}: dtype", settings["dtype"], tuple(DTYPES))
    checks.whole(f"{path}: seed", settings["seed"], least=0)
    return settings


def opened(folder: Path, *, resolution: int | None, **kwargs: Any) -> tuple[Conditions, Latents]:
    """The conditions and images of a cache, if they belong together; ``kwargs`` are those that both take."""
    conditions = Conditions(folder / "conditions", **kwargs)
    images = Latents(folder / "latents", resolution=resolution, **kwargs)
    images.check_prompts(conditions)
    return conditions, images


def held(output: Path) -> dict[str, Any]:
    """How much a cache holds."""
    conditions = Conditions(output / "conditions", residency="disk")
    stored, used = len(conditions.store), conditions.used()
    texts = {"rows": len(conditions), "distinct": used, "unused": stored - used, "bytes": conditions.store.nbytes()}
    if not (output / "latents").is_dir():
        return {"conditions": texts, "latents": {"rows": 0, "bytes": 0}}
    latents = Latents(output / "latents", residency="disk")
    images = {"rows": len(latents), "bytes": latents.store.nbytes(), "shape": list(latents.shape)}
    return {"conditions": texts, "latents": images}


def chosen(conditions: int, images: int, seed: int, kept: Tensor | None = None) -> Tensor:
    """(M,) conditions to be shown: those of images that are ``kept``, then others.

    The others come in a random order of the conditions that is repeated for as long as it takes, from which every kept
    image takes away one place of its condition. So a list begins with every shorter one of the same seed, and what is
    kept of it changes nothing.

    >>> chosen(3, 5, seed=0).tolist(), chosen(3, 5, seed=0, kept=torch.tensor([1])).tolist()
    ([2, 0, 1, 2, 0], [1, 2, 0, 2, 0])
    """
    kept = torch.empty(0, dtype=torch.int64) if kept is None else kept[:images]
    shown = torch.bincount(kept, minlength=conditions)[:conditions]  # (N,) images that there are of each
    order = torch.randperm(conditions, generator=torch.Generator().manual_seed(seed))
    rounds = int(shown.max()) + -(-images // conditions)
    repeat = torch.arange(rounds).repeat_interleave(conditions)
    places = order.repeat(rounds)
    return torch.cat([kept, places[repeat >= shown[places]]])[:images]


def _counts(given: Prompts, pool: Prompts) -> dict[str, Any]:
    left_out, joined = list(given.left_out), len(pool) - len(given)
    return {"rows": len(given), "skipped": given.skipped, "left_out": left_out, "captions_joined": joined}
