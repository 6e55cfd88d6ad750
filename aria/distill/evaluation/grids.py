"""Images of teacher and student from the same noise and prompts, side by side.

A sample is shown as a list of frames: one of an image, several of a video. On a page a video is a strip of some of its
frames; a film is the same page with every video playing.
"""

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
HUGE = 1 << 20
"""A latent of more numbers than this, such as that of a video, is a batch alone."""
STRIP, FRAME, RATE = 6, 256, 16
"""Frames of a video on a strip, the most pixels a side of each, and how many a film shows in a second."""


def starting_noise(
    denoiser: Denoiser,
    pipeline: Any,
    count: int,
    seed: int,
    resolution: int | None = None,
    frames: int | None = None,
) -> Tensor:
    """(N, …) noise, of which row i depends only on (seed, i)."""
    shape = denoiser.shape(pipeline, resolution, frames)
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
    return batch(latents, min(max(NUMBERS // max(latents[0].numel(), 1), BATCH), MOST))


def batch(latents: Tensor, most: int) -> int:
    """How many of these latents (N, …) are generated or decoded at a time: ``most``, unless they are huge."""
    return 1 if latents[0].numel() > HUGE else most


def pictures(pipeline: Any, denoiser: Denoiser, latents: Tensor) -> list[list[Image]]:
    """Decode latents into the frames of images or videos with the pipeline's autoencoder."""
    shown = []
    size = _batch(latents)
    for first in range(0, len(latents), size):
        pixels = denoiser.decode(pipeline, latents[first : first + size].to(pipeline.vae.device)).cpu()
        shown += [frames_of(sample) for sample in pixels]
    return shown


def frames_of(pixels: Tensor) -> list[Image]:
    """The one frame of an image (3, H, W), or the frames of a video (3, F, H, W), in [0, 1]."""
    from PIL import Image

    frames = pixels[None] if pixels.ndim == 3 else pixels.transpose(0, 1)  # (F, 3, H, W)
    return [Image.fromarray((frame * 255).round().byte().permute(1, 2, 0).numpy()) for frame in frames]


def strip(frames: Sequence[Image]) -> Image:
    """Some frames of a video beside one another: the first, the last and others evenly between; an image as it is."""
    from PIL import Image

    if len(frames) == 1:
        return frames[0]
    count = min(STRIP, len(frames))
    shown = [_small(frames[place * (len(frames) - 1) // (count - 1)]) for place in range(count)]
    joined = Image.new("RGB", (count * shown[0].width, shown[0].height))
    for place, frame in enumerate(shown):
        joined.paste(frame, (place * frame.width, 0))
    return joined


def write_film(
    prompts: Sequence[str], columns: Sequence[tuple[str, Sequence[Sequence[Image]]]], path: Path
) -> Path | None:
    """Write the page of :func:`grid` with every video playing, as an animated WebP; nothing where there is no video."""
    length = max(len(frames) for _, samples in columns for frames in samples)
    if length == 1:
        return None
    first, *pages = (
        grid(prompts, [(name, [[_small(frames[place])] for frames in samples]) for name, samples in columns])
        for place in range(length)
    )
    with files.replacing(path) as unfinished:
        first.save(unfinished, format="WEBP", save_all=True, append_images=pages, duration=1000 // RATE, loop=0)
    return path


def _small(frame: Image) -> Image:
    """A frame at most so large as strips and films have them."""
    from PIL import Image

    factor = min(1.0, FRAME / max(frame.size))
    width, height = (max(1, round(side * factor)) for side in frame.size)
    return frame if factor == 1 else frame.resize((width, height), Image.Resampling.LANCZOS)


def grid(prompts: Sequence[str], columns: Sequence[tuple[str, Sequence[Sequence[Image]]]]) -> Image:
    """A page of images, or of strips of videos: one row for each prompt, printed above it, and one column for each
    name, printed at the top."""
    from PIL import Image, ImageDraw

    shown = [(name, [strip(frames) for frames in samples]) for name, samples in columns]
    first = shown[0][1][0]
    scale = max(1, -(-SIDE // first.width))
    width, height = first.width * scale, first.height * scale
    across = len(columns) * (width + MARGIN) + MARGIN
    captions = [_wrapped(prompt, across - 2 * MARGIN) for prompt in prompts]
    line = LETTERS + 4
    tall = line + sum(len(lines) * line + height + 2 * MARGIN for lines in captions) + MARGIN
    page = Image.new("RGB", (across, tall), "white")
    pen = ImageDraw.Draw(page)
    for place, (name, _) in enumerate(shown):
        pen.text((MARGIN + place * (width + MARGIN), MARGIN // 2), name, fill="black", font=_font())
    y = line + MARGIN
    for row, lines in enumerate(captions):
        for words in lines:
            pen.text((MARGIN, y), words, fill="#444444", font=_font())
            y += line
        for place, (_, images) in enumerate(shown):
            image = images[row].resize((width, height), Image.Resampling.NEAREST) if scale > 1 else images[row]
            page.paste(image, (MARGIN + place * (width + MARGIN), y))
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
