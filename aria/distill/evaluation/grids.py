"""Images of teacher and student from the same noise and prompts, side by side, and the gap between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from aria import files
from aria.distill.data.latents import generator
from aria.distill.models.denoisers import Condition, Denoiser

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH, MOST, NUMBERS = 4, 64, 4 * 4 * 64 * 64
"""Batch sizes for generating and decoding: BATCH, and more where latents are small, up to MOST, as long as a batch has
no more than NUMBERS numbers."""
SIDE, MARGIN, LETTERS = 128, 8, 14
"""In pixels: the minimum width of a displayed image, the margin around it, and the font size of captions."""


def starting_noise(denoiser: Denoiser, pipeline: Any, count: int, seed: int, resolution: int | None = None) -> Tensor:
    """(N, …) noise, of which row i depends only on (seed, i)."""
    shape = denoiser.latent_shape(pipeline, resolution)
    return torch.stack([torch.randn(shape, generator=generator(seed, row)) for row in range(count)])


def encoded(pipeline: Any, denoiser: Denoiser, prompts: Sequence[str]) -> tuple[Condition, Condition]:
    """(N, …) conditions of the prompts, and (1, …) the null condition."""
    return denoiser.encode(pipeline, list(prompts), pipeline.device), denoiser.null(pipeline, pipeline.device)


def generated(
    pipeline: Any,
    denoiser: Denoiser,
    model: Any,
    conditions: Condition,
    null: Condition,
    noise: Tensor,
    *,
    steps: int,
    guidance: float,
    seed: int = 0,
    prediction: str | None = None,
    scheduler: Any = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """(N, …) latents on the CPU that the pipeline generates from ``noise`` with ``model`` as its denoiser.

    ``prediction`` is the model's prediction type, if it differs from the pipeline's; ``scheduler`` replaces the
    pipeline's own. The pipeline, the model and the global random state are left unchanged. A scheduler that draws more
    noise draws the same noise for every model.
    """
    outputs = []
    changes = {} if prediction is None else {"prediction_type": prediction}
    scheduler = pipeline.scheduler if scheduler is None else scheduler
    fresh = type(scheduler).from_config(scheduler.config, **changes)
    with _in_pipeline(pipeline, denoiser, model, fresh), _evaluating(model), _fork_random_state(noise.device):
        size = _batch(noise)
        for first in range(0, len(noise), size):
            progress(first, len(noise))
            rows = slice(first, first + size)
            torch.manual_seed(generator(seed, first).initial_seed())
            batch = {name: value[rows] for name, value in conditions.items()}
            latents = denoiser.generate(pipeline, batch, null, noise[rows], steps=steps, guidance=guidance)
            outputs.append(latents.float().cpu())
    progress(len(noise), len(noise))
    return torch.cat(outputs)


def _batch(latents: Tensor) -> int:
    """How many of these latents (N, …) a batch has."""
    return min(max(NUMBERS // max(latents[0].numel(), 1), BATCH), MOST)


def pictures(pipeline: Any, denoiser: Denoiser, latents: Tensor) -> list[Image]:
    """Decode latents into images with the pipeline's autoencoder."""
    from PIL import Image

    shown = []
    size = _batch(latents)
    for first in range(0, len(latents), size):
        pixels = denoiser.decode(pipeline, latents[first : first + size].to(pipeline.vae.device)).cpu()  # (n, 3, H, W)
        shown += [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in pixels]
    return shown


def grid(prompts: Sequence[str], columns: Sequence[tuple[str, Sequence[Image]]]) -> Image:
    """A page of images: one row for each prompt, printed above it, and one column for each name, printed at the top."""
    from PIL import Image, ImageDraw

    first = columns[0][1][0]
    scale = max(1, -(-SIDE // first.width))
    width, height = first.width * scale, first.height * scale
    across = len(columns) * (width + MARGIN) + MARGIN
    captions = [_wrapped(prompt, across - 2 * MARGIN) for prompt in prompts]
    line = LETTERS + 4
    tall = line + sum(len(lines) * line + height + 2 * MARGIN for lines in captions) + MARGIN
    page = Image.new("RGB", (across, tall), "white")
    pen = ImageDraw.Draw(page)
    for place, (name, _) in enumerate(columns):
        pen.text((MARGIN + place * (width + MARGIN), MARGIN // 2), name, fill="black", font=_font())
    y = line + MARGIN
    for row, lines in enumerate(captions):
        for words in lines:
            pen.text((MARGIN, y), words, fill="#444444", font=_font())
            y += line
        for place, (_, images) in enumerate(columns):
            shown = images[row].resize((width, height), Image.Resampling.NEAREST) if scale > 1 else images[row]
            page.paste(shown, (MARGIN + place * (width + MARGIN), y))
        y += height + 2 * MARGIN
    return page


def write_png(image: Image, path: Path) -> None:
    """Write an image atomically."""
    with files.replacing(path) as unfinished:
        image.save(unfinished, format="PNG")


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(LETTERS)


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most ``width`` pixels, except for single words that are wider."""
    lines = [""]
    for word in text.split() or [""]:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _font().getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@contextmanager
def _in_pipeline(pipeline: Any, denoiser: Denoiser, model: Any, fresh: Any) -> Iterator[None]:
    """Use the model as the pipeline's denoiser, with a fresh scheduler; restore both on exit."""
    from aria.distill.models.pipelines import component_of

    own, scheduler, name = denoiser.model_of(pipeline), pipeline.scheduler, component_of(pipeline)
    pipeline.register_modules(**{name: model, "scheduler": fresh})
    try:
        yield
    finally:
        pipeline.register_modules(**{name: own, "scheduler": scheduler})


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Put the model in evaluation mode; restore the mode of every module on exit."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _fork_random_state(device: torch.device) -> Iterator[None]:
    """Restore the global random state on exit."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
