"""The same noise and prompts through teacher and student: images side by side, and how far apart they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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

BATCH = 4
"""Images made at a time."""
SIDE, MARGIN, LETTERS = 128, 8, 14
"""In pixels: the smallest side at which an image is shown, the space around it, and the size of the captions."""


def starting_noise(denoiser: Denoiser, pipeline: Any, count: int, seed: int, resolution: int | None = None) -> Tensor:
    """(N, C, H, W): that of row i is a function of (seed, i) alone."""
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
    """(N, C, H, W) latents on the CPU that the pipeline makes from ``noise`` with ``model`` as its denoiser.

    ``prediction`` says what the model predicts, if something else than the pipeline's own does, and ``scheduler`` with
    which one it is sampled, if with another. Neither the pipeline nor the model nor the state of the random numbers is
    changed by it; where the scheduler draws more noise, it draws the same for every model.
    """
    made = []
    changes = {} if prediction is None else {"prediction_type": prediction}
    scheduler = pipeline.scheduler if scheduler is None else scheduler
    fresh = type(scheduler).from_config(scheduler.config, **changes)
    with _in_pipeline(pipeline, denoiser, model, fresh), _evaluating(model), _own_random_numbers(noise.device):
        for first in range(0, len(noise), BATCH):
            progress(first, len(noise))
            rows = slice(first, first + BATCH)
            torch.manual_seed(generator(seed, first).initial_seed())
            told = {name: value[rows] for name, value in conditions.items()}
            latents = denoiser.generate(pipeline, told, null, noise[rows], steps=steps, guidance=guidance)
            made.append(latents.float().cpu())
    progress(len(noise), len(noise))
    return torch.cat(made)


def generation_gap(teacher: Tensor, student: Tensor) -> Tensor:
    r"""(N,) float64 :math:`\frac1D\lVert x^T_i - x^S_i\rVert^2` of the D numbers of each latent.

    >>> generation_gap(torch.zeros(2, 1, 1, 2), torch.tensor([[[[0.0, 2.0]]], [[[1.0, 1.0]]]])).tolist()
    [2.0, 1.0]
    """
    return (teacher.double() - student.double()).square().flatten(1).mean(1)


def gap_record(prompts: Sequence[str], teacher: Tensor, student: Tensor) -> dict[str, Any]:
    """The generation gap overall and of each prompt."""
    gaps = generation_gap(teacher, student)
    rows = [{"prompt": prompt, "gap": gap} for prompt, gap in zip(prompts, gaps.tolist(), strict=True)]
    return {"gap": float(gaps.mean()), "prompts": rows}


def pictures(pipeline: Any, denoiser: Denoiser, latents: Tensor) -> list[Image]:
    """The latents as images, through the pipeline's autoencoder."""
    from PIL import Image

    shown = []
    for first in range(0, len(latents), BATCH):
        pixels = denoiser.decode(pipeline, latents[first : first + BATCH].to(pipeline.vae.device)).cpu()  # (n, 3, H, W)
        shown += [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in pixels]
    return shown


def grid(prompts: Sequence[str], columns: Mapping[str, Sequence[Image]]) -> Image:
    """One row for each prompt, which stands above it, and one column for each name, which stands at the top."""
    from PIL import Image, ImageDraw

    first = next(iter(columns.values()))[0]
    scale = max(1, -(-SIDE // first.width))
    width, height = first.width * scale, first.height * scale
    across = len(columns) * (width + MARGIN) + MARGIN
    captions = [_wrapped(prompt, across - 2 * MARGIN) for prompt in prompts]
    line = LETTERS + 4
    tall = line + sum(len(lines) * line + height + 2 * MARGIN for lines in captions) + MARGIN
    page = Image.new("RGB", (across, tall), "white")
    pen = ImageDraw.Draw(page)
    for place, name in enumerate(columns):
        pen.text((MARGIN + place * (width + MARGIN), MARGIN // 2), name, fill="black", font=_font())
    y = line + MARGIN
    for row, lines in enumerate(captions):
        for words in lines:
            pen.text((MARGIN, y), words, fill="#444444", font=_font())
            y += line
        for place, images in enumerate(columns.values()):
            shown = images[row].resize((width, height), Image.Resampling.NEAREST) if scale > 1 else images[row]
            page.paste(shown, (MARGIN + place * (width + MARGIN), y))
        y += height + 2 * MARGIN
    return page


def write_png(image: Image, path: Path) -> None:
    """Write an image whole or not at all."""
    with files.replacing(path) as unfinished:
        image.save(unfinished, format="PNG")


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(LETTERS)


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines no wider than ``width`` pixels, but for a word that is wider alone."""
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
    """The model as the pipeline's denoiser, with a fresh scheduler; then all is as before."""
    from aria.distill.models.pipelines import component_of

    own, scheduler, name = denoiser.model_of(pipeline), pipeline.scheduler, component_of(pipeline)
    pipeline.register_modules(**{name: model, "scheduler": fresh})
    try:
        yield
    finally:
        pipeline.register_modules(**{name: own, "scheduler": scheduler})


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model without dropout; every part is then in the mode in which it was."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _own_random_numbers(device: torch.device) -> Iterator[None]:
    """Random numbers that nobody else misses."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
