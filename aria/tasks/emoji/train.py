"""Training the autoencoder, the judge and the teachers of emoji, kept side by side in one folder.

The folder holds ``autoencoder/``, ``judge.safetensors`` and, for each kind of teacher, a diffusers pipeline folder that
lacks the autoencoder, which all share; beside each part lies the recipe that made it. Weights are in half precision.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aria import files, integrity
from aria.checks import InvalidSetting
from aria.distill.models.pipelines import open_pipeline
from aria.distill.models.schedule import NoiseSchedule, Timed
from aria.progress import Bar
from aria.tasks.emoji.judge import Judge, load_judge, save_judge, train_judge
from aria.tasks.emoji.kinds import Kind
from aria.tasks.emoji.pictures import PACKAGED, Pictures
from aria.tasks.emoji.recipe import Recipe
from aria.tasks.latent_teacher import SCALE, autoencoder_loss, denoising_loss, new_autoencoder, seeded, trained

AUTOENCODER, JUDGE, JUDGE_WEIGHTS, RECORD, VAE = "autoencoder", "judge", "judge.safetensors", "recipe.json", "vae"
TAGGED, EMPTY = 0.2, 0.1
"""Shares of a batch whose caption is made of tags, where the picture has one, and whose caption is empty."""
TEACHERS = PACKAGED / "teachers"
"""The folder of the teachers in this package."""


def make_teacher(
    folder: Path, name: str, recipe: Recipe, pictures: Pictures, *, bar: Bar, device: str | None = None
) -> Path:
    """The kind of teacher called ``name`` in ``folder / name``, trained unless it exists, and the autoencoder.

    Parts of another recipe are refused. A stopped training is kept and continued.
    """
    kind, course = recipe.kind(name)
    device, digest = device or _device(), pictures.digest()

    def train(target: Path, part: Path) -> None:
        vae = make_autoencoder(folder, recipe, pictures, bar=bar, device=device).to(device)
        texts = sorted({*pictures.names, *filter(None, pictures.tagged)})
        tokenizers = kind.tokenizers(texts)
        models = nn.ModuleDict(seeded(recipe.seed, lambda: kind.models(tokenizers, recipe.side // SCALE))).to(device)
        loss = _Loss(kind, models, tokenizers, vae, pictures, course.batch_size, recipe.balance)
        trained(models, loss, course, name, recipe.seed, part, bar)
        kind.pipeline(vae.cpu(), dict(models.cpu().half().items()), tokenizers).save_pretrained(target)
        shutil.rmtree(target / VAE)

    _made(folder, name, recipe, digest, train)
    return folder / name


def make_autoencoder(folder: Path, recipe: Recipe, pictures: Pictures, *, bar: Bar, device: str | None = None) -> Any:
    """The autoencoder in ``folder``, trained unless it exists; its scaling factor gives latents unit variance."""
    device, digest = device or _device(), pictures.digest()

    def train(target: Path, part: Path) -> None:
        model = seeded(recipe.seed, lambda: new_autoencoder(recipe.widths, recipe.side)).to(device)
        images, course = pictures.images().to(device), recipe.autoencoder

        def loss(generator: torch.Generator) -> Tensor:
            rows = torch.randint(len(images), (course.batch_size,), generator=generator, device=device)
            return autoencoder_loss(model, images[rows], generator)

        trained(model, loss, course, AUTOENCODER, recipe.seed, part, bar)
        model.register_to_config(scaling_factor=float(1 / latents(model, images).std()))
        model.cpu().half().save_pretrained(target)

    _made(folder, AUTOENCODER, recipe, digest, train)
    return open_autoencoder(folder)


def make_judge(
    folder: Path, recipe: Recipe, pictures: Pictures, *, bar: Bar, device: str | None = None
) -> Judge:
    """The judge in ``folder``, trained unless it exists."""
    device, digest = device or _device(), pictures.digest()

    def train(target: Path, part: Path) -> None:
        target.mkdir()
        with bar(JUDGE) as progress:
            kwargs: dict[str, Any] = {"seed": recipe.seed, "device": device, "progress": progress}
            judge = train_judge(pictures, held_out(pictures), recipe.judge_width, recipe.judge, **kwargs)
        save_judge(judge.cpu(), target / JUDGE_WEIGHTS)

    _made(folder, JUDGE, recipe, digest, train)
    return open_judge(folder, recipe)


def held_out(pictures: Pictures) -> Tensor:
    """(N,) the pictures of a tenth of the concepts, in all styles and skin tones, on which the judge is judged."""
    concepts = sorted(set(pictures.concept))
    chosen = torch.rand(len(concepts), generator=torch.Generator().manual_seed(4)) < 0.1
    out = {concept for concept, keeps in zip(concepts, chosen.tolist(), strict=True) if keeps}
    return torch.tensor([concept in out for concept in pictures.concept])


def assemble(folder: Path, name: str, target: Path) -> None:
    """Write the teacher called ``name`` in ``folder`` as a complete pipeline folder in single precision."""
    with files.replacing_folder(target) as part:
        pipeline = open_pipeline(folder / name, vae=open_autoencoder(folder))
        pipeline.save_pretrained(part)
        shutil.copy(folder / name / RECORD, part / RECORD)


def open_autoencoder(folder: Path) -> Any:
    """The autoencoder in ``folder``."""
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(folder / AUTOENCODER).float()


def open_judge(folder: Path, recipe: Recipe) -> Judge:
    """The judge in ``folder``."""
    return load_judge(folder / JUDGE / JUDGE_WEIGHTS, recipe.judge_width, recipe.side)


def check(folder: Path, part: str, recipe: Recipe, pictures: str) -> bool:
    """Whether the folder holds this part of the recipe, for pictures with this hash; a part of another recipe is
    refused."""
    record = folder / part / RECORD
    if not record.is_file():
        return False
    found, wanted = integrity.read(record), recipe.digest(part, pictures)
    if found.get("digest") != wanted:
        other = f"by another recipe or from other pictures ({found.get('digest')}, not {wanted})"
        raise InvalidSetting("teacher", "conflict", f"{folder / part} was made {other}")
    integrity.verify(folder / part, found["files"])
    return True


def fingerprint(folder: Path, part: str) -> str:
    """A hash of the files of a part; empty if it is not there."""
    record = folder / part / RECORD
    if not record.is_file():
        return ""
    return hashlib.sha256(json.dumps(integrity.read(record)["files"], sort_keys=True).encode()).hexdigest()[:16]


@torch.no_grad()
def latents(vae: Any, images: Tensor, batch: int = 256) -> Tensor:
    """(N, C, h, w) unscaled latents of images (N, 3, H, W)."""
    starts = range(0, len(images), batch)
    return torch.cat([vae.encode(images[first : first + batch]).latent_dist.mean for first in starts])


def shown(pictures: Pictures, balance: float) -> Tensor:
    """(N,) float64 how often each picture is shown: one of ``n`` of the same concept and style with the weight
    n^−balance."""
    keys = list(zip(pictures.concept, pictures.style, strict=True))
    sizes = Counter(keys)
    return torch.tensor([sizes[key] ** -balance for key in keys], dtype=torch.float64)


class _Loss:
    """The loss of a random batch of pictures and captions."""

    def __init__(
        self,
        kind: Kind,
        models: nn.ModuleDict,
        tokenizers: dict[str, Any],
        vae: Any,
        pictures: Pictures,
        size: int,
        balance: float,
    ) -> None:
        device = next(models.parameters()).device
        self.kind, self.models, self.size = kind, models, size
        self.schedule = NoiseSchedule.of(kind.scheduler()).to(device)
        time = self.schedule.time
        self.evaluate: Callable[..., Tensor] = kind.denoiser if time is None else Timed(kind.denoiser, time)
        self.latents = latents(vae, pictures.images().to(device)) * vae.config.scaling_factor
        self.weight = shown(pictures, balance).to(device)
        tagged = [tags or name for name, tags in zip(pictures.names, pictures.tagged, strict=True)]
        read = kind.tokens(tokenizers, [*pictures.names, *tagged, ""])
        self.tokens = {name: value.to(device) for name, value in read.items()}

    def __call__(self, generator: torch.Generator) -> Tensor:
        def uniform() -> Tensor:
            return torch.rand(self.size, generator=generator, device=self.latents.device)

        count = len(self.latents)
        rows = torch.multinomial(self.weight, self.size, replacement=True, generator=generator)
        choice = uniform()
        captions = torch.where(choice < TAGGED, rows + count, rows)
        captions = torch.where(choice > 1 - EMPTY, 2 * count, captions)

        def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
            read = {name: value[captions] for name, value in self.tokens.items()}
            condition = self.kind.condition(dict(self.models.items()), read)
            return self.evaluate(self.models[self.kind.component], noisy, timestep, condition)

        return denoising_loss(predict, self.kind.prediction, self.schedule, self.latents[rows], generator)


def _made(folder: Path, part: str, recipe: Recipe, pictures: str, train: Callable[[Path, Path], None]) -> None:
    """Have ``train(target, folder of the unfinished training)`` make a part once, one process at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = recipe.digest(part, pictures)
    with files.lock(folder / f".{part}.lock", wait=True):
        if check(folder, part, recipe, pictures):
            return
        unfinished = folder / ".training" / digest
        unfinished.mkdir(parents=True, exist_ok=True)
        if (folder / part).exists():
            message = f"{folder / part} has no {RECORD}: remove it, or choose another folder"
            raise InvalidSetting("teacher", "conflict", message)
        target = unfinished / part
        shutil.rmtree(target, ignore_errors=True)
        train(target, unfinished)
        record = {"digest": digest, "recipe": recipe.record(part, pictures), "files": integrity.hashes(target)}
        integrity.write(target / RECORD, record)
        target.rename(folder / part)
        shutil.rmtree(unfinished)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
