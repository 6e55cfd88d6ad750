r"""Step halving: the student learns to do in one deterministic step what its teacher does in two.

From :math:`z_t` the teacher's two DDIM steps lead to :math:`z''`. The student's one step ends at the noise level
:math:`(\alpha_s, \sigma_s)`, so it leads there too if the student predicts the image and the noise that solve

.. math:: \alpha_t x + \sigma_t\epsilon = z_t, \qquad \alpha_s x + \sigma_s\epsilon = z'' ,

which are its target (T. Salimans, J. Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022).
Steps and levels are those of diffusers' ``DDIMScheduler``, in which a step does not end at exactly the level where the
next one begins. The target is still exact, because it is solved at the level where the student's own step ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from aria import checks
from aria.distill.models.denoisers import Condition, Evaluate
from aria.distill.models.schedule import STEEPEST, NoiseSchedule
from aria.distill.teachers.teacher import Teacher

DDIM_PREDICTIONS = ("v_prediction", "sample", "epsilon")
"""The prediction types that DDIM supports, and therefore those of a student with halved steps."""


def deterministic(scheduler: Any) -> DDIMScheduler:
    """The scheduler for halving a pipeline's steps, and for the finished student: DDIM over the same noise levels.

    Its timestep spacing is ``trailing``: any number of steps begins at the noisiest timestep, and half as many steps
    use every second timestep.
    """
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(f"steps of a {type(scheduler).__name__} cannot be halved: it has no alphas_cumprod")
    changes = {"timestep_spacing": "trailing", "clip_sample": False, "thresholding": False}
    made: DDIMScheduler = DDIMScheduler.from_config(scheduler.config, **changes)
    same = made.alphas_cumprod.shape == scheduler.alphas_cumprod.shape
    if not (same and torch.allclose(made.alphas_cumprod, scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7)):
        raise ValueError(f"DDIM cannot walk the noise levels of this {type(scheduler).__name__}")
    return made


@dataclass(frozen=True, eq=False)
class Walk:
    """The timesteps at which DDIM evaluates the model in a number of steps, and the level where each step ends."""

    schedule: NoiseSchedule
    """Noise levels at which the model is evaluated."""
    landing: NoiseSchedule
    """The noise level at which a step from each timestep ends."""
    timesteps: Tensor
    """(n,) timesteps, noisiest first."""

    @classmethod
    def of(cls, scheduler: DDIMScheduler, steps: int) -> Walk:
        """The walk of ``steps`` steps."""
        total = scheduler.config.num_train_timesteps
        if not 1 <= steps <= total:
            raise ValueError(f"a schedule of {total} timesteps cannot be walked in {steps} steps")
        fresh = DDIMScheduler.from_config(scheduler.config)
        fresh.set_timesteps(steps)
        before = torch.arange(total) - total // steps
        levels = fresh.alphas_cumprod
        signal = torch.where(before >= 0, levels[before.clamp(min=0)], fresh.final_alpha_cumprod).double()
        landing = NoiseSchedule(signal.sqrt().float(), (1 - signal).sqrt().float())
        return cls(NoiseSchedule.of(fresh), landing, fresh.timesteps)

    def to(self, device: torch.device) -> Walk:
        """The same walk on ``device``."""
        return Walk(self.schedule.to(device), self.landing.to(device), self.timesteps.to(device))

    def step(self, output: Tensor, prediction: str, noisy: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) the latents after one step from ``noisy``."""
        clean = self.schedule.clean(output, prediction, noisy, timestep)
        noise = self.schedule.noise(output, prediction, noisy, timestep)
        return self.landing.add_noise(clean, noise, timestep)

    def output(self, landed: Tensor, prediction: str, noisy: Tensor, timestep: Tensor) -> Tensor:
        """(B, …) the inverse of :meth:`step`: the output with which the step from ``noisy`` leads to ``landed``."""
        alpha, sigma = self.schedule.levels(timestep, noisy)
        alpha_s, sigma_s = self.landing.levels(timestep, noisy)
        area = sigma * alpha_s - sigma_s * alpha  # positive, since a step removes noise
        clean, noise = (sigma * landed - sigma_s * noisy) / area, (alpha_s * noisy - alpha * landed) / area
        return self.schedule.target(prediction, clean, noise, timestep)


class TwoSteps:
    """Takes two steps with a model and returns the output with which one student step leads to the same latents."""

    def __init__(self, evaluate: Evaluate, prediction: str, student_prediction: str, two: Walk, one: Walk) -> None:
        """``prediction`` is the model's prediction type, ``student_prediction`` the output's; ``two`` has twice as many
        steps as ``one``."""
        self.evaluate, self.prediction, self.student_prediction = evaluate, prediction, student_prediction
        self.two, self.one = two, one
        self.then = torch.zeros(len(two.schedule), dtype=torch.long)  # (T,) the next timestep of ``two``
        self.then[two.timesteps[:-1]] = two.timesteps[1:]

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """(B, …) target outputs of the student at ``timestep`` (B,), which must be timesteps of ``one``."""
        if self.then.device != noisy.device:
            self.two, self.one = self.two.to(noisy.device), self.one.to(noisy.device)
            self.then = self.then.to(noisy.device)
        begun, then = noisy.float(), self.then[timestep]
        output = self.evaluate(model, noisy, timestep, condition).float()
        midway = self.two.step(output, self.prediction, begun, timestep)
        output = self.evaluate(model, midway.to(noisy.dtype), then, condition).float()
        landed = self.two.step(output, self.prediction, midway, then)
        return self.one.output(landed, self.student_prediction, begun, timestep)


def halved(teacher: Teacher, scheduler: Any, steps: int, *, prediction: str | None = None) -> Teacher:
    """A teacher for a student with ``steps / 2`` sampling steps, from one with ``steps``.

    ``scheduler`` must come from :func:`deterministic`; ``prediction`` is the student's prediction type, if it differs
    from the teacher's.
    """
    student_prediction = prediction or teacher.prediction
    two, one = walks(scheduler, steps)
    for name, kind, walk in (("the teacher", teacher.prediction, two), ("the student", student_prediction, one)):
        check_prediction(name, kind, walk)
    evaluate = TwoSteps(teacher.evaluate or teacher.denoiser, teacher.prediction, student_prediction, two, one)
    return replace(teacher, evaluate=evaluate, prediction=student_prediction, timesteps=one.timesteps, plain=False)


def walks(scheduler: Any, steps: int) -> tuple[Walk, Walk]:
    """The teacher's walk of ``steps`` steps, and the student's of half as many, on every second timestep."""
    checks.whole("halve_from", steps, least=2)
    if not (isinstance(scheduler, DDIMScheduler) and scheduler.config.timestep_spacing == "trailing"):
        name = type(scheduler).__name__
        raise ValueError(f"steps of this {name} cannot be halved as they are: use halving.deterministic(scheduler)")
    two = Walk.of(scheduler, steps)
    one = Walk.of(scheduler, steps // 2)
    if steps % 2 or len(two.timesteps) != steps or not torch.equal(two.timesteps[::2], one.timesteps):
        raise ValueError(f"{steps} steps cannot be halved: half as many do not lie among them; 16, 8, 4 and 2 can be")
    return two, one


def check_prediction(name: str, prediction: str, walk: Walk) -> None:
    """Refuse noise predictions at levels of almost pure noise, where they do not determine the image."""
    checks.one_of(f"what {name} of a halving predicts", prediction, DDIM_PREDICTIONS)
    if prediction != "epsilon":
        return
    ratio = (walk.schedule.sigma / walk.schedule.alpha)[walk.timesteps]  # (n,)
    if bool((ratio > STEEPEST).any()):
        timestep = int(walk.timesteps[ratio.argmax()])
        setting = "student_prediction v_prediction"
        cure = f"give it {setting}" if "student" in name else f"first distil a student of {setting}, and halve that"
        raise ValueError(
            f"{name} predicts the noise, which at timestep {timestep} does not determine the image: it would be "
            f"{float(ratio.max()):.3g} times as wrong; {cure}"
        )
