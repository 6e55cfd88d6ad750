"""All settings of a run: a tree of frozen dataclasses, filled from a file, from flags, or both.

Every setting has one name, unique in the tree, so the flag ``--learning_rate``, the key ``learning_rate`` of a file and
the dotted ``optimiser.learning_rate`` are the same setting. Names follow diffusers' training scripts where those have
one. Importing this module loads neither torch nor diffusers, so that ``--help`` and refusals are quick.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from aria import checks, files, specs
from aria.checks import InvalidSetting
from aria.distill.settings import config_file, setting
from aria.distill.settings.choices import AUTO, LOGGERS, PARTITION_FILE, PRECISIONS, PREDICTIONS, SCHEDULES, TARGETS
from aria.distill.settings.setting import About, Kind
from aria.samplers.correction import exponent

_declare = setting.setting

ON_POLICY_HOPS = 3
"""For how many steps an on-policy row continues from the student's own outputs."""

@dataclass(frozen=True)
class Models:
    """Teacher and student."""

    pretrained_model_name_or_path: str = _declare(
        "", "The teacher: the folder of a diffusers pipeline, or its name on the hub.", place="input", by_benchmark=True
    )
    student: str = _declare(
        "",
        "The student: the folder of a model, as written by `aria prune`, or of a pipeline.",
        place="input",
        by_benchmark=True,
    )
    gradient_checkpointing: bool = _declare(
        False, "Recompute activations in the backward pass: less memory, slower steps.", may_change=True
    )
    low_rank: int | None = _declare(None, "Train low-rank adapters (LoRA) of this rank instead of all weights.")
    rank_ratio: float | None = _declare(
        None, "Replace linear layers by products of two smaller ones with this share of their weights, and train those."
    )
    student_prediction: str | None = _declare(
        None,
        "What the student predicts (epsilon, v_prediction, sample or flow_prediction), if different from the teacher.",
        choices=PREDICTIONS,
    )
    halve_from: int | None = _declare(
        None, "Train the student to do in half as many sampling steps what the teacher does in this many."
    )
    revision: str | None = _declare(None, "Revision of the teacher on the hub.")
    variant: str | None = _declare(None, "Variant of the teacher's weight files, such as fp16.")

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
                raise InvalidSetting(
                    "rank_ratio", "conflict", "low_rank and rank_ratio both replace what is trained: give only one"
                )


@dataclass(frozen=True)
class Data:
    """Prompts, images and the cache of both."""

    prompts: str = _declare(
        "",
        "The pool of prompts: a txt, csv, jsonl or parquet file, or a folder saved by the datasets library.",
        place="input",
        by_benchmark=True,
    )
    caption_column: str | None = _declare(
        None, "Column that holds the prompts; by default text, prompt, caption or label, whichever exists."
    )
    train_data_dir: str | None = _declare(
        None,
        "Folder of training images with captions in metadata.jsonl; without it the teacher generates the images.",
        place="input",
        by_benchmark=True,
    )
    num_images: int = _declare(256, "Number of training images that the teacher generates from prompts of the pool.")
    num_inference_steps: int = _declare(
        25, "Sampling steps for images that the teacher generates; with halve_from, that many steps are used instead."
    )
    guidance_scale: float = _declare(7.5, "Guidance scale for images that the teacher generates.")
    resolution: int | None = _declare(None, "Width and height of the images in pixels; by default the teacher's own.")
    num_frames: int | None = _declare(
        None, "Number of frames of the videos, for a teacher that makes videos; by default the pipeline's own."
    )
    cache_dir: str | None = _declare(
        None,
        "Folder for encoded prompts and latents, which several runs may share; by default inside the output folder.",
        place="run",
        by_benchmark=True,
    )
    cache_memory_gb: float = _declare(
        4.0, "Encoded prompts, and latents, stay on the device if they are smaller than this.", may_change=True
    )
    cache_ram_gb: float | None = _declare(
        None,
        "What does not fit on the device stays in RAM if it is smaller than this; by default half of the RAM.",
        may_change=True,
    )
    ahead: int = _declare(2, "Number of steps drawn ahead while encoded prompts are being read from disk.")

    def __post_init__(self) -> None:
        for name, least in (("num_images", 0), ("num_inference_steps", 1), ("ahead", 0)):
            checks.whole(name, getattr(self, name), least=least)
        for name in ("guidance_scale", "cache_memory_gb"):
            checks.non_negative(name, getattr(self, name))
        if self.cache_ram_gb is not None:
            checks.non_negative("cache_ram_gb", self.cache_ram_gb)
        for name in ("resolution", "num_frames"):
            if (size := getattr(self, name)) is not None:
                checks.whole(name, size, least=1)


@dataclass(frozen=True)
class Conditioning:
    """Which condition each noised image is shown with."""

    replacement: str = _declare(
        "exponential(1.0)",
        "Probability, by timestep, that an image's own condition is replaced by one from the pool: exponential(5.0) as "
        "in the paper on random conditioning, sigmoid, two_sided, or constant(1.0) to replace every condition.",
        by_benchmark=True,
        part="replacement",
    )
    null_probability: float = _declare(
        0.1, "Probability that a condition is dropped, that is, replaced by the empty prompt."
    )
    on_policy: float = _declare(
        0.0,
        "Share of every batch that continues from the student's own outputs instead of training images.",
        by_benchmark=True,
    )
    on_policy_hops: int = _declare(
        ON_POLICY_HOPS, "Number of steps that an on-policy row keeps its condition while its noise level falls."
    )
    guidance_max: float | None = _declare(
        None,
        "Largest guidance scale of a student that takes the scale as an input and needs one pass per sampling step.",
    )
    guidance_min: float = _declare(1.0, "Smallest guidance scale of such a student; used with guidance_max.")

    def __post_init__(self) -> None:
        checks.closed_unit("null_probability", self.null_probability)
        checks.closed_unit("on_policy", self.on_policy)
        checks.whole("on_policy_hops", self.on_policy_hops, least=2)
        for name in ("guidance_min", "guidance_max"):
            if (value := getattr(self, name)) is not None and not 1 <= value < float("inf"):
                raise InvalidSetting(name, "range", f"{name} must be at least 1, which is no guidance, got {value!r}")
        if self.guidance_max is not None and self.guidance_max < self.guidance_min:
            raise InvalidSetting(
                "guidance_max",
                "conflict",
                f"guidance_max={self.guidance_max} is below guidance_min={self.guidance_min}",
            )

    @property
    def guidance(self) -> tuple[float, float] | None:
        """Smallest and largest guidance scale of a student that takes the scale as an input, else None."""
        return None if self.guidance_max is None else (self.guidance_min, self.guidance_max)


@dataclass(frozen=True)
class Allocation:
    """Which conditions of the pool are drawn, and how often.

    The benchmark's arm ``aria`` has the same defaults; :data:`aria.bench.aria_arm.DIFFERENCES` explains what differs.
    """

    allocator: str = _declare(
        "proportional(power=2)",
        "Rule that turns estimates into sampling probabilities; `pool` draws as random conditioning does, "
        "`aria plugins` lists all.",
        by_benchmark=True,
        part="allocator",
    )
    tracker: str = _declare(
        "bank",
        "Rule that turns noisy losses into one estimate per region; `aria plugins` lists all.",
        by_benchmark=True,
        part="tracker",
    )
    partitioner: str = _declare(
        "auto",
        "Rule that groups conditions into regions, or a file written by `aria partition --output`; auto is k-means "
        "with one region per 8 prompts and at most 256 regions.",
        by_benchmark=True,
        part="partitioner",
    )
    target: str = _declare(
        "pool",
        "What training aims at: pool, prompts by their weights; conditions, all prompts alike; or regions, all regions "
        "alike, so that rare ones gain and frequent ones pay.",
        choices=TARGETS,
    )
    floor: float = _declare(
        0.2,
        "Share of the draws that follows the target whatever the allocator decides.",
        by_benchmark=True,
    )
    warmup: int = _declare(50, "Number of steps before the allocator decides; until then draws follow the pool.")
    every: int = _declare(1, "Number of steps between two updates of tracker and allocator.")
    correction: str = _declare(
        "none",
        "Whether importance weights undo the allocation: none, importance, or tempered(λ) for a part of it.",
    )
    stratified: bool = _declare(True, "Draw every region within one of its expected count instead of independently.")
    normalise: bool = _declare(True, "Divide each discrepancy by the running mean of its timestep.")

    def __post_init__(self) -> None:
        checks.closed_unit("floor", self.floor)
        exponent(self.correction)
        checks.whole("warmup", self.warmup, least=0)
        checks.whole("every", self.every, least=1)


@dataclass(frozen=True)
class Loss:
    """The training loss."""

    objective: tuple[str, ...] = _declare(
        (),
        "A term of the loss: output, feature or task; repeat the flag for several. By default output and feature, or "
        "output alone with guidance_max or halve_from.",
        part="objective",
    )
    weighting: str = _declare(
        "uniform",
        "Weight of each noise level in the loss: uniform, min_snr(gamma=5.0), truncated_snr or velocity.",
        by_benchmark=True,
        part="weighting",
    )
    signal: str | None = _declare(None, "Term of the loss that the tracker follows; by default the first one.")


@dataclass(frozen=True)
class AdamW:
    """Optimiser and learning rate, named as in diffusers' training scripts."""

    learning_rate: float = _declare(5e-5, "Peak learning rate.")
    lr_scheduler: str = _declare("constant", f"Learning rate schedule: {', '.join(SCHEDULES)}.", choices=SCHEDULES)
    lr_warmup_steps: int = _declare(0, "Number of steps over which the learning rate rises to its peak.")
    adam_beta1: float = _declare(0.9, "Decay rate of Adam's first-moment estimate.")
    adam_beta2: float = _declare(0.999, "Decay rate of Adam's second-moment estimate.")
    adam_weight_decay: float = _declare(1e-2, "Decoupled weight decay of AdamW.")
    adam_epsilon: float = _declare(1e-8, "Term added to Adam's denominator for numerical stability.")
    max_grad_norm: float = _declare(1.0, "Gradients with a larger norm are scaled down to this norm.")

    def __post_init__(self) -> None:
        checks.positive("learning_rate", self.learning_rate)
        for name in ("adam_beta1", "adam_beta2"):
            if getattr(self, name) != 0:
                checks.open_unit(name, getattr(self, name))
        checks.non_negative("adam_weight_decay", self.adam_weight_decay)
        checks.positive("adam_epsilon", self.adam_epsilon)
        checks.positive("max_grad_norm", self.max_grad_norm)
        checks.one_of("lr_scheduler", self.lr_scheduler, SCHEDULES)
        checks.whole("lr_warmup_steps", self.lr_warmup_steps, least=0)


@dataclass(frozen=True)
class Training:
    """Length, batch size, precision and devices."""

    max_train_steps: int = _declare(1000, "Total number of optimiser steps.", may_change=True)
    train_batch_size: int = _declare(
        16, "Number of samples in one forward pass of one process.", may_change=True
    )
    gradient_accumulation_steps: int = _declare(
        1, "Number of forward passes per optimiser step.", may_change=True
    )
    mixed_precision: str | None = _declare(
        None, "Mixed precision: no, fp16 or bf16; by default as accelerate is configured.", choices=PRECISIONS
    )
    use_ema: bool = _declare(True, "Keep an exponential moving average of the weights and deliver that.")
    ema_decay: float = _declare(0.9999, "Decay rate of the moving average of the weights.")
    seed: int = _declare(0, "Seed of all random numbers.", by_benchmark=True)
    fsdp: bool = _declare(
        False, "Shard student, gradients and optimiser state across processes (FSDP2).", may_change=True
    )
    compile: bool = _declare(False, "Compile the repeated blocks of both models: a slow start, then faster steps.")
    allow_tf32: bool = _declare(False, "Allow TF32 in matrix products on NVIDIA GPUs: faster, slightly less exact.")

    def __post_init__(self) -> None:
        for name in ("max_train_steps", "train_batch_size", "gradient_accumulation_steps"):
            checks.whole(name, getattr(self, name), least=1)
        if self.mixed_precision is not None:
            checks.one_of("mixed_precision", self.mixed_precision, PRECISIONS)
        checks.closed_unit("ema_decay", self.ema_decay)
        checks.whole("seed", self.seed, least=0)


@dataclass(frozen=True)
class Run:
    """Output folder, checkpoints, logs and validation images."""

    output_dir: str = _declare(
        "",
        "Folder of the run; when training ends it is a pipeline that from_pretrained opens.",
        place="run",
        by_benchmark=True,
    )
    resume_from_checkpoint: str | None = _declare(
        "latest",
        "Checkpoint to continue from: latest (start from scratch if there is none), a folder such as checkpoint-500, "
        "or none, which refuses an output folder that already has checkpoints.",
        place="run",
        by_benchmark=True,
    )
    checkpointing_steps: int = _declare(
        500, "Number of steps between two checkpoints.", may_change=True, by_benchmark=True
    )
    checkpoints_total_limit: int | None = _declare(
        2,
        "Number of checkpoints to keep; older ones are deleted.",
        may_change=True,
        by_benchmark=True,
    )
    logging_steps: int = _declare(10, "Number of steps between two lines of the log.", may_change=True)
    report_to: str | None = _declare(
        None,
        "Experiment tracker to report to besides the log files: tensorboard or wandb.",
        may_change=True,
        choices=LOGGERS,
    )
    logging_dir: str = _declare("logs", "Folder for report_to, inside the output folder.", place="run")
    validation_prompts: tuple[str, ...] = _declare(
        (), "Prompt to generate validation images of during training; repeat the flag for several.", may_change=True
    )
    validation_steps: int = _declare(500, "Number of steps between two sets of validation images.", may_change=True)

    def __post_init__(self) -> None:
        for name in ("checkpointing_steps", "logging_steps", "validation_steps"):
            checks.whole(name, getattr(self, name), least=1)
        if self.checkpoints_total_limit is not None:
            checks.whole("checkpoints_total_limit", self.checkpoints_total_limit, least=1)
        if self.report_to is not None:
            checks.one_of("report_to", self.report_to, LOGGERS)


@dataclass(frozen=True)
class Config:
    """All settings of ``aria distill``, in eight sections.

    >>> config = Config().with_values({"learning_rate": 1e-4, "allocation.floor": 0.3})
    >>> config.optimiser.learning_rate, config.allocation.floor
    (0.0001, 0.3)
    """

    models: Models = field(default_factory=Models)
    data: Data = field(default_factory=Data)
    run: Run = field(default_factory=Run)
    training: Training = field(default_factory=Training)
    optimiser: AdamW = field(default_factory=AdamW)
    allocation: Allocation = field(default_factory=Allocation)
    conditioning: Conditioning = field(default_factory=Conditioning)
    loss: Loss = field(default_factory=Loss)

    @classmethod
    def read(cls, path: str | Path, *, allow_imports: bool = False) -> Config:
        """The settings in a YAML, TOML or JSON file, flat or in sections.

        The file may be someone else's, so specs in it that import Python code (``module:Class``, ``file.py:Class``)
        are refused unless ``allow_imports``.
        """
        config = cls().with_values(config_file.read(Path(path), sections=[part.name for part in fields(cls)]))
        if not allow_imports:
            config._refuse_imports(path)
        return config

    def _refuse_imports(self, path: str | Path) -> None:
        values = self.flat()
        for name, kind in ((one.name, one.about.part) for one in settings() if one.about.part is not None):
            for spec in values[name] if isinstance(values[name], tuple) else (values[name],):
                if kind == "partitioner" and (spec == AUTO or spec.endswith(PARTITION_FILE)):
                    continue
                for module in specs.imported(specs.read(spec, specs.kind_called(kind))):
                    raise InvalidSetting(
                        name, "import", f"{path}: {name}={spec!r} would import {module}, which a file may not: "
                        f"write it on the command line, or give --allow_imports if you trust the file",
                    )  # fmt: skip

    def with_values(self, values: Mapping[str, Any]) -> Config:
        """A copy with ``values`` changed, by plain or dotted names; unknown names are refused."""
        known = {name: one for one in settings() for name in (one.name, f"{one.section}.{one.name}")}
        changes: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in known:
                hint = checks.hint(str(name), known)
                raise InvalidSetting(str(name), "unknown", f"unknown setting {name!r}{hint}")
            one = known[name]
            changes.setdefault(one.section, {})[one.name] = setting.typed(one.name, one.kind, value)
        return replace(self, **{name: replace(getattr(self, name), **new) for name, new in changes.items()})

    def flat(self) -> dict[str, Any]:
        """Every setting by its plain name."""
        return {name: value for section in asdict(self).values() for name, value in section.items()}

    def save(self, path: Path) -> None:
        """Write the settings as JSON, in sections, as :meth:`read` takes them."""
        with files.replacing(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")


class Setting(NamedTuple):
    """A declared setting."""

    section: str
    name: str
    default: Any
    kind: Kind
    about: About


@cache
def settings() -> tuple[Setting, ...]:
    """Every setting there is, section by section, the most used ones first."""
    declared = []
    for section in fields(Config):
        factory = _factory(section)
        hints = typing.get_type_hints(factory)
        for found in fields(factory):
            about: About = found.metadata["about"]
            declared.append(Setting(section.name, found.name, found.default, setting.kind(hints[found.name]), about))
    return tuple(declared)


def setting_names(*, place: setting.Place | None = None, **about: bool) -> set[str]:
    """Names of the settings whose declaration says so.

    >>> sorted(setting_names(place="run"))
    ['cache_dir', 'logging_dir', 'output_dir', 'resume_from_checkpoint']
    >>> "seed" in setting_names(by_benchmark=True), "seed" in setting_names(may_change=True)
    (True, False)
    """
    return {
        one.name
        for one in settings()
        if (place is None or one.about.place == place)
        and all(getattr(one.about, name) == wanted for name, wanted in about.items())
    }


def help_of(name: str) -> str:
    """The sentence that explains a setting."""
    return next(one.about.help for one in settings() if one.name == name)


def sections() -> dict[str, str]:
    """The sections of the settings, and what each is about, the most used first.

    >>> next(iter(sections().items()))
    ('models', 'Teacher and student.')
    """
    return {section.name: str(_factory(section).__doc__).partition("\n")[0] for section in fields(Config)}


def _factory(section: Field[Any]) -> Any:
    assert section.default_factory is not MISSING
    return section.default_factory
