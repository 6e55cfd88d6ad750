"""What is attacked: a tiny teacher, a student, prompts, a finished run with its checkpoints, a finished comparison."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aria.distill.runs import checkpoint
from aria.distill.students import prune
from tests.distill import pipelines
from tests.distill.forks import Forks

PROMPTS = [f"{kind} {i}" for i in range(4) for kind in ("cat", "dog", "hut")]
STEPS, EVERY = 6, 2
MEMORY = 4 << 30
"""Bytes that an attacked command may take beyond what it begins with; it needs a small part of them."""
# Three stages, one with attention: enough for every part of a run, and opened quickly.
FEW = {
    "block_out_channels": (4, 8, 8),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
}
ROUNDING = 1e-5
"""The largest relative difference that counts as rounding."""
COMPARISON = ("bench", "--quick", "--arms", "rc,aria", "--seeds", "2", "--steps", "8")


@dataclass(frozen=True)
class Ground:
    """Folders that attacks copy from and leave as they are."""

    folder: Path
    forks: Forks

    @property
    def run(self) -> Path:
        """A finished run, with a checkpoint every :data:`EVERY` steps."""
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        """The run's cache."""
        return self.folder / "cache"

    def command(self, output: Path, **changes: Any) -> list[str]:
        """The command line of the run, with other settings."""
        settings: dict[str, Any] = {
            "pretrained_model_name_or_path": self.folder / "teacher",
            "student": self.folder / "student",
            "prompts": self.folder / "prompts.txt",
            "cache_dir": self.cache,
            "output_dir": output,
            "max_train_steps": STEPS,
            "train_batch_size": 4,
            "num_images": 4,
            "num_inference_steps": 2,
            "checkpointing_steps": EVERY,
            "checkpoints_total_limit": STEPS,
            "logging_steps": 1,
            "warmup": 1,
            "learning_rate": 1e-3,
            "partitioner": "kmeans(3)",
            "on_policy": 0.25,
        }
        flags = [text for name, value in (settings | changes).items() for text in (f"--{name}", str(value))]
        return ["distill", *flags, "--quiet"]

    def stopped(self, output: Path, step: int = EVERY) -> Path:
        """A copy of the run as if it had been killed after ``step``: the only checkpoint is that of this step."""
        shutil.copytree(self.run, output)
        for folder in checkpoint.folders(output):
            if checkpoint.step_of(folder) != step:
                shutil.rmtree(folder)
        for part in PARTS:
            shutil.rmtree(output / part)
        (output / "model_index.json").unlink()
        return output

    def comparison(self, output: Path) -> list[str]:
        """The command line of a small comparison."""
        return [*COMPARISON, "--out", str(output), "--quiet"]

    def other_table(self, output: Path) -> str:
        """What a comparison has that differs; empty if it has the same numbers, up to rounding: a deleted cell is
        computed again, stacked with fewer others."""
        expected, actual = _numbers(self.folder / "bench"), _numbers(output)
        same = expected.keys() == actual.keys() and all(
            math.isclose(value, actual[key], rel_tol=ROUNDING) for key, value in expected.items()
        )
        return "" if same else "other numbers"

    def differs(self, output: Path) -> str:
        """What a finished run has that differs from this one, bit for bit: weights, logs, partition, pipeline."""
        expected, actual = _content(self.run), _content(output)
        return ", ".join(name for name in sorted({*expected, *actual}) if expected.get(name) != actual.get(name))


def make(folder: Path) -> Ground:
    """Make everything, or take what is there."""
    if not (folder / "teacher").is_dir():
        pipelines.save_sd(folder / "teacher", **FEW)
        prune(folder / "teacher", folder / "student", preset="bk-tiny")
        (folder / "prompts.txt").write_text("\n".join(PROMPTS))
        for path in [folder, *folder.rglob("*")]:  # some attacks run as another user
            path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "output").mkdir(exist_ok=True)
    ground = Ground(folder, Forks(folder / "output", folder / "teacher", memory=MEMORY))
    if not (ground.run / "model_index.json").is_file():
        ground.forks.done(*ground.command(ground.run))
    if not (folder / "bench" / "results.json").is_file():
        ground.forks.done(*ground.comparison(folder / "bench"))
    return ground


def _numbers(output: Path) -> dict[tuple[Any, ...], float]:
    records = json.loads((output / "results.json").read_text())["records"]
    return {tuple(row[name] for name in ("arm", "seed", "step", "metric", "group")): row["value"] for row in records}


def _content(output: Path) -> dict[str, Any]:
    """Everything a run delivers; how fast it was is left out."""
    content: dict[str, Any] = {}
    for name in ("losses.jsonl", "discrepancies.jsonl"):
        rows = [json.loads(line) for line in (output / name).read_text().splitlines()]
        content[name] = [{key: value for key, value in row.items() if key != "steps_per_second"} for row in rows]
    parts = [
        path for path in output.iterdir() if path.is_dir() and (path.name.startswith("unet") or path.name in PARTS)
    ]
    delivered = [path for part in parts for path in part.rglob("*") if path.is_file()]
    for path in [*delivered, output / "model_index.json", output / "partition.safetensors"]:
        content[str(path.relative_to(output))] = path.read_bytes()
    return content


PARTS = ("unet", "text_encoder", "tokenizer", "vae", "scheduler")
