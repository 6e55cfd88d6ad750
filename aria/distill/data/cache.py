"""The cache of a run: prompts encoded by its teacher, and latents of images, computed once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import checks
from aria.checks import InvalidSetting
from aria.distill.data import Conditions, build_conditions, fingerprint, truncation
from aria.distill.data.images import read_images
from aria.distill.data.latents import (
    IMAGES,
    SAMPLES,
    SERVED,
    Latents,
    encode_images,
    follow,
    kept_images,
    sample_latents,
    withdraw,
)
from aria.distill.data.prompt_files import read_prompts
from aria.distill.data.prompts import Prompts
from aria.distill.data.store import Store, made_with, refuse_other
from aria.distill.models.denoisers import of
from aria.files import CLOSED, FOLDER_LOCK, locked_folder, read_json, refuse_links, write_json
from aria.progress import Bar
from aria.tensor_files import map_tensors

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
    frames: int | None = None,
    dtype: str = "fp16",
    batch_size: int = 16,
    seed: int = 0,
    adopt: bool = False,
    digest: str | None = None,
) -> dict[str, Any]:
    """Encode the prompts, sample or encode images, and return what the folder holds.

    What is there already is kept, and follows the prompts file when that changes. Of several processes that fill one
    folder, each waits for the one before it. With ``adopt``, the type and seeds of what is there are taken instead of
    those given. Prompts with another digest than ``digest`` are refused before anything is written.
    """
    checks.non_negative("guidance_scale", guidance)
    refuse_links(output)
    given = read_prompts(prompts, column=column)
    images = [] if data is None else read_images(data, column=column)
    pool, captions = given.joined([image.caption for image in images])
    denoiser = of(pipeline)
    denoiser.shape(pipeline, resolution, frames)  # refuses an impossible size before the work begins
    if data is not None and denoiser.frames(pipeline, frames) not in (None, 1):
        message = f"{data} holds images, to a {type(pipeline).__name__} videos of one frame: num_frames must be 1"
        raise InvalidSetting("num_frames", "conflict", message)
    pool = pool.with_columns(denoiser.columns(pipeline, pool.texts))
    found = pool.digest()
    if digest not in (None, found):
        raise InvalidSetting(
            "prompts",
            "conflict",
            f"{prompts} holds other prompts than this run was started with, or other weights or columns: resume "
            "with the same ones or choose another output folder",
        )
    settings: dict[str, Any] = {"num_images": num_images, "num_inference_steps": steps, "guidance_scale": guidance}
    settings |= {"resolution": resolution, "num_frames": frames}
    if (output / RECORD).is_file() and not _writable(output):
        made = fingerprint.model(pipeline, denoiser.model_of(pipeline), DTYPES[_dtype(output / "conditions", dtype)])
        return _finished(output, found, settings | {"train_data_dir": None if data is None else str(data)}, made)
    with locked_folder(output, wait=True):
        sources = {name: output / "latents" / name for name in (SAMPLES, IMAGES)}
        seeds = dict.fromkeys(sources, seed)
        if adopt:
            dtype = _dtype(output / "conditions", dtype)
            seeds = {name: _seed(folder, seed) for name, folder in sources.items()}
        common: dict[str, Any] = {"dtype": DTYPES[dtype], "device": pipeline.device}

        def withdraw_images() -> None:
            for folder in sources.values():
                withdraw(folder)

        encoding: dict[str, Any] = common | {"batch_size": batch_size * TEXTS_PER_IMAGE}
        encoding["before_change"] = withdraw_images
        with bar("prompts") as progress:
            encoded = build_conditions(pipeline, denoiser, pool, output / "conditions", progress=progress, **encoding)
        common |= {"resolution": resolution, "frames": frames, "batch_size": batch_size}
        conditions = Conditions(output / "conditions", residency="disk")
        long = truncation.sentence(conditions.cut(), pool.texts, denoiser.token_limit(pipeline)) if encoded else None
        if long is not None:
            log.warning(long)
        if num_images:
            _, kept = kept_images(sources[SAMPLES], conditions)
            index = chosen(len(given), num_images, seeds[SAMPLES], kept)
            sampling: dict[str, Any] = common | {"steps": steps, "guidance": guidance, "seed": seeds[SAMPLES]}
            with bar("samples") as progress:
                sample_latents(pipeline, denoiser, conditions, index, sources[SAMPLES], progress=progress, **sampling)
        elif sources[SAMPLES].is_dir():
            follow(sources[SAMPLES], conditions)
        if images:
            common["seed"] = seeds[IMAGES]
            with bar("images") as progress:
                encode_images(pipeline, denoiser, images, captions, sources[IMAGES], progress=progress, **common)
        elif sources[IMAGES].is_dir():
            follow(sources[IMAGES], conditions)
        settings |= {"dtype": dtype, "batch_size": batch_size}
        settings["seed"] = seeds[IMAGES if images else SAMPLES]
        record = {
            "format": "aria-cache-1",
            "teacher": pipeline.config.get("_name_or_path"),
            "prompts": {"source": str(prompts), "column": column, "digest": found, **_counts(given, pool)},
            "train_data_dir": None if data is None else str(data),
            "settings": settings,
            **held(output),
        }
        write_json(output / RECORD, record)
        return record


def _writable(output: Path) -> bool:
    """Whether files can be written to a cache, which may belong to someone else or to a disk that is only read."""
    try:
        (output / FOLDER_LOCK).open("ab").close()
    except OSError as error:
        if error.errno not in CLOSED:
            raise
        return False
    return True


def _finished(output: Path, digest: str, wanted: dict[str, Any], teacher: dict[str, Any]) -> dict[str, Any]:
    """The record of a cache that can only be read, and holds what is asked for."""
    record = read_json(output / RECORD)
    try:
        had = {**record["settings"], "train_data_dir": record["train_data_dir"], "prompts": record["prompts"]["digest"]}
        more = wanted["num_images"] < had["num_images"]  # the first of them are served
    except (KeyError, TypeError) as error:
        raise ValueError(f"{output / RECORD} is no record of a cache: {error!r}") from None
    for name, has in {**wanted, "prompts": digest}.items():
        if had.get(name) != has and not (name == "num_images" and more):
            raise InvalidSetting(
                name, "conflict", f"{output} cannot be written to, and was made with {name} = {had.get(name)!r}, "
                f"this run asks for {has!r}: use another folder",
            )  # fmt: skip
    if wanted["num_images"]:
        sampled = made_with(output / "latents" / SAMPLES)
        refuse_other(output, {name: sampled.get(name) for name in teacher}, teacher)
    return record


def _dtype(conditions: Path, dtype: str) -> str:
    """The type of encoded prompts that are there already, else ``dtype``."""
    had = made_with(conditions).get("dtype")
    return next((name for name, known in DTYPES.items() if str(known) == f"torch.{had}"), dtype)


def _seed(images: Path, seed: int) -> int:
    """The seed of images that are there already, else ``seed``."""
    had: int = made_with(images).get("seed", seed)
    checks.whole(f"{images}: seed", had, least=0)
    return had


def opened(
    folder: Path,
    *,
    resolution: int | None,
    frames: int | None = None,
    source: str = "",
    num_images: int | None = None,
    **kwargs: Any,
) -> tuple[Conditions, Latents]:
    """The conditions and images of a cache, if they belong together: the images of one ``source`` or of all, and of
    these the first ``num_images`` or all. ``kwargs`` are those that both take."""
    conditions = Conditions(folder / "conditions", **kwargs)
    size: dict[str, Any] = {"resolution": resolution, "frames": frames}
    images = Latents(folder / "latents" / source, num_images=num_images, **size, **kwargs)
    images.check_prompts(conditions)
    return conditions, images


def held(output: Path) -> dict[str, Any]:
    """How much a cache holds."""
    conditions = Conditions(output / "conditions", residency="disk")
    stored, used = len(conditions.store), conditions.used()
    texts = {"rows": len(conditions), "distinct": used, "unused": stored - used, "bytes": conditions.store.nbytes()}
    images: dict[str, Any] = {"rows": 0, "bytes": 0}
    # One source after the other: they may be of different sizes, and of one of them no image may be served.
    sources = [folder for name in (SAMPLES, IMAGES) if (folder := output / "latents" / name).is_dir()]
    for folder in sources:
        store, rows = Store(folder), len(map_tensors(folder / SERVED)[0]["row"])
        images["rows"] += rows
        images["bytes"] += store.nbytes()
        images.setdefault("shapes", {})[folder.name] = list(store.names["x0"][1])
    if sources and not images["rows"]:
        raise ValueError(f"{output / 'latents'} has no image of any prompt in the pool: make some (--num_images)")
    return {"conditions": texts, "latents": images}


def chosen(conditions: int, images: int, seed: int, kept: Tensor | None = None) -> Tensor:
    """(M,) conditions to be shown: those of images that are ``kept``, then others until there are ``images``.

    The others come in a random order of the conditions that is repeated for as long as it takes, from which every kept
    image takes away one place of its condition. So a list begins with every shorter one of the same seed, and what is
    kept of it changes nothing.

    >>> chosen(3, 5, seed=0).tolist(), chosen(3, 5, seed=0, kept=torch.tensor([1])).tolist()
    ([2, 0, 1, 2, 0], [1, 2, 0, 2, 0])
    """
    kept = torch.empty(0, dtype=torch.int64) if kept is None else kept
    shown = torch.bincount(kept, minlength=conditions)[:conditions]  # (N,) images that there are of each
    order = torch.randperm(conditions, generator=torch.Generator().manual_seed(seed))
    rounds = int(shown.max()) + -(-images // conditions)
    repeat = torch.arange(rounds).repeat_interleave(conditions)
    places = order.repeat(rounds)
    return torch.cat([kept, places[repeat >= shown[places]]])[: max(images, len(kept))]


def _counts(given: Prompts, pool: Prompts) -> dict[str, Any]:
    left_out, joined = list(given.left_out), len(pool) - len(given)
    return {"rows": len(given), "skipped": given.skipped, "left_out": left_out, "captions_joined": joined}
