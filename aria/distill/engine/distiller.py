"""The distillation engine: one loop, read top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from aria import checks
from aria.checks import InvalidSetting
from aria.distill.engine import optimiser, sharding
from aria.distill.engine.batch import Batch, Encodings, Images
from aria.distill.engine.batches import Source, State
from aria.distill.engine.learner import HALF, Learner, check_pair, compile_blocks, freeze, projections
from aria.distill.engine.moving_average import MovingAverage
from aria.distill.engine.plan import Plan, named
from aria.distill.engine.state import Part, TrainState, check_structure
from aria.distill.engine.tally import Tally
from aria.distill.engine.weights import Weights
from aria.distill.models.denoisers import Evaluate, keep_labels
from aria.distill.models.precision import cast, dtype_of
from aria.distill.objectives import Inputs, ModelOutput, Objective
from aria.distill.teachers.teacher import Teacher
from aria.interfaces import Certificate
from aria.samplers import Sampler, signals
from aria.samplers.draws import step_seed


class NonFiniteLoss(RuntimeError):
    """A loss or gradient is not finite.

    The step did not change the weights, and no checkpoint is written after it. Steps are functions of (seed, step), so
    the run resumed from its last checkpoint comes to the same place again: that is the state to look at.
    """


class Callback:
    """Called at the beginning, after every step and at the end of :meth:`Distiller.fit`; override what you need.

    ``distiller.step_count`` is the number of steps done. Setting ``distiller.stop`` ends the run after this step.
    """

    def begin(self, distiller: Distiller) -> None:
        """Before the first step."""

    def step(self, distiller: Distiller) -> None:
        """After every step. Reading values from the device here makes every step wait for it."""

    def end(self, distiller: Distiller) -> None:
        """After the last step, unless an error ended the run."""

    def close(self) -> None:
        """At the very end, after an error too: put back what was changed. It may come without ``begin``."""


class Distiller:
    """Trains a student to reproduce its teacher's outputs, on conditions that a sampler allocates.

    ``step`` is one optimiser step for people with a loop of their own; ``fit`` is ours.
    """

    def __init__(
        self,
        teacher: Teacher | Any,
        student: nn.Module,
        sampler: Sampler,
        images: Images,
        conditions: Encodings,
        plan: Plan | None = None,
        *,
        accelerator: Accelerator | None = None,
    ) -> None:
        """
        Args:
            teacher: a diffusers pipeline, or a :class:`Teacher`; it is frozen.
            student: the model to train.
            sampler: decides which conditions replace the images' own, and observes the discrepancies.
            images: the latents and their own conditions.
            conditions: the encoded pool.
            plan: what is trained, how and for how long.
            accelerator: precision and ranks; a plain one by default.
        """
        self.plan = plan = plan or Plan()
        self.accelerator = accelerator or Accelerator()
        self.device = self.accelerator.device
        self.sampler, self.student = sampler, student
        teacher = teacher if isinstance(teacher, Teacher) else Teacher.of(teacher)
        self.denoiser: Evaluate = teacher.denoiser
        self.prediction, self.component = teacher.prediction, teacher.component
        self.student_prediction = plan.student_prediction or self.prediction
        self.schedule = teacher.schedule.to(self.device)
        self.objective = named((*plan.objective, *(teacher.terms if teacher.plain else ())))
        checks.one_of("signal", plan.signal, tuple(self.objective))
        self.layers = check_pair(teacher, student, self.objective.values(), plan)
        self.source = Source(
            images,
            conditions,
            sampler,
            self.schedule,
            size=plan.samples,
            replacement=plan.replacement.over(self.schedule),
            null_probability=plan.null_probability,
            guidance=plan.guidance,
            timesteps=teacher.timesteps,
            on_policy=plan.on_policy,
            ahead=plan.ahead,
            seed=plan.seed,
            device=self.device,
        )
        self.flow = State()
        self._connect(teacher)
        if plan.compile:  # only now: nothing is compiled for the one sample with which both models were tried
            compile_blocks(student, teacher.model)
        self._prepare()
        self.step_count, self.stop, self.stopped_by = 0, False, 0

    # Set up -------------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Length of the run."""
        return self.plan.steps

    def _connect(self, teacher: Teacher) -> None:
        """Both models with the layers that are compared, tried on one sample."""
        pairs = [pair for layers in self.layers.values() for pair in layers]
        theirs, ours = [name for name, _ in pairs], [name for _, name in pairs]
        same = self.student_prediction == self.prediction
        convert = None if same else (self.schedule, self.student_prediction, self.prediction)
        model = freeze(teacher.model).to(self.device)
        half = HALF.get(str(self.accelerator.mixed_precision))
        self.teacher = Learner(teacher.evaluate or self.denoiser, cast(model, half) if half else model, theirs)
        for module in teacher.idle(self.student):
            module.requires_grad_(False)
        learner = Learner(self.denoiser, self.student.to(self.device), ours, convert=convert)
        teacher_features, student_features = self._features(self.teacher), self._features(learner)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step_seed(self.plan.seed, 0))  # every rank makes the same new layers
            made = projections(student_features, teacher_features, pairs)
        learner.projections = nn.ModuleList(made).to(self.device)
        self.learner: Any = learner
        self.level_weight = self.plan.weighting.table(self.schedule, self.prediction).to(self.device)  # (T,)

    def _features(self, learner: Learner) -> tuple[Tensor, ...]:
        """The tapped features of one sample; latents and conditions that do not fit the model are refused."""
        clean, _ = self.source.images.gather(torch.zeros(1, dtype=torch.long))
        noisy = clean.to(self.device, dtype_of(learner.model))
        condition = {name: value.to(self.device) for name, value in self.source.probe().items()}
        timestep = torch.zeros(1, dtype=torch.long, device=self.device)
        timestep = timestep if self.source.timesteps is None else self.source.timesteps[:1]
        try:
            with torch.no_grad():
                output, features = learner(noisy, timestep, condition)
        except RuntimeError as error:
            name, why = type(learner.model).__name__, str(error).split("\n")[0]
            raise ValueError(f"{name} does not take these latents and conditions: {why}") from error
        if output.shape != noisy.shape:
            shapes = f"{tuple(noisy.shape[1:])} with {tuple(output.shape[1:])}"
            raise ValueError(f"{type(learner.model).__name__} answers latents of shape {shapes}")
        return tuple(features)

    def _prepare(self) -> None:
        """Optimiser, learning rate, moving average; and the wrapping for precision and ranks."""
        plan = self.plan
        self.student.train()
        keep_labels(self.student)
        self._bare = self._shard() if plan.fsdp else None
        self.average = MovingAverage(self.student, plan.ema_decay) if plan.ema_decay else None
        self._trained = [value for value in self.learner.parameters() if value.requires_grad]
        if not self._trained:
            raise ValueError("the student has no parameter that trains: all have requires_grad=False")
        optimizer = optimiser.adamw(plan.optimiser, self._trained)
        self.learning_rate = optimiser.learning_rate(plan.optimiser, optimizer, plan.steps)
        # of a sharded student, precision alone is left to wrap
        self.learner = self.accelerator.prepare_model(self.learner, evaluation_mode=plan.fsdp)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self._random_layers = any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in self.student.modules())
        self._fault = signals.no_fault(self.device)
        self.tally = Tally(self.sampler.num_regions, self.objective, self.accelerator)

    def _shard(self) -> nn.Module:
        """Shard the student across ranks; returns its structure without weights."""
        sharding.check(self.accelerator)
        bare = sharding.without_weights(self.student)
        sharding.shard(self.learner, self.student, self.device)
        return bare

    # Save ---------------------------------------------------------------------------------------------------------

    def state(self) -> TrainState:
        """Everything a resumed run needs to continue bit for bit. A new stateful object is one line here."""
        averaged = {}
        if self.average is not None:
            averaged["ema"] = Weights(f"{self.component}_ema", self.student, self.whole_student, self.average)
        scaler, scaled = self.accelerator.scaler, {}
        if scaler is not None:
            scaled["scaler"] = Part(scaler.state_dict, self._load_scaler)
        return {
            "student": Weights(self.component, self.student, self.whole_student),
            **averaged,
            "projections": sharding.Sharded(self.accelerator.unwrap_model(self.learner).projections),
            "optimiser": optimiser.Optimiser(self.optimizer.optimizer, self.learning_rate),
            **scaled,
            "sampler": self.sampler,
            "source": Part(self._pack_flow, self._unpack_flow),
            "tally": self.tally,
            "progress": Part(lambda: {"step": self.step_count}, self._continue_at),
        }

    def _load_scaler(self, state: Any) -> None:
        check_structure("scaler", dict(state), self.accelerator.scaler.state_dict())
        self.accelerator.scaler.load_state_dict(state)

    def _pack_flow(self) -> dict[str, Tensor]:
        return self.source.pack(self.flow, self.accelerator.gather)

    def _unpack_flow(self, state: Any) -> None:
        self.flow = self.source.unpack(state)

    def _continue_at(self, state: Any) -> None:
        if not 0 <= state["step"] <= self.steps:
            raise InvalidSetting(
                "max_train_steps",
                "range",
                f"it was written at step {state['step']}, beyond max_train_steps={self.steps}: no run gets shorter",
            )
        self.step_count = state["step"]

    # Train --------------------------------------------------------------------------------------------------------

    def fit(self, callbacks: Sequence[Callback] = ()) -> None:
        """Train until ``steps``, or until a callback sets ``stop``."""
        self.stop, self.stopped_by = False, 0
        try:
            for callback in callbacks:
                callback.begin(self)
            while self.step_count < self.steps and not self.stop:
                self.step()
                for callback in callbacks:
                    callback.step(self)
            for callback in callbacks:
                callback.end(self)
        finally:
            for callback in callbacks:
                callback.close()

    def step(self) -> None:
        """One optimiser step; nothing on the way waits for the device."""
        batch, pending = self.source.next(self.flow)
        parts = enumerate(self._parts(batch), 1)
        losses, outputs = zip(*(self._backward(part, last=n == self.plan.accumulation) for n, part in parts))
        self.flow = self.source.advance(pending, torch.cat(outputs), self.prediction)
        self._observe(batch, {name: torch.cat([part[name] for part in losses]) for name in self.objective})
        self._update()
        self.step_count += 1

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """The batch pass by pass. Dropout is seeded for each pass by (seed, step, place).

        The place is the pass's number among all passes of the step on all ranks, so that what is dropped depends on the
        size of a pass only.
        """
        first = self.accelerator.process_index * self.plan.accumulation
        for place, part in enumerate(batch.parts(self.plan.accumulation), first):
            if self._random_layers:
                torch.manual_seed(step_seed(step_seed(self.plan.seed, self.step_count), place))
            yield part

    def _backward(self, batch: Batch, *, last: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Per-sample losses by term and the student's output; gradients are accumulated."""
        with nullcontext() if last else self.accelerator.no_sync(self.learner):
            teacher, student = self.outputs(batch)
            losses = self.compare(batch, teacher, student)
            total = (batch.weight * self.total(losses, batch.timestep)).mean() / self.plan.accumulation
            self.accelerator.backward(total * self.accelerator.gradient_accumulation_steps)  # which it divides by
        return {name: value.detach() for name, value in losses.items()}, student.output.detach()

    def outputs(self, batch: Batch) -> tuple[ModelOutput, ModelOutput]:
        """The outputs of teacher and student for a batch."""
        with torch.no_grad(), self.accelerator.autocast():
            teacher = ModelOutput(*self.teacher(batch.noisy, batch.timestep, batch.condition))
        return teacher, ModelOutput(*self.learner(batch.noisy, batch.timestep, batch.condition))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """(B,) loss of each sample, by term."""
        return self.compare(batch, *self.outputs(batch))

    def compare(self, batch: Batch, teacher: ModelOutput, student: ModelOutput) -> dict[str, Tensor]:
        """(B,) loss of each sample, given the outputs of both models, by term."""
        latents = batch.clean, batch.noise, batch.noisy
        inputs = Inputs(*latents, batch.timestep, batch.own, self.schedule, self.prediction)
        losses, first = {}, 0
        for name, term in self.objective.items():
            layers = slice(first, first := first + len(self.layers[name]))
            losses[name] = _per_sample(term, term(inputs, _of(teacher, layers), _of(student, layers)), batch.timestep)
        return losses

    def total(self, losses: dict[str, Tensor], timestep: Tensor) -> Tensor:
        """(B,) weighted sum of the terms."""
        level = self.level_weight[timestep]  # (B,)
        parts = [
            term.weight * losses[name] * (level if term.by_level else 1.0) for name, term in self.objective.items()
        ]
        return torch.stack(parts).sum(0)

    def _observe(self, batch: Batch, losses: dict[str, Tensor]) -> None:
        """Report the discrepancies to the sampler, and count them for the log."""
        signal = losses[self.plan.signal]
        finite = torch.stack(list(losses.values())).isfinite().all(0)  # (B,)
        self._fault = signals.record_fault(self._fault, finite, batch.region, self.step_count)
        own_only = self.objective[self.plan.signal].matched_only
        counted = finite & (batch.own if own_only else ~batch.null)
        moved = self.sampler.observe(
            batch.region,
            torch.where(counted, signal, 0.0),
            timestep=batch.timestep if self.sampler.normaliser else None,
            where=counted,
            # images' own conditions do not depend on the draw: what is observed of them alone is visited for certain
            visit=torch.ones_like(self.sampler.mass) if own_only else batch.visit,
        )
        self.tally.add(batch.region, signal, counted, losses)
        if moved:
            self.tally.add_update(self.sampler.visited)

    def _update(self) -> None:
        """Clip, step, average. Where a gradient is not finite the weights stay as they are."""
        norm = sharding.whole(self.accelerator.clip_grad_norm_(self._trained, self.plan.optimiser.max_grad_norm))
        if self.accelerator.scaler is None:  # a scaler tries scales that overflow, and skips those steps itself
            fine, nowhere = norm.isfinite(), torch.full((1,), -1, device=self.device)
            self._fault = signals.record_fault(self._fault, fine.view(1), nowhere, self.step_count)
            self.optimizer.optimizer.found_inf = (~fine).float()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.learning_rate.step()
        if self.average is not None:
            self.average.update(self.student)

    # Look ---------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise if anything was not finite since the start; looks at the device."""
        count, step, region = self._fault.tolist()
        if count:
            where = f"on a sample of region {region}" if region >= 0 else "in the gradient"
            raise NonFiniteLoss(
                f"the loss is not finite at step {step}, {where}; nothing was saved since, so the same command comes "
                "to the same step again: look at the learning rate and the data"
            )

    def averaged(self) -> AbstractContextManager[None]:
        """Within it the student has its averaged weights, where there are any."""
        return nullcontext() if self.average is None else self.average.in_place_of(self.student)

    def whole_student(self) -> Any:
        """The student with its current weights; a sharded one is gathered on the CPU of the first rank.

        Collective: every rank calls it, and a sharded student is None on all but the first.
        """
        if self._bare is None:
            return self.student
        return sharding.gather(self._bare, self.student, keep=self.accelerator.is_main_process)

    def certificate(self) -> Certificate | None:
        """The tracker's a-priori error as the next steps use it: what is drawn ahead, or held for some steps, is
        decided on older estimates. The noise is that of independent samples, which a held condition's are not quite.

        Lags are in updates of the tracker, of which the sampler makes one in ``every`` steps.
        """
        known = self.sampler.certificate()
        if known is None:
            return None
        return known._replace(lag=known.lag + (self.source.delay) / self.sampler.every)


def _per_sample(term: Objective, loss: Tensor, like: Tensor) -> Tensor:
    """(B,) what a term returned, which may be somebody's own."""
    if not isinstance(loss, Tensor) or loss.shape != like.shape or not loss.is_floating_point():
        got = f"{loss.dtype} {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"{type(term).__name__} must return one loss per sample, ({len(like)},) floats, got {got}")
    return loss


def _of(answer: ModelOutput, layers: slice) -> ModelOutput:
    return ModelOutput(answer.output, answer.features[layers])
