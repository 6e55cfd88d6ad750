"""Settings of a run: a tree of frozen dataclasses, from a file, from flags, or both.

Every setting has one name, unique in the tree, so the flag ``--learning_rate``, the key ``learning_rate`` of a file and
the dotted ``optimiser.learning_rate`` are the same setting. Names are those of diffusers' training scripts where they
have one.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from aria import checks, files
from aria.distill.engine.optimiser import AdamW
from aria.distill.models.schedule import PREDICTIONS
from aria.distill.settings import config_file, setting
from aria.distill.settings.setting import Kind, said
from aria.samplers import boundary


@dataclass(frozen=True)
class Models:
    """Who learns from whom."""

    pretrained_model_name_or_path: str = said("", "The teacher: a pipeline's folder, or its name on the hub.")
    student: str = said("", "The student: a model's folder, as `aria prune` writes it, or a pipeline's.")
    revision: str | None = said(None, "Revision of the teacher on the hub.")
    variant: str | None = said(None, "Variant of the teacher's files, such as fp16.")
    student_prediction: str | None = said(None, "What the student predicts, if something else than the teacher.")
    halve_from: int | None = said(None, "The student makes in half as many steps what the teacher makes in this many.")
    gradient_checkpointing: bool = said(False, "Recompute activations in the backward pass: less memory, slower.")
    low_rank: int | None = said(None, "Train low-rank adapters of this rank instead of all weights.")
    rank_ratio: float | None = said(None, "Train linear layers as products of two with this share of their weights.")

    def __post_init__(self) -> None:
        if self.student_prediction is not None:
            checks.one_of("student_prediction", self.student_prediction, PREDICTIONS)
        if self.halve_from is not None:
            checks.whole("halve_from", self.halve_from, least=2)
        if self.low_rank is not None:
            checks.whole("low_rank", self.low_rank, least=1)
        if self.rank_ratio is not None:
            checks.open_unit("rank_ratio", self.rank_ratio)
            if self.low_rank is not None:
                raise ValueError("low_rank trains adapters beside the weights, rank_ratio other weights: take one")


@dataclass(frozen=True)
class Data:
    """Conditions and images."""

    prompts: str = said("", "The pool of prompts: txt, csv, jsonl, parquet, or a folder of the datasets library.")
    caption_column: str | None = said(None, "Column of the prompts; by default text, prompt, caption or label.")
    cache_dir: str | None = said(None, "Where encoded prompts and latents are kept; by default in the output folder.")
    num_images: int = said(256, "Images that the teacher makes of some of the prompts, and the run sees.")
    num_inference_steps: int = said(25, "Steps with which the teacher makes them, unless they are those of halve_from.")
    guidance_scale: float = said(7.5, "Guidance with which the teacher makes them.")
    train_data_dir: str | None = said(None, "Use the images of this folder (metadata.jsonl with captions) instead.")
    resolution: int | None = said(None, "Side of the images in pixels; by default the teacher's own.")
    cache_memory_gb: float = said(4.0, "Encoded prompts, and latents, up to this size stay on the device.")
    cache_ram_gb: float | None = said(None, "Up to this size they stay in RAM instead; by default half of it.")
    ahead: int = said(2, "Steps drawn ahead where encoded prompts are read from disk.")

    def __post_init__(self) -> None:
        for name, least in (("num_images", 0), ("num_inference_steps", 1), ("ahead", 0)):
            checks.whole(name, getattr(self, name), least=least)
        for name in ("guidance_scale", "cache_memory_gb"):
            checks.non_negative(name, getattr(self, name))
        if self.cache_ram_gb is not None:
            checks.non_negative("cache_ram_gb", self.cache_ram_gb)
        if self.resolution is not None:
            checks.whole("resolution", self.resolution, least=1)


@dataclass(frozen=True)
class Conditioning:
    """Random conditioning."""

    replacement: str = said(
        "exponential",
        "How often an image's own condition is replaced, by timestep: exponential(steepness=5.0), "
        "sigmoid, two_sided, or constant(probability=1.0) for always.",
    )
    null_probability: float = said(0.1, "How often a condition is then replaced by that of no prompt.")
    on_policy: float | None = said(
        None,
        "Share of every batch whose images the student makes itself, of drawn conditions; by default 0.375, "
        "and 0 with halve_from or regions that are of timesteps.",
    )
    on_policy_hops: int = said(3, "Steps that such a condition stays, from the highest noise to the lowest.")
    guidance_min: float = said(1.0, "The least guidance scale the student is told, where guidance_max is given.")
    guidance_max: float | None = said(None, "The student is told the guidance scale, up to this: one pass a step.")

    def __post_init__(self) -> None:
        checks.closed_unit("null_probability", self.null_probability)
        if self.on_policy is not None:
            checks.closed_unit("on_policy", self.on_policy)
        checks.whole("on_policy_hops", self.on_policy_hops, least=2)
        for name in ("guidance_min", "guidance_max"):
            if (value := getattr(self, name)) is not None and not 1 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 1, which is no guidance, got {value!r}")
        if self.guidance_max is not None and self.guidance_max < self.guidance_min:
            raise ValueError(f"guidance_max={self.guidance_max} is below guidance_min={self.guidance_min}")

    @property
    def guidance(self) -> tuple[float, float] | None:
        """The least and the largest guidance scale, where the student is told one."""
        return None if self.guidance_max is None else (self.guidance_min, self.guidance_max)


@dataclass(frozen=True)
class Allocation:
    """On which conditions the replacements are spent."""

    partitioner: str = said(
        "auto",
        "Conditions to regions, or a file that `aria partition --output` wrote; "
        "auto is k-means, a region per 8 prompts, 256 at most.",
    )
    tracker: str = said("bank", "Noisy losses to one estimate per region; `aria plugins` lists them.")
    allocator: str = said("proportional", "Estimates to a distribution over regions; pool draws as RC does.")
    floor: float = said(0.2, "Share of the draws that always follow the pool.")
    correction: str = said("none", "none, importance or tempered(λ): whether weights undo the allocation.")
    warmup: int = said(50, "Steps before the allocator decides.")
    every: int = said(1, "Steps between two decisions.")
    stratified: bool = said(True, "Spread each draw evenly over the distribution.")
    normalise: bool = said(True, "Divide each discrepancy by the mean of its timestep.")

    def __post_init__(self) -> None:
        checks.closed_unit("floor", self.floor)
        boundary.exponent(self.correction)
        checks.whole("warmup", self.warmup, least=0)
        checks.whole("every", self.every, least=1)


@dataclass(frozen=True)
class Loss:
    """What is minimised."""

    objective: tuple[str, ...] = said(
        (),
        "A term of the loss: output, feature or task; may be given several times. By default output and feature, "
        "and output alone where the teacher is asked twice: with guidance_max or halve_from.",
    )
    weighting: str = said(
        "uniform", "How much each noise level counts: uniform, min_snr(gamma=5.0), truncated_snr or velocity."
    )
    signal: str | None = said(None, "The term that the tracker is told; the first by default.")


@dataclass(frozen=True)
class Training:
    """The loop."""

    max_train_steps: int = said(1000, "Optimiser steps.")
    train_batch_size: int = said(16, "Samples in one forward pass of one process.")
    gradient_accumulation_steps: int = said(1, "Forward passes in one step.")
    mixed_precision: str | None = said(None, "no, fp16 or bf16; by default what accelerate is configured with.")
    allow_tf32: bool = said(False, "Let matrix products round to TF32.")
    use_ema: bool = said(True, "Keep a moving average of the weights and deliver that.")
    ema_decay: float = said(0.9999, "Its memory.")
    seed: int = said(0, "Of everything random.")
    fsdp: bool = said(False, "On several processes: divide the student and the optimiser's memory among them.")
    compile: bool = said(False, "Compile the blocks that UNets repeat: a slow start, faster steps.")

    def __post_init__(self) -> None:
        for name in ("max_train_steps", "train_batch_size", "gradient_accumulation_steps"):
            checks.whole(name, getattr(self, name), least=1)
        if self.mixed_precision is not None:
            checks.one_of("mixed_precision", self.mixed_precision, ("no", "fp16", "bf16"))
        checks.closed_unit("ema_decay", self.ema_decay)
        checks.whole("seed", self.seed, least=0)


@dataclass(frozen=True)
class Run:
    """Where results go, and what is told on the way."""

    output_dir: str = said("", "Folder of the run; in the end a pipeline that from_pretrained opens.")
    resume_from_checkpoint: str | None = said("latest", "A checkpoint's folder, latest, or none to begin anew.")
    checkpointing_steps: int = said(500, "Steps between two checkpoints.")
    checkpoints_total_limit: int | None = said(2, "How many are kept.")
    logging_steps: int = said(10, "Steps between two lines of the log.")
    report_to: str | None = said(None, "tensorboard or wandb, besides the logs in the output folder.")
    logging_dir: str = said("logs", "Folder in the output folder for report_to.")
    validation_prompts: tuple[str, ...] = said((), "A prompt for grids drawn on the way; may be repeated.")
    validation_steps: int = said(500, "Steps between two grids.")

    def __post_init__(self) -> None:
        for name in ("checkpointing_steps", "logging_steps", "validation_steps"):
            checks.whole(name, getattr(self, name), least=1)
        if self.checkpoints_total_limit is not None:
            checks.whole("checkpoints_total_limit", self.checkpoints_total_limit, least=1)
        if self.report_to is not None:
            checks.one_of("report_to", self.report_to, ("tensorboard", "wandb"))


@dataclass(frozen=True)
class Config:
    """All settings of ``aria distill``.

    >>> config = Config().with_values({"learning_rate": 1e-4, "allocation.floor": 0.3})
    >>> config.optimiser.learning_rate, config.allocation.floor
    (0.0001, 0.3)
    """

    models: Models = field(default_factory=Models)
    data: Data = field(default_factory=Data)
    conditioning: Conditioning = field(default_factory=Conditioning)
    allocation: Allocation = field(default_factory=Allocation)
    loss: Loss = field(default_factory=Loss)
    optimiser: AdamW = field(default_factory=AdamW)
    training: Training = field(default_factory=Training)
    run: Run = field(default_factory=Run)

    @property
    def steps(self) -> int:
        """Steps in which the teacher makes an image."""
        return self.models.halve_from or self.data.num_inference_steps

    @property
    def student_steps(self) -> int:
        """Steps in which the student does."""
        return self.steps // 2 if self.models.halve_from else self.steps

    @classmethod
    def read(cls, path: str | Path) -> Config:
        """The settings in a YAML, TOML or JSON file, flat or in sections."""
        return cls().with_values(config_file.read(Path(path), sections=[part.name for part in fields(cls)]))

    def with_values(self, values: Mapping[str, Any]) -> Config:
        """The same settings but for ``values``, by plain or dotted names; unknown names are refused."""
        known = {name: place for place in settings() for name in _names(*place)}
        changes: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                raise ValueError(f"unknown setting {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
            section, found = known[name]
            changes.setdefault(section, {})[found.name] = setting.typed(found.name, kind(section, found), value)
        return replace(self, **{section: replace(getattr(self, section), **told) for section, told in changes.items()})

    def flat(self) -> dict[str, Any]:
        """Every setting by its plain name."""
        return {name: value for section in asdict(self).values() for name, value in section.items()}

    def help(self, name: str) -> str:
        """The line that explains a setting."""
        return next(str(found.metadata["help"]) for _, found in settings() if found.name == name)

    def save(self, path: Path) -> None:
        """Write the settings as JSON, in sections, as :meth:`read` takes them."""
        files.write_json(path, asdict(self))


def settings() -> Iterator[tuple[str, Field[Any]]]:
    """(section, setting) of every setting there is."""
    for section in fields(Config):
        assert section.default_factory is not MISSING
        for found in fields(section.default_factory()):
            yield section.name, found


def kind(section: str, found: Field[Any]) -> Kind:
    """What a setting's value may be."""
    factory = next(part.default_factory for part in fields(Config) if part.name == section)
    return setting.kind(typing.get_type_hints(factory)[found.name])


def _names(section: str, found: Field[Any]) -> tuple[str, str]:
    return found.name, f"{section}.{found.name}"
