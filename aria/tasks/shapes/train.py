"""Training a teacher of scenes from scratch: a Stable Diffusion pipeline, saved as a diffusers pipeline folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aria import files
from aria.checks import InvalidSetting
from aria.distill.data.latents import generator as row_generator
from aria.distill.models.schedule import NoiseSchedule
from aria.distill.runs.output import locked
from aria.files import read_json
from aria.progress import Bar
from aria.tasks.latent_teacher import (
    SCALE,
    autoencoder_loss,
    clip_config,
    ddim,
    denoising_loss,
    new_autoencoder,
    new_unet,
    seeded,
    stable_diffusion,
    trained,
)
from aria.tasks.shapes import words
from aria.tasks.shapes.reader import save_reader, train_reader
from aria.tasks.shapes.recipe import Recipe
from aria.tasks.shapes.render import SIDE, render

RECORD, READER, _PART = "recipe.json", "reader.safetensors", ".training"


def make_teacher(folder: str | Path, recipe: Recipe, *, bar: Bar, device: str | None = None) -> Path:
    """The pipeline of ``recipe`` in ``folder``, with the reader beside it; trained unless it exists.

    A folder with a teacher of another recipe is refused. Finished parts, and the one in training, are kept in the
    folder until the pipeline is complete, so a killed training can be continued.
    """
    folder = Path(folder)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with locked(folder):
        if is_made(folder, recipe):
            return folder
        part = folder / _PART / recipe.digest()
        part.mkdir(parents=True, exist_ok=True)
        vae = _vae(recipe, part, bar, device)
        unet, text_encoder = _denoiser(recipe, vae, part, bar, device)
        with bar("reader") as progress:
            reader = train_reader(recipe.scenes, recipe.reader, seed=recipe.seed, device=device, progress=progress)
        save_reader(reader, folder / READER)
        parts = (vae.cpu(), unet.cpu(), text_encoder.cpu())
        pipeline = stable_diffusion(*parts, words.tokenizer(), ddim(recipe.prediction_type))
        with files.system_errors(folder):
            pipeline.save_pretrained(folder)
        files.write_json(folder / RECORD, {"digest": recipe.digest(), "recipe": recipe.record()})
        shutil.rmtree(folder / _PART)
    return folder


def is_made(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds the teacher of this recipe. A folder with another teacher is refused."""
    if not (folder / RECORD).is_file():
        return False
    found = read_json(folder / RECORD).get("digest")
    if found != recipe.digest():
        message = f"{folder} holds a teacher of another recipe ({found}, not {recipe.digest()})"
        raise InvalidSetting("teacher", "conflict", message)
    return True


def _vae(recipe: Recipe, part: Path, bar: Bar, device: str) -> Any:
    """An autoencoder of drawings, with a scaling factor that gives latents unit variance."""
    model = seeded(recipe.seed, lambda: new_autoencoder(recipe.vae_channels, SIDE)).to(device)
    facts = recipe.scenes.facts

    def loss(generator: torch.Generator) -> Tensor:
        images = render(facts[_rows(len(facts), recipe.vae.batch_size, generator)], generator)
        return autoencoder_loss(model, images, generator)

    trained(model, loss, recipe.vae, "autoencoder", recipe.seed, part, bar)
    with torch.no_grad():
        latents = _latents(model, facts, torch.arange(len(facts)), recipe.seed, device)
    model.register_to_config(scaling_factor=float(1 / latents.std()))
    return model


def _denoiser(recipe: Recipe, vae: Any, part: Path, bar: Bar, device: str) -> tuple[Any, Any]:
    """The UNet and the text encoder, trained together."""
    models = nn.ModuleDict(seeded(recipe.seed, lambda: _new_denoiser(recipe))).to(device)
    tokens = _tokens(recipe).to(device)  # (N + 1, L), the last row is the empty text
    schedule = NoiseSchedule.of(ddim(recipe.prediction_type)).to(torch.device(device))
    shown = torch.arange(recipe.images) % len(recipe.scenes)
    with torch.no_grad():
        latents = _latents(vae, recipe.scenes.facts, shown, recipe.seed + 1, device) * vae.config.scaling_factor
    shown = shown.to(device)

    def loss(generator: torch.Generator) -> Tensor:
        def uniform() -> Tensor:
            return torch.rand(recipe.unet.batch_size, generator=generator, device=device)

        rows = (uniform() * len(shown)).long()
        captions = torch.where(uniform() < 0.1, len(tokens) - 1, shown[rows])

        def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
            embeds = models["text_encoder"](tokens[captions])[0]
            output: Tensor = models["unet"](noisy, timestep, embeds, return_dict=False)[0]
            return output

        return denoising_loss(predict, recipe.prediction_type, schedule, latents[rows], generator)

    trained(models, loss, recipe.unet, "denoiser", recipe.seed, part, bar)
    return models["unet"], models["text_encoder"]


def _latents(vae: Any, facts: Any, rows: Tensor, seed: int, device: str, batch: int = 256) -> Tensor:
    """(M, C, h, w) unscaled latents of one drawing of each caption in ``rows`` (M,)."""
    found = []
    for first in range(0, len(rows), batch):
        images = render(facts[rows[first : first + batch]], row_generator(seed, first)).to(device)
        found.append(vae.encode(images).latent_dist.mean)
    return torch.cat(found)


def _rows(count: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randint(count, (size,), generator=generator, device=generator.device).cpu()


def _new_denoiser(recipe: Recipe) -> dict[str, nn.Module]:
    from transformers import CLIPTextModel

    text = clip_config(words.tokenizer(), recipe.text_width, recipe.text_layers)
    unet = new_unet(recipe.unet_channels, recipe.text_width, SIDE // SCALE)
    return {"unet": unet, "text_encoder": CLIPTextModel(text)}


def _tokens(recipe: Recipe) -> Tensor:
    """(N + 1, L) the tokens of every caption, as the pipeline computes them, and of the empty text."""
    texts = [*recipe.scenes.captions, ""]
    encoded = words.tokenizer()(
        texts, padding="max_length", max_length=words.LENGTH, truncation=True, return_tensors="pt"
    )
    ids: Tensor = encoded["input_ids"]
    return ids
