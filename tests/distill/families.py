"""What can be done with the teachers of every family: the tables of docs/families.md, in Markdown.

    python -m tests.distill.families

A cell is a test, in :mod:`tests.distill.test_family_table`: what is said to work is done there, and what is said not to
is shown to be refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

KINDS = {
    "sd": ("Stable Diffusion 1.x and 2.x", "StableDiffusionPipeline"),
    "sdxl": ("Stable Diffusion XL", "StableDiffusionXLPipeline"),
    "sd3": ("Stable Diffusion 3 and 3.5", "StableDiffusion3Pipeline"),
    "flux": ("FLUX.1-dev", "FluxPipeline"),
    "flux_schnell": ("FLUX.1-schnell", "FluxPipeline"),
    "flux2": ("FLUX.2-dev", "Flux2Pipeline"),
    "klein": ("FLUX.2 klein", "Flux2KleinPipeline"),
    "qwen": ("Qwen-Image", "QwenImagePipeline"),
    "aura": ("AuraFlow", "AuraFlowPipeline"),
    "lumina": ("Lumina-Image 2.0", "Lumina2Pipeline"),
    "zimage": ("Z-Image", "ZImagePipeline"),
    "pixart": ("PixArt-α", "PixArtAlphaPipeline"),
    "pixart_sigma": ("PixArt-Σ", "PixArtSigmaPipeline"),
    "sana": ("Sana", "SanaPipeline"),
    "dit": ("DiT", "DiTPipeline"),
    "wan": ("Wan 2.1 and Wan 2.2 5B", "WanPipeline"),
    "ltx": ("LTX-Video", "LTXPipeline"),
}
"""Teachers by the name of their folder in the tests, with the name in the page and the pipeline."""
ABILITIES = {
    "fewer": "fewer blocks",
    "narrower": "narrower blocks",
    "distil": "distil",
    "resume": "resume bit for bit",
    "fsdp": "FSDP",
    "on_policy": "on-policy rows",
    "guidance": "guidance as an input",
    "halving": "halve the steps",
    "video": "videos",
}
"""Columns by name, with their heads."""


@dataclass(frozen=True)
class Lack:
    """Why something does not work, or not always."""

    why: str
    """The sentence in the page."""
    error: str
    """An expression for words of the line with which it is refused, or which the test that fails prints."""
    only: tuple[str, str] | None = None
    """The setting with which it works after all, and its value."""


NO_INPUT = Lack(
    "The model has no input for the guidance scale, and its pipeline would pass none. UNets are given such an input; "
    "FLUX.1-dev and FLUX.2-dev have one.",
    error="cannot take the guidance scale as an input",
)
FLOW = Lack(
    "Steps are halved by DDIM over the noise levels of a diffusion in discrete timesteps. A teacher that matches flows "
    "has none.",
    error="cannot be halved: it has no alphas_cumprod|teacher of a halving predicts must be .*, got 'flow_prediction'",
)
STILL = Lack("The pipeline makes images.", error="num_frames is for pipelines that make videos")
ROTARY = Lack(
    "Rotary positions turn the entries of all heads as one, so that every head has frequencies of its own: a head left "
    "out would take its frequencies along.",
    error="cannot be narrower: rotary positions turn the entries of all heads as one",
)
PADDED = Lack(
    "The model pads texts to the longest one in the batch, and layers are compared at all positions, padding included. "
    "Several ranks train as one with `--objective output`; if layers are compared as well, the loss of a sample also "
    "depends on how long the other prompts on its rank are.",
    error="two processes do not end with the weights of one",
    only=("objective", "output"),
)
VIDEOS = ("wan", "ltx")
FLOWS = ("sd3", "flux", "flux_schnell", "flux2", "klein", "qwen", "aura", "lumina", "zimage", "sana", *VIDEOS)
TAKE_GUIDANCE = ("sd", "sdxl", "flux", "flux2")
LACKS = {
    **{(kind, "guidance"): NO_INPUT for kind in KINDS if kind not in TAKE_GUIDANCE},
    **{(kind, "halving"): FLOW for kind in FLOWS},
    **{(kind, "video"): STILL for kind in KINDS if kind not in VIDEOS},
    ("ltx", "narrower"): ROTARY,
    **{(kind, "fsdp"): PADDED for kind in ("lumina", "zimage")},
}
"""What does not work, or only with a setting, by kind and ability; everything else does."""


def table() -> str:
    """A row for each kind, with a mark where something works and the number of the reason where it does not."""
    head = ["teacher", "pipeline", *ABILITIES.values()]
    numbers = {lack: number for number, (lack, _) in enumerate(_reasons(), start=1)}

    def cell(kind: str, ability: str) -> str:
        if (lack := LACKS.get((kind, ability))) is None:
            return "✓"
        return f"{numbers[lack]}" if lack.only is None else f"✓ ({numbers[lack]})"

    rows = [[name, f"`{pipeline}`", *(cell(kind, ability) for ability in ABILITIES)]
            for kind, (name, pipeline) in KINDS.items()]  # fmt: skip
    return "\n".join(map(_line, [head, ["---"] * len(head), *rows]))


def reasons() -> str:
    """Why each number in the table."""
    return "\n".join(f"{number}. *{what}*: {lack.why}" for number, (lack, what) in enumerate(_reasons(), start=1))


def _reasons() -> list[tuple[Lack, str]]:
    """Reasons in the order of the columns, each with the head of its column."""
    found = sorted(((list(ABILITIES).index(able), lack) for (_, able), lack in LACKS.items()), key=lambda one: one[0])
    return [(lack, list(ABILITIES.values())[place]) for (place, lack), _ in groupby(found)]


def sizes() -> tuple[str, str]:
    """Millions of parameters of published teachers, and of students: of transformers and of a UNet."""
    from tests.distill.students.test_published_sizes import SIZES, STUDENTS, UNETS

    head = ["million parameters", "teacher", *map(_flags, STUDENTS)]
    rows = [[name, *("–" if size is None else f"{size:.1f}" for size in row)] for name, row in SIZES.values()]
    unets = [[_flags(settings), f"{size:.1f}"] for settings, size in UNETS]
    return (
        "\n".join(map(_line, [head, ["---"] * len(head), *rows])),
        "\n".join(map(_line, [["student", "million parameters"], ["---"] * 2, *unets])),
    )


def _flags(settings: Mapping[str, object]) -> str:
    """Settings as they are given to ``aria prune``."""
    return f"`{' '.join(f'--{name} {value}' for name, value in settings.items())}`"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print("\n\n".join((table(), reasons(), *sizes())))
