"""Resolves the settings of a run into a plan; every decision that depends on several settings is taken here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aria import registry
from aria.checks import InvalidSetting
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.engine.plan import Plan
from aria.distill.models.denoisers import Condition
from aria.distill.objectives import Objective
from aria.distill.runs import regions
from aria.distill.settings.config import Config
from aria.distill.students import read_feature_pairs
from aria.distill.teachers.guidance import guided
from aria.distill.teachers.halving import deterministic, halved
from aria.distill.teachers.teacher import Teacher


@dataclass(frozen=True)
class RunPlan:
    """A run with all decisions taken: the models, the training loop and the folders."""

    config: Config
    """The settings, with every default that depends on other settings filled in."""
    loop: Plan
    """The plan of the training loop."""
    output: Path
    """The folder of the run."""
    cache: Path
    """The cache folder, with encoded prompts and latents."""
    teacher_steps: int
    """Number of sampling steps of the teacher."""
    student_steps: int
    """Number of sampling steps of the student."""

    @property
    def halved(self) -> bool:
        """Whether the student takes half as many sampling steps as the teacher."""
        return self.config.models.halve_from is not None

    def with_scheduler(self, pipeline: Any) -> Any:
        """The pipeline with the scheduler that the student is delivered with: DDIM if steps are halved."""
        if self.halved:
            pipeline.register_modules(scheduler=deterministic(pipeline.scheduler))
        return pipeline

    def teacher(self, pipeline: Any, null: Condition) -> Teacher:
        """The teacher with its forward pass: plain, guided, two steps at a time, or both."""
        teacher, models = Teacher.of(pipeline), self.config.models
        if self.loop.guidance is not None:
            teacher = guided(teacher, null)
        if models.halve_from is not None:
            teacher = halved(teacher, pipeline.scheduler, models.halve_from, prediction=models.student_prediction)
        return teacher


def resolve(config: Config) -> RunPlan:
    """The plan of a run; settings that contradict one another are refused."""
    models, conditioning, training, data = config.models, config.conditioning, config.training, config.data
    halve_from, twice = models.halve_from, models.halve_from is not None or conditioning.guidance is not None
    objective = config.loss.objective or (("output",) if twice else ("output", "feature"))
    terms = tuple(registry.resolve(spec, Objective) for spec in objective)
    for term in terms if twice else ():  # whether a guided teacher is evaluated once depends on its model
        term.check_outputs_only(one_pass=halve_from is None)
    if conditioning.on_policy:
        _check_on_policy(config)
    config = config.with_values({"objective": objective})
    loop = Plan(
        objective=terms,
        weighting=config.loss.weighting,  # type: ignore[arg-type]  # specs are resolved by the plan
        signal=config.loss.signal or "",
        replacement=conditioning.replacement,  # type: ignore[arg-type]
        null_probability=conditioning.null_probability,
        student_prediction=models.student_prediction,
        guidance=conditioning.guidance,
        on_policy=OnPolicy(conditioning.on_policy, conditioning.on_policy_hops),
        layers=_feature_pairs(models.student),
        optimiser=config.optimiser,
        steps=training.max_train_steps,
        batch_size=training.train_batch_size,
        accumulation=training.gradient_accumulation_steps,
        ema_decay=training.ema_decay if training.use_ema else 0.0,
        ahead=data.ahead,
        seed=training.seed,
        fsdp=training.fsdp,
        compile=training.compile,
    )
    output, steps = Path(config.run.output_dir), halve_from or data.num_inference_steps
    return RunPlan(
        config,
        loop,
        output,
        Path(data.cache_dir) if data.cache_dir else output / "cache",
        teacher_steps=steps,
        student_steps=steps if halve_from is None else steps // 2,
    )


def _check_on_policy(config: Config) -> None:
    """Refuse on-policy rows where they cannot choose their own timesteps."""
    timesteps = "timestep" in regions.coordinates(config.allocation.partitioner)
    other = "halve_from" if config.models.halve_from is not None else "partitioner" if timesteps else None
    if other is not None:
        message = f"on_policy rows choose their own timesteps, which {other} decides: give only one of them"
        raise InvalidSetting("on_policy", "conflict", message)


def _feature_pairs(student: str) -> tuple[tuple[str, str], ...]:
    """(teacher's layer, student's layer) pairs that a pruned student's folder lists."""
    if not (Path(student) / "student.json").is_file():
        return ()
    return tuple((teacher_layer, student_layer) for teacher_layer, student_layer in read_feature_pairs(student))


