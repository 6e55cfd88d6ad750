"""How good the packaged teachers of emoji are: what a classifier sees in their pictures, and a sheet of examples.

    python -m benchmarks.emoji_teachers --output benchmarks/results/emoji-teachers.json --sheet docs/figures/emoji.png

The classifier was trained on nine tenths of the concepts; its accuracy on real pictures of the last tenth, as they are
and through the autoencoder, says how much a perfect teacher could reach with their captions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from aria import files
from aria.bench.result import machine
from aria.distill.evaluation.examiner import Examiner
from aria.distill.models.pipelines import open_pipeline
from aria.tasks.emoji import judge, train
from aria.tasks.emoji.kinds import KINDS
from aria.tasks.emoji.pictures import Pictures
from aria.tasks.emoji.recipe import RECIPES

EXAMPLES = 10
SCALE, LETTERS = 3, 13


def main(arguments: Sequence[str] | None = None) -> int:
    """Have every teacher draw captions, and write what the classifier sees."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emoji_teachers", description=__doc__.splitlines()[0])
    parser.add_argument("--teachers", type=Path, default=train.TEACHERS, help="folder of teachers")
    parser.add_argument("--preset", choices=sorted(RECIPES), default="small")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--count", type=int, default=300, help="number of captions")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args(arguments)
    pictures, recipe = Pictures(), RECIPES[options.preset]
    model, vae = train.open_judge(options.teachers, recipe), train.open_autoencoder(options.teachers)
    images = pictures.images()
    held_out = train.held_out(pictures).nonzero()[:, 0].tolist()
    order = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))[: options.count]
    chosen = [held_out[place] for place in order.tolist()]

    def seen(made: Tensor, rows: list[int]) -> dict[str, float]:
        found = judge.marks(model, made, *judge.truths(pictures, rows))
        return {name: round(float(value.mean()), 4) for name, value in found.items()}

    with torch.no_grad():
        again = vae.decode(vae.encode(images[held_out]).latent_dist.mean).sample.clamp(-1, 1)
    accuracy = {"real": seen(images[held_out], held_out), "autoencoder": seen(again, held_out)}
    columns = {"real": (images[chosen[:EXAMPLES]] + 1) / 2}
    for name in options.kinds:
        examiner = Examiner(
            open_pipeline(options.teachers / name, vae=vae),
            [pictures.names[row] for row in chosen],
            guidance=options.guidance,
            seed=0,
        )
        made = examiner.images(examiner.latents(examiner.teacher, steps=options.steps))
        accuracy[name], columns[name] = seen(2 * made - 1, chosen), made[:EXAMPLES]
        print(name, accuracy[name], flush=True)
    if options.sheet is not None:
        with files.replacing(options.sheet) as part:
            sheet(columns, [pictures.names[row] for row in chosen[:EXAMPLES]]).save(part, format="PNG")
    result = {
        "command": f"python -m benchmarks.emoji_teachers --count {options.count} --steps {options.steps} "
        f"--guidance {options.guidance}",
        "machine": machine(),
        "accuracy": accuracy,
    }
    if options.output is not None:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")
    print(json.dumps(accuracy, indent=1))
    return 0


def sheet(columns: dict[str, Tensor], captions: Sequence[str]) -> Image.Image:
    """A row for each caption, a column for each model."""
    font = ImageFont.load_default(LETTERS)
    side = next(iter(columns.values())).shape[-1] * SCALE
    across, text = side + 12, max(int(font.getlength(caption)) for caption in captions) + 16
    page = Image.new("RGB", (text + across * len(columns), LETTERS + 12 + (side + 6) * len(captions)), "white")
    pen = ImageDraw.Draw(page)
    for place, (name, images) in enumerate(columns.items()):
        pen.text((text + place * across, 4), name.replace("-attention", ""), fill="black", font=font)
        for row, image in enumerate(images):
            pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            large = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
            page.paste(large, (text + place * across, LETTERS + 12 + row * (side + 6)))
    for row, caption in enumerate(captions):
        pen.text((4, LETTERS + 12 + row * (side + 6) + side // 2 - LETTERS // 2), caption, fill="#333333", font=font)
    return page


if __name__ == "__main__":
    sys.exit(main())
