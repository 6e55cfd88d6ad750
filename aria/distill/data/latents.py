"""The images of a distillation as latents: the teacher's own samples, or photographs through its autoencoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import checks
from aria.distill.data import Conditions, fingerprint
from aria.distill.data.images import Image, pixels
from aria.distill.data.store import Store, Writer
from aria.distill.data.table import DEVICE_BUDGET, Pending, Table
from aria.distill.models.denoisers import Condition, Denoiser, of
from aria.samplers.draws import step_seed

Progress = Callable[[int, int], None]
SAMPLES, IMAGES = "samples", "images"
"""The folders of the two sources within a folder of latents."""


def sample_latents(
    pipeline: Any,
    denoiser: Denoiser,
    conditions: Conditions,
    indices: Tensor,
    folder: str | Path,
    *,
    steps: int = 25,
    guidance: float = 7.5,
    seed: int = 0,
    batch_size: int = 16,
    resolution: int | None = None,
    dtype: torch.dtype = torch.float16,
    null: Condition | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Write the teacher's own image of each condition in ``indices`` (M,), as latents that its denoiser sees.

    The noise of row i is a function of (seed, i), so neither the batch size nor a kill changes an image. More
    ``indices`` that begin with those of a finished folder extend it.
    """
    checks.whole("steps", steps, least=1)
    checks.non_negative("guidance", guidance)
    shape = denoiser.latent_shape(pipeline, resolution)
    model = denoiser.model_of(pipeline)
    made_with = _scaling(pipeline, shape, dtype) | fingerprint.model(pipeline, model, dtype)
    made_with |= {"source": SAMPLES, "steps": steps, "guidance": float(guidance), "seed": seed}
    null = conditions.null(1) if null is None else null

    def made(rows: range) -> tuple[Tensor, Tensor]:
        index = indices[rows.start : rows.stop]
        noise = torch.stack([torch.randn(shape, generator=generator(seed, row)) for row in rows])
        noise = noise.to(device, model.dtype)
        told = {name: x.to(device) for name, x in conditions.gather(index).items()}
        return denoiser.generate(pipeline, told, null, noise, steps=steps, guidance=guidance), index

    _write(folder, made_with, indices, made, batch_size, dtype, progress)


def encode_images(
    pipeline: Any,
    denoiser: Denoiser,
    images: Sequence[Image],
    indices: Tensor,
    folder: str | Path,
    *,
    resolution: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    dtype: torch.dtype = torch.float16,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Write the latents of ``images``, whose captions are the conditions ``indices`` (M,).

    Images are scaled so that they cover a square of ``resolution`` and cut to its middle. The autoencoder's latents
    are random; that of row i is a function of (seed, i).
    """
    shape = denoiser.latent_shape(pipeline, resolution)
    side = shape[1] * denoiser.scale(pipeline)
    names = hashlib.sha256("\n".join(image.path.name for image in images).encode()).hexdigest()[:16]
    made_with = _scaling(pipeline, shape, dtype) | {"source": IMAGES, "seed": seed, "files": names}
    made_with |= {"vae weights": fingerprint.weights(pipeline.vae, dtype)}

    def made(rows: range) -> tuple[Tensor, Tensor]:
        shown = torch.stack([pixels(images[row].path, side) for row in rows]).to(device)
        noise: Any = [generator(seed, row) for row in rows]  # diffusers takes one for each image
        return denoiser.encode_images(pipeline, shown, noise), indices[rows.start : rows.stop]

    _write(folder, made_with, indices, made, batch_size, dtype, progress)


def generator(seed: int, row: int) -> torch.Generator:
    """The random numbers of one row, the same on every machine and in every batch."""
    return torch.Generator().manual_seed(step_seed(seed, row))


def _scaling(pipeline: Any, shape: Sequence[int], dtype: torch.dtype) -> dict[str, Any]:
    """What a reader must know of latents: their size, and that both factors are applied."""
    size = "x".join(map(str, shape))
    return fingerprint.vae(pipeline) | {"scaled": "yes", "size": size, "dtype": str(dtype).removeprefix("torch.")}


def _write(
    folder: str | Path,
    made_with: dict[str, Any],
    indices: Tensor,
    made: Callable[[range], tuple[Tensor, Tensor]],
    batch_size: int,
    dtype: torch.dtype,
    progress: Progress | None,
) -> None:
    """Write what ``made`` makes of each batch of rows, going on where the last writer stopped."""
    checks.whole("batch_size", batch_size, least=1)
    total = len(indices)
    if total == 0:
        raise ValueError(f"{folder}: there is nothing to write: no condition was given")
    with Writer(folder, made_with, total) as writer:
        _same_conditions(writer, indices)
        while (done := writer.rows + writer.pending) < total:
            if progress:
                progress(done, total)
            latents, index = made(range(done, min(done + batch_size, total)))
            stored = latents.to(dtype)
            bad = (~stored.flatten(1).isfinite().all(1)).nonzero()
            if len(bad):
                raise ValueError(f"{folder}: latent {done + int(bad[0])} is not finite in {dtype}: try another dtype")
            writer.append({"x0": stored, "condition": index.long()})
    if progress:
        progress(total, total)


def _same_conditions(writer: Writer, indices: Tensor) -> None:
    """Refuse to continue images of other conditions than ``indices``."""
    had = writer.written("condition")
    differ = (had != indices[: len(had)].cpu()).nonzero()
    if len(differ):
        row = int(differ[0])
        now = f"image {row} is of condition {int(had[row])}, not {int(indices[row])}"
        raise ValueError(f"{writer.folder} was made with other conditions: {now}: use another folder")


class Latents:
    """Latents and the conditions they show: the samples, the images, or both that a folder holds.

    With ``pipeline``, latents of another size or scaling are refused by name. Where the latents are kept meanwhile is
    :class:`Table`'s choice, or yours with ``residency``.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        pipeline: Any = None,
        denoiser: Denoiser | None = None,
        resolution: int | None = None,
        device: torch.device | str = "cpu",
        residency: str | None = None,
        device_budget: int = DEVICE_BUDGET,
        host_budget: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.store = _opened(self.folder)
        if pipeline is not None:
            self.check(pipeline, denoiser or of(pipeline), resolution)
        self.table = Table(
            self.store, device=device, residency=residency, device_budget=device_budget, host_budget=host_budget
        )
        self.residency = self.table.residency

    def check(self, pipeline: Any, denoiser: Denoiser, resolution: int | None = None) -> None:
        """Refuse a teacher whose latents have another size or scaling."""
        shape = denoiser.latent_shape(pipeline, resolution)
        for name, expected in _scaling(pipeline, shape, torch.float16).items():
            had = self.store.fingerprint.get(name)
            if name != "dtype" and had != expected:
                raise ValueError(f"{self.folder} has latents of {name} {had}, the teacher's have {expected}")

    def __len__(self) -> int:
        return len(self.store)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one latent."""
        return self.store.names["x0"][1]

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) latents and (B,) conditions of ``rows`` (B,), on the device."""
        found = self.table.gather(rows)
        return found["x0"], found["condition"]

    def prefetch(self, rows: Tensor) -> Pending:
        """The same on its way, as ``x0`` and ``condition`` by name."""
        return self.table.prefetch(rows)

    def conditions(self) -> Tensor:
        """(M,) the condition of every latent."""
        return self.store.gather(torch.arange(len(self)), ["condition"])["condition"]

    def close(self) -> None:
        """End background reading."""
        self.table.close()


def _opened(folder: Path) -> Store:
    """The store in a folder, or the stores of both sources one after the other."""
    parts = [Store(folder / name) for name in (SAMPLES, IMAGES) if (folder / name).is_dir()]
    if not parts:
        return Store(folder)
    first, *more = parts
    for part in more:
        for name in ("size", "dtype", "scaling_factor", "shift_factor", "scaled"):
            had, has = first.fingerprint.get(name), part.fingerprint.get(name)
            if had != has:
                raise ValueError(f"{part.folder} has {name} {has}, {first.folder} has {had}: they cannot be mixed")
        first = first.followed_by(part)
    return first
