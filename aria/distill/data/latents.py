"""The images of a distillation as latents: the teacher's own samples, or photographs through its autoencoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aria import checks, files
from aria.distill.data import Conditions, fingerprint
from aria.distill.data.encode import FORMAT
from aria.distill.data.images import Image, pixels
from aria.distill.data.keys import find, hashes, numbered
from aria.distill.data.prompts import Texts
from aria.distill.data.store import Store, Writer, written
from aria.distill.data.table import DEVICE_BUDGET, Pending, Table
from aria.distill.models.denoisers import Condition, Denoiser, of
from aria.samplers.draws import step_seed
from aria.tensor_files import map_tensors, write_tensors

Progress = Callable[[int, int], None]
SAMPLES, IMAGES = "samples", "images"
"""The folders of the two sources within a folder of latents."""
KEY, SERVED = "key", "served.safetensors"
"""What each image is stored with, the key of its prompt; and the file that says which images are served, with which
conditions and texts."""


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
    frames: int | None = None,
    dtype: torch.dtype = torch.float16,
    null: Condition | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Write the teacher's own image of each condition in ``indices`` (M,), as latents that its denoiser sees.

    Images that the folder already holds for the same prompts are kept, whatever number their conditions had then. The
    noise of row i is a function of (seed, i), so neither the batch size nor a kill changes an image.
    """
    checks.whole("steps", steps, least=1)
    checks.non_negative("guidance", guidance)
    shape = denoiser.shape(pipeline, resolution, frames)
    model = denoiser.model_of(pipeline)
    made_with = _scaling(pipeline, shape, dtype) | fingerprint.model(pipeline, model, dtype)
    made_with |= {"source": SAMPLES, "steps": steps, "guidance": float(guidance), "seed": seed}
    null = conditions.null(1) if null is None else null
    indices = indices.cpu()

    def places(known: Tensor) -> Tensor:
        return find(numbered(keys), numbered(known))  # the nth image of a prompt is the nth there is of it

    def make(rows: range, batch: Tensor) -> Tensor:
        noise = torch.stack([torch.randn(shape, generator=generator(seed, row)) for row in rows])
        noise = noise.to(device, model.dtype)
        condition = {name: x.to(device) for name, x in conditions.gather(indices[batch]).items()}
        return denoiser.generate(pipeline, condition, null, noise, steps=steps, guidance=guidance)

    keys = conditions.keys()[indices]
    _write(Path(folder), made_with, indices, keys, places, make, batch_size, dtype, progress)


def encode_images(
    pipeline: Any,
    denoiser: Denoiser,
    images: Sequence[Image],
    indices: Tensor,
    folder: str | Path,
    *,
    resolution: int | None = None,
    frames: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    dtype: torch.dtype = torch.float16,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Write the latents of ``images``, whose captions are the conditions ``indices`` (M,).

    Images are scaled so that they cover a square of ``resolution`` and cut to its middle. The autoencoder's latents
    are random; that of image i is a function of (seed, i). To a teacher of videos they are videos of one frame.
    """
    shape = denoiser.shape(pipeline, resolution, frames)
    still = denoiser.frames(pipeline, frames) is not None
    side = shape[-1] * denoiser.scale(pipeline)
    names = hashlib.sha256("\n".join(image.path.name for image in images).encode()).hexdigest()[:16]
    made_with = _scaling(pipeline, shape, dtype) | {"source": IMAGES, "seed": seed, "files": names}
    made_with |= {"vae weights": fingerprint.weights(pipeline.vae, dtype)}

    def places(known: Tensor) -> Tensor:
        return torch.arange(len(images)).masked_fill(torch.arange(len(images)) >= len(known), -1)

    def make(rows: range, batch: Tensor) -> Tensor:
        stacked = torch.stack([pixels(images[i].path, side) for i in batch.tolist()]).to(device)
        stacked = stacked[:, :, None] if still else stacked  # (B, 3, 1, H, W), videos of one frame
        noise: Any = [generator(seed, row) for row in rows]  # diffusers takes one for each image
        return denoiser.encode_images(pipeline, stacked, noise)

    captions = hashes(Texts.of(image.caption for image in images))
    keys = torch.cat([captions, torch.zeros(len(captions), 1, dtype=torch.int64)], 1)  # the first prompt of that text
    _write(Path(folder), made_with, indices.cpu(), keys, places, make, batch_size, dtype, progress)


def kept_images(folder: Path, conditions: Conditions) -> tuple[Tensor, Tensor]:
    """(M,) rows of the images in ``folder`` whose prompts are among ``conditions``, and (M,) which those are."""
    place = find(written(folder, KEY, 3), conditions.keys())
    rows = (place >= 0).nonzero().flatten()
    return rows, place[rows]


def follow(folder: Path, conditions: Conditions) -> None:
    """Match images that are not to be added to with ``conditions``, whatever they were matched with before."""
    rows, shown = kept_images(folder, conditions)
    _save_served(folder, rows, shown, conditions.keys()[shown])


def withdraw(folder: Path) -> None:
    """Have readers refuse the images in ``folder`` until they are matched with the prompts again."""
    if (folder / SERVED).exists():
        (folder / SERVED).unlink()
        files.sync(folder)


def generator(seed: int, row: int) -> torch.Generator:
    """The random generator of one row, the same on every machine and in every batch."""
    return torch.Generator().manual_seed(step_seed(seed, row))


def _scaling(pipeline: Any, shape: Sequence[int], dtype: torch.dtype) -> dict[str, Any]:
    """What latents must share with the denoiser that reads them: their size, and that both factors are applied."""
    size = "x".join(map(str, shape))
    parts = {"cache format": FORMAT, "scaled": "yes", "size": size, "dtype": str(dtype).removeprefix("torch.")}
    return fingerprint.vae(pipeline) | parts


def _write(
    folder: Path,
    made_with: dict[str, Any],
    indices: Tensor,
    keys: Tensor,
    places: Callable[[Tensor], Tensor],
    make: Callable[[range, Tensor], Tensor],
    batch_size: int,
    dtype: torch.dtype,
    progress: Progress | None,
) -> None:
    """Serve M images, of the conditions ``indices`` with the ``keys`` (M, 3): first make those that are not there.

    ``places`` gives, for the keys (R, 3) of the rows there are, the (M,) row of each image, or −1. ``make`` is called
    with rows of the store and which of the M images (B,) are to be in them.
    """
    checks.whole("batch_size", batch_size, least=1)
    total = len(indices)
    if total == 0:
        raise ValueError(f"{folder}: there is nothing to write: no condition was given")
    with Writer(folder, made_with) as writer:
        place = places(written(folder, KEY, 3))
        new = (place < 0).nonzero().flatten()
        place[new] = writer.rows + torch.arange(len(new))
        rows = writer.rows + len(new)
        if len(new):
            writer.expect(rows)  # from here to the last row readers refuse the folder
        _save_served(folder, place, indices, keys)
        writer.expect(rows)
        while (done := writer.rows + writer.pending) < rows:
            if progress:
                progress(total - (rows - done), total)
            batch = new[len(new) - (rows - done) :][:batch_size]
            stored = make(range(done, done + len(batch)), batch).to(dtype)
            bad = (~stored.flatten(1).isfinite().all(1)).nonzero()
            if len(bad):
                raise ValueError(f"{folder}: latent {done + int(bad[0])} is not finite in {dtype}: try another dtype")
            writer.append({"x0": stored, KEY: keys[batch]})
    if progress:
        progress(total, total)


def _save_served(folder: Path, row: Tensor, condition: Tensor, keys: Tensor) -> None:
    text = keys[:, :2].contiguous()
    write_tensors(folder / SERVED, {"row": [row], "condition": [condition.long()], "text": [text]})


class Latents:
    """Latents and the conditions they show: the samples, the images, or both that a folder holds; all, or the first
    ``num_images``.

    With ``pipeline``, latents of another size or scaling are refused by name. Where the latents are kept is
    chosen by :class:`Table`, or given by ``residency``.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        pipeline: Any = None,
        denoiser: Denoiser | None = None,
        resolution: int | None = None,
        frames: int | None = None,
        num_images: int | None = None,
        device: torch.device | str = "cpu",
        residency: str | None = None,
        device_budget: int = DEVICE_BUDGET,
        host_budget: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.store, *served = _opened(self.folder)
        row, self._condition, self._text = (x[:num_images] for x in served)
        if pipeline is not None:
            self.check(pipeline, denoiser or of(pipeline), resolution, frames)
        self.table = Table(
            self.store,
            ["x0"],
            row=row,
            entries={"condition": self._condition},
            device=device,
            residency=residency,
            device_budget=device_budget,
            host_budget=host_budget,
        )
        self.residency = self.table.residency

    def check(
        self, pipeline: Any, denoiser: Denoiser, resolution: int | None = None, frames: int | None = None
    ) -> None:
        """Refuse a teacher whose latents have another size or scaling."""
        shape = denoiser.shape(pipeline, resolution, frames)
        for name, expected in _scaling(pipeline, shape, torch.float16).items():
            had = self.store.fingerprint.get(name)
            if name not in ("dtype", "cache format") and had != expected:
                raise ValueError(f"{self.folder} has latents of {name} {had}, the teacher's have {expected}")

    def check_prompts(self, conditions: Conditions) -> None:
        """Refuse conditions of other texts than those that the images are served with."""
        shown = conditions.hashes
        if int(self._condition.max()) >= len(shown) or not torch.equal(shown[self._condition], self._text):
            raise ValueError(
                f"{self.folder} is matched with other prompts than {conditions.folder} holds now: "
                "another process has changed them; run again"
            )

    def __len__(self) -> int:
        return len(self._condition)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one latent, as the denoiser takes it: (C, H, W) of an image, (C, F, H, W) of a video."""
        return self.store.names["x0"][1]

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, …) latents and (B,) conditions of ``rows`` (B,), on the device."""
        found = self.table.gather(rows)
        return found["x0"], found["condition"]

    def prefetch(self, rows: Tensor) -> Pending:
        """The same, read in the background, as ``x0`` and ``condition`` by name."""
        return self.table.prefetch(rows)

    def conditions(self) -> Tensor:
        """(M,) the condition of every latent."""
        return self._condition

    def close(self) -> None:
        """Stop reading in the background."""
        self.table.close()


def _opened(folder: Path) -> tuple[Store, Tensor, Tensor, Tensor]:
    """The store in a folder, or the stores of both sources one after the other; and of each image that is served its
    row (M,), its condition (M,) and the hash of its text (M, 2)."""
    folders = [folder / name for name in (SAMPLES, IMAGES) if (folder / name).is_dir()] or [folder]
    store, row, condition, text = _served(folders[0])
    for other in folders[1:]:
        part, more, of_more, texts = _served(other)
        for name in ("size", "dtype", "scaled", *fingerprint.SCALING):
            had, has = store.fingerprint.get(name), part.fingerprint.get(name)
            if had != has:
                raise ValueError(f"{part.folder} has {name} {has}, {store.folder} has {had}: they cannot be mixed")
        row, condition = torch.cat([row, more + len(store)]), torch.cat([condition, of_more])
        text = torch.cat([text, texts])
        store = store.followed_by(part)
    if not len(row):
        raise ValueError(f"{folder} has no image of any prompt in the pool: make some (--num_images)")
    return store, row, condition, text


def _served(folder: Path) -> tuple[Store, Tensor, Tensor, Tensor]:
    """The store of one source, and the rows, conditions and texts of the images that are served from it."""
    store = Store(folder)
    if KEY not in store.names:
        raise ValueError(f"{folder} was cached by an earlier version of ARIA: use another folder")
    if not (folder / SERVED).is_file():
        raise ValueError(f"{folder} is unfinished, its images are not matched with the prompts: "
                         "run what writes it again to go on")  # fmt: skip
    served, _ = map_tensors(folder / SERVED)
    row, condition, text = (served.get(name) for name in ("row", "condition", "text"))
    if row is None or condition is None or text is None or not _fit(row, condition, text, len(store)):
        raise ValueError(f"{folder / SERVED} does not fit the {len(store)} images beside it: run what writes it again")
    return store, row, condition, text


def _fit(row: Tensor, condition: Tensor, text: Tensor, rows: int) -> bool:
    return len(row) == len(condition) == len(text) and (not len(row) or int(row.max()) < rows)
