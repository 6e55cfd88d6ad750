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
from aria.tasks.shapes import words
from aria.tasks.shapes.course import Course, fit
from aria.tasks.shapes.reader import save_reader, train_reader
from aria.tasks.shapes.recipe import Recipe
from aria.tasks.shapes.render import SIDE, render

RECORD, READER, _PART = "recipe.json", "reader.safetensors", ".training"
LATENTS = SIDE // 4
CHANNELS = 8


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
        pipeline = _pipeline(recipe, vae.cpu(), unet.cpu(), text_encoder.cpu())
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
    model = _seeded(recipe.seed, lambda: _new_vae(recipe)).to(device)
    facts = recipe.scenes.facts

    def loss(generator: torch.Generator) -> Tensor:
        images = render(facts[_rows(len(facts), recipe.vae.batch_size, generator)], generator)
        latents = model.encode(images).latent_dist
        noise = torch.randn(latents.mean.shape, generator=generator, device=device)
        made = model.decode(latents.mean + latents.std * noise).sample
        error = (made - images).float()
        closeness: Tensor = latents.kl().mean() / latents.mean[0].numel()
        total: Tensor = error.abs().mean() + error.square().mean() + 1e-4 * closeness
        return total

    _fitted(model, loss, recipe.vae, "autoencoder", recipe, part, bar)
    with torch.no_grad():
        latents = _latents(model, facts, torch.arange(len(facts)), recipe.seed, device)
    model.register_to_config(scaling_factor=float(1 / latents.std()))
    return model


def _denoiser(recipe: Recipe, vae: Any, part: Path, bar: Bar, device: str) -> tuple[Any, Any]:
    """The UNet and the text encoder, trained together."""
    models = nn.ModuleDict(_seeded(recipe.seed, lambda: _new_denoiser(recipe))).to(device)
    tokens = _tokens(recipe).to(device)  # (N + 1, L), the last row is the empty text
    schedule = NoiseSchedule.of(_scheduler(recipe)).to(torch.device(device))
    shown = torch.arange(recipe.images) % len(recipe.scenes)
    with torch.no_grad():
        latents = _latents(vae, recipe.scenes.facts, shown, recipe.seed + 1, device) * vae.config.scaling_factor
    shown = shown.to(device)

    def loss(generator: torch.Generator) -> Tensor:
        def uniform() -> Tensor:
            return torch.rand(recipe.unet.batch_size, generator=generator, device=device)

        rows = (uniform() * len(shown)).long()
        captions = torch.where(uniform() < 0.1, len(tokens) - 1, shown[rows])
        level = uniform().sqrt() * len(schedule)  # more often at high noise, where captions matter most
        timestep = level.long().clamp(max=len(schedule) - 1)
        clean = latents[rows]
        noise = torch.randn(clean.shape, generator=generator, device=device)
        noisy = schedule.add_noise(clean, noise, timestep)
        embeds = models["text_encoder"](tokens[captions])[0]
        output = models["unet"](noisy, timestep, embeds, return_dict=False)[0].float()
        wanted = schedule.target(recipe.prediction_type, clean, noise, timestep)
        error: Tensor = (output - wanted).square().mean((1, 2, 3))
        if recipe.prediction_type == "epsilon":
            error = error / schedule.alpha[timestep].square()  # the velocity's error: high noise matters
        return error.mean()

    _fitted(models, loss, recipe.unet, "denoiser", recipe, part, bar)
    return models["unet"], models["text_encoder"]


def _fitted(model: nn.Module, loss: Any, course: Course, name: str, recipe: Recipe, part: Path, bar: Bar) -> None:
    half = next(model.parameters()).device.type == "cuda"
    with bar(name) as progress:
        saved = part / f"{name}.safetensors"
        fit(model, loss, course, seed=recipe.seed, progress=progress, saved=saved, half=half)


def _latents(vae: Any, facts: Any, rows: Tensor, seed: int, device: str, batch: int = 256) -> Tensor:
    """(M, C, h, w) unscaled latents of one drawing of each caption in ``rows`` (M,)."""
    found = []
    for first in range(0, len(rows), batch):
        images = render(facts[rows[first : first + batch]], row_generator(seed, first)).to(device)
        found.append(vae.encode(images).latent_dist.mean)
    return torch.cat(found)


def _rows(count: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randint(count, (size,), generator=generator, device=generator.device).cpu()


def _seeded(seed: int, make: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _new_vae(recipe: Recipe) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=recipe.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=SIDE,
        mid_block_add_attention=False,
    )


def _new_denoiser(recipe: Recipe) -> dict[str, nn.Module]:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    known, stages = words.tokenizer(), len(recipe.unet_channels)
    text = CLIPTextConfig(
        vocab_size=len(known),
        hidden_size=recipe.text_width,
        intermediate_size=2 * recipe.text_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=max(1, recipe.text_width // 16),
        max_position_embeddings=words.LENGTH,
        projection_dim=recipe.text_width,
        bos_token_id=known.bos_token_id,
        eos_token_id=known.eos_token_id,
        pad_token_id=known.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=LATENTS,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=recipe.unet_channels,
        down_block_types=("CrossAttnDownBlock2D",) * stages,
        up_block_types=("CrossAttnUpBlock2D",) * stages,
        layers_per_block=2,
        cross_attention_dim=recipe.text_width,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return {"unet": unet, "text_encoder": CLIPTextModel(text)}


def _scheduler(recipe: Recipe) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
        prediction_type=recipe.prediction_type,
    )


def _tokens(recipe: Recipe) -> Tensor:
    """(N + 1, L) the tokens of every caption, as the pipeline computes them, and of the empty text."""
    texts = [*recipe.scenes.captions, ""]
    encoded = words.tokenizer()(
        texts, padding="max_length", max_length=words.LENGTH, truncation=True, return_tensors="pt"
    )
    ids: Tensor = encoded["input_ids"]
    return ids


def _pipeline(recipe: Recipe, vae: Any, unet: Any, text_encoder: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=words.tokenizer(),
        unet=unet,
        scheduler=_scheduler(recipe),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
