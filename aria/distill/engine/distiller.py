"""The distillation engine: one loop, read top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from aria import checks, registry
from aria.distill.engine import optimiser as optimiser_module
from aria.distill.engine import sharding
from aria.distill.engine.batches import Batch, Batches, Encodings, Images
from aria.distill.engine.learner import HALF, Learner, compile_blocks, freeze, projections, same_latents
from aria.distill.engine.moving_average import MovingAverage
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.engine.replacement import Replacement
from aria.distill.engine.tally import Tally
from aria.distill.models.denoisers import Ask, keep_labels
from aria.distill.objectives import Answer, Objective, Pairs, Shown, Weighting
from aria.distill.settings.choices import PREDICTIONS
from aria.distill.settings.config import AdamW
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
        """After every step. Do not look at the device here more often than you must."""

    def end(self, distiller: Distiller) -> None:
        """After the last step, unless an error ended the run."""

    def close(self) -> None:
        """At the very end, after an error too: put back what was changed. It may come without ``begin``."""


class Distiller:
    """Trains a student to answer as its teacher does, on conditions that a sampler allocates.

    ``step`` is one optimiser step for people with a loop of their own; ``fit`` is ours.
    """

    def __init__(
        self,
        teacher: Teacher | Any,
        student: nn.Module,
        sampler: Sampler,
        images: Images,
        conditions: Encodings,
        *,
        objective: Sequence[Objective | str] = ("output",),
        weighting: Weighting | str = "uniform",
        signal: str | None = None,
        replacement: Replacement | str = "exponential",
        null_probability: float = 0.1,
        student_prediction: str | None = None,
        guidance: tuple[float, float] | None = None,
        on_policy: OnPolicy | None = None,
        pairs: Pairs = (),
        optimiser: AdamW | None = None,
        steps: int = 1000,
        batch_size: int = 16,
        accumulation: int = 1,
        ema_decay: float = 0.9999,
        ahead: int = 0,
        seed: int = 0,
        fsdp: bool = False,
        compiled: bool = False,
        accelerator: Accelerator | None = None,
    ) -> None:
        """
        Args:
            teacher: a diffusers pipeline, or a :class:`Teacher`; it is frozen.
            student: the model to train.
            sampler: decides which conditions replace the images' own, and is told the discrepancies.
            images: the latents and their own conditions.
            conditions: the encoded pool.
            objective: terms of the loss, or their specs.
            weighting: how much each noise level counts in the terms on outputs.
            signal: the term whose loss the sampler is told; the first by default.
            replacement: how often the own condition is replaced, by timestep.
            null_probability: how often a condition is then replaced by the null condition.
            student_prediction: what the student predicts, if something else than the teacher.
            guidance: the least and the largest guidance scale, where both models are told one as ``"guidance"``.
            on_policy: rows of every batch whose images the student makes; none by default.
            pairs: layers the feature objective compares unless it names its own.
            optimiser: settings of AdamW and its learning rate.
            steps: length of the run, which some learning rate schedules need.
            batch_size: samples of one rank in one forward pass.
            accumulation: forward passes in one step.
            ema_decay: of the moving average of the student's weights; 0 keeps none.
            ahead: steps drawn ahead, so that conditions on disk are read behind the running step.
            seed: of everything random but the sampler, which has its own.
            fsdp: divide the student, its gradients and the optimiser's memory among the ranks.
            compiled: compile the blocks that both models repeat.
            accelerator: precision and ranks; a plain one by default.
        """
        checks.whole("steps", steps, least=1)
        checks.whole("batch_size", batch_size, least=1)
        checks.whole("accumulation", accumulation, least=1)
        self.accelerator = accelerator or Accelerator()
        self.device = self.accelerator.device
        self.sampler, self.steps, self.seed = sampler, steps, seed
        self.accumulation, self.batch_size = accumulation, batch_size
        teacher = teacher if isinstance(teacher, Teacher) else Teacher.of(teacher)
        self.denoiser: Ask = teacher.denoiser
        self.prediction, self.component = teacher.prediction, teacher.component
        self.schedule = teacher.schedule.to(self.device)
        terms = [registry.resolve(term, Objective) for term in objective]
        self.objective = _named([*terms, *(teacher.terms if teacher.plain else ())])
        self.signal = signal if signal is not None else next(iter(self.objective))
        checks.one_of("signal", self.signal, tuple(self.objective))
        self.weighting = registry.resolve(weighting, Weighting)
        self.replacement = registry.resolve(replacement, Replacement)
        self.optimiser = optimiser or AdamW()
        self.batches = Batches(
            images,
            conditions,
            sampler,
            self.schedule,
            size=batch_size * accumulation,
            replacement=self.replacement.over(self.schedule),
            null_probability=null_probability,
            guidance=guidance,
            timesteps=teacher.timesteps,
            on_policy=on_policy,
            ahead=ahead,
            seed=seed,
            device=self.device,
        )
        self.student = student
        self.student_prediction = student_prediction or self.prediction
        self._compare(teacher, pairs, self.student_prediction)
        if compiled:  # only now: nothing is made for the one sample with which both models were tried
            compile_blocks(student, teacher.model)
        self._prepare(ema_decay, fsdp)
        self.step_count = 0

    # Set up -------------------------------------------------------------------------------------------------------

    def _compare(self, teacher: Teacher, pairs: Pairs, student_prediction: str) -> None:
        """Both models with the layers that are compared, tried once so that what does not fit is said now."""
        same_latents(teacher.model, self.student)
        if self.batches.guidance is not None and not getattr(self.denoiser, "takes_guidance", True):
            raise ValueError(f"{type(self.student).__name__} cannot take the guidance scale as an input")
        if not teacher.plain:
            self._only_outputs()
        self.layers = {name: term.pairs(pairs) for name, term in self.objective.items()}
        self.pairs = tuple(pair for layers in self.layers.values() for pair in layers)
        names = [name for name, _ in self.pairs], [name for _, name in self.pairs]
        checks.one_of("student_prediction", student_prediction, PREDICTIONS)
        self.schedule.check_conversion(student_prediction, self.prediction)
        same = student_prediction == self.prediction
        convert = None if same else (self.schedule, student_prediction, self.prediction)
        model = freeze(teacher.model).to(self.device)
        half = HALF.get(str(self.accelerator.mixed_precision))
        self.teacher = Learner(teacher.ask or self.denoiser, model.to(half) if half else model, names[0])
        learner = Learner(self.denoiser, self.student.to(self.device), names[1], convert=convert)
        theirs, ours = self._features(self.teacher), self._features(learner)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step_seed(self.seed, 0))  # every rank makes the same new layers
            learner.projections = nn.ModuleList(projections(ours, theirs, self.pairs)).to(self.device)
        self.learner: Any = learner
        self.level_weight = self.weighting.table(self.schedule, self.prediction).to(self.device)  # (T,)

    def _only_outputs(self) -> None:
        """Refuse terms that have no meaning where the teacher's answer is more than one look at what is shown."""
        for term in self.objective.values():
            term.check_asked_twice()

    def _features(self, learner: Learner) -> tuple[Tensor, ...]:
        null = self.batches.probe()
        clean, _ = self.batches.images.gather(torch.zeros(1, dtype=torch.long))
        noisy = clean.to(self.device, next(learner.model.parameters()).dtype)
        told = {name: value.to(self.device) for name, value in null.items()}
        timestep = torch.zeros(1, dtype=torch.long, device=self.device)
        timestep = timestep if self.batches.timesteps is None else self.batches.timesteps[:1]
        try:
            with torch.no_grad():
                output, features = learner(noisy, timestep, told)
        except RuntimeError as error:
            name, why = type(learner.model).__name__, str(error).split("\n")[0]
            raise ValueError(f"{name} does not take these latents and conditions: {why}") from error
        if output.shape != noisy.shape:
            shapes = f"{tuple(noisy.shape[1:])} with {tuple(output.shape[1:])}"
            raise ValueError(f"{type(learner.model).__name__} answers latents of shape {shapes}")
        return tuple(features)

    def _prepare(self, ema_decay: float, fsdp: bool) -> None:
        """Optimiser, learning rate, moving average; and the wrapping for precision and ranks."""
        self.student.train()
        keep_labels(self.student)
        self._bare = self._shard() if fsdp else None
        self.average = MovingAverage(self.student, ema_decay) if ema_decay else None
        trained = [value for value in self.learner.parameters() if value.requires_grad]
        if not trained:
            raise ValueError("the student has no parameter that trains: all have requires_grad=False")
        optimizer = optimiser_module.adamw(self.optimiser, trained)
        self.learning_rate = optimiser_module.learning_rate(self.optimiser, optimizer, self.steps)
        # of a divided student, precision alone is left to wrap
        self.learner = self.accelerator.prepare_model(self.learner, evaluation_mode=fsdp)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self._trained = trained
        self._random_layers = any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in self.student.modules())
        self._fault = signals.no_fault(self.device)
        self.tally = Tally(self.sampler.num_regions, self.objective, self.accelerator)

    def _shard(self) -> nn.Module:
        """Divide the student among the ranks; what is left of it without weights."""
        sharding.check(self.accelerator)
        bare = sharding.skeleton(self.student)
        sharding.shard(self.learner, self.student, self.device)
        return bare

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
        batch = self.batches.next()
        done = [self._backward(part, last=n == self.accumulation) for n, part in enumerate(self._parts(batch), 1)]
        losses, outputs = zip(*done)
        self.batches.remember(batch, torch.cat(outputs), self.prediction)
        self._observe(batch, {name: torch.cat([part[name] for part in losses]) for name in self.objective})
        self._update()
        self.step_count += 1

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """The batch pass by pass; random layers begin each with numbers of its own, a function of (seed, step, place).

        Its place among all passes of the step, on whichever rank: what is dropped depends on the size of a pass alone.
        """
        first = self.accelerator.process_index * self.accumulation
        for place, part in enumerate(batch.parts(self.accumulation), first):
            if self._random_layers:
                torch.manual_seed(step_seed(step_seed(self.seed, self.step_count), place))
            yield part

    def _backward(self, batch: Batch, *, last: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Per-sample losses by term and the student's answer; gradients are added to those before."""
        with nullcontext() if last else self.accelerator.no_sync(self.learner):
            theirs, ours = self.answers(batch)
            losses = self.judge(batch, theirs, ours)
            total = (batch.weight * self.total(losses, batch.timestep)).mean() / self.accumulation
            self.accelerator.backward(total * self.accelerator.gradient_accumulation_steps)  # which it divides by
        return {name: value.detach() for name, value in losses.items()}, ours.output.detach()

    def answers(self, batch: Batch) -> tuple[Answer, Answer]:
        """What teacher and student say to a batch."""
        with torch.no_grad(), self.accelerator.autocast():
            theirs = Answer(*self.teacher(batch.noisy, batch.timestep, batch.condition))
        return theirs, Answer(*self.learner(batch.noisy, batch.timestep, batch.condition))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """(B,) loss of each sample, by term."""
        return self.judge(batch, *self.answers(batch))

    def judge(self, batch: Batch, theirs: Answer, ours: Answer) -> dict[str, Tensor]:
        """(B,) loss of each of these answers, by term."""
        shown = Shown(batch.clean, batch.noise, batch.noisy, batch.timestep, batch.own, self.schedule, self.prediction)
        losses, first = {}, 0
        for name, term in self.objective.items():
            layers = slice(first, first := first + len(self.layers[name]))
            losses[name] = _per_sample(term, term(shown, _of(theirs, layers), _of(ours, layers)), batch.timestep)
        return losses

    def total(self, losses: dict[str, Tensor], timestep: Tensor) -> Tensor:
        """(B,) weighted sum of the terms."""
        level = self.level_weight[timestep]  # (B,)
        parts = [
            term.weight * losses[name] * (level if term.by_level else 1.0) for name, term in self.objective.items()
        ]
        return torch.stack(parts).sum(0)

    def _observe(self, batch: Batch, losses: dict[str, Tensor]) -> None:
        """Tell the sampler what was seen, and keep count of it for the log."""
        signal = losses[self.signal]
        finite = torch.stack(list(losses.values())).isfinite().all(0)  # (B,)
        self._fault = signals.record_fault(self._fault, finite, batch.region, self.step_count)
        told = finite & (batch.own if self.objective[self.signal].matched_only else ~batch.null)
        timestep = batch.timestep if self.sampler.normaliser else None
        before = self.sampler.updates
        self.sampler.observe(batch.region, torch.where(told, signal, 0.0), timestep=timestep, where=told)
        self.tally.add(batch.region, signal, told, losses)
        if self.sampler.updates > before:
            self.tally.add_update(self.sampler.visited)

    def _update(self) -> None:
        """Clip, step, average. Where a gradient is not finite the weights stay as they are."""
        norm = sharding.whole(self.accelerator.clip_grad_norm_(self._trained, self.optimiser.max_grad_norm))
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
        """The student with the weights it has now; one that is divided is put together, for the first rank, on the CPU.

        Every rank must ask; on the others a divided student is None.
        """
        if self._bare is None:
            return self.student
        return sharding.put_together(self._bare, self.student, keep=self.accelerator.is_main_process)

    def certificate(self) -> Certificate | None:
        """The tracker's a-priori error as the next steps use it: what is drawn ahead, or held for some steps, is
        decided on older estimates. The noise is that of independent samples, which a held condition's are not quite.

        Lags are in updates of the tracker, of which the sampler makes one in ``every`` steps.
        """
        known = self.sampler.certificate()
        if known is None:
            return None
        return known._replace(lag=known.lag + (self.batches.ahead + self.batches.held_for) / self.sampler.every)


def _named(terms: Sequence[Objective]) -> dict[str, Objective]:
    """The terms by the name of their class, as specs write it."""
    named = {registry.spec(term).split("(")[0].split(":")[-1].lower(): term for term in terms}
    if len(named) != len(terms) or not terms:
        told = ", ".join(map(registry.spec, terms)) or "none"
        raise ValueError(f"an objective is one or more different terms, got {told}")
    return named


def _per_sample(term: Objective, loss: Tensor, like: Tensor) -> Tensor:
    """(B,) what a term returned, which may be somebody's own."""
    if not isinstance(loss, Tensor) or loss.shape != like.shape or not loss.is_floating_point():
        got = f"{loss.dtype} {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"{type(term).__name__} must return one loss per sample, ({len(like)},) floats, got {got}")
    return loss


def _of(answer: Answer, layers: slice) -> Answer:
    return Answer(answer.output, answer.features[layers])
