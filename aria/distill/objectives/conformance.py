"""The public conformance check of objectives: what the engine relies on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from aria.distill.models.schedule import NoiseSchedule
from aria.distill.objectives.base import Answer, Objective, Shown

BATCH, LATENT, LAYER = 6, (4, 8, 8), (16, 4, 4)
"""Samples, the shape of each latent, and that of each layer's feature."""
STEPS = 1000

Part = TypeVar("Part", Shown, Answer)


def check_objective(objective: Objective, seed: int = 0) -> None:
    """Raise AssertionError, in one sentence, at the first promise of :class:`aria.distill.objectives.Objective` that is
    broken: one finite loss per sample, of that sample alone, from which the student learns, on any device.

    >>> from aria.distill.objectives import Output
    >>> check_objective(Output())
    """
    if not isinstance(objective, Objective):
        raise AssertionError(f"{objective!r} is no instance of Objective: give an instance, not a class")
    layers = len(objective.pairs([("first", "first"), ("second", "second")]))
    arguments = shown, teacher, student = _example(torch.Generator().manual_seed(seed), layers)
    before = [part.detach().clone() for part in _tensors(*arguments)]
    loss = objective(*arguments)
    _require(isinstance(loss, Tensor), objective, f"returned a {type(loss).__name__} instead of a tensor")
    _require(loss.shape == (BATCH,), objective, f"must return one loss per sample, ({BATCH},), got {tuple(loss.shape)}")
    _require(loss.is_floating_point(), objective, f"returned losses of type {loss.dtype}, not floating")
    _require(bool(loss.isfinite().all()), objective, "returned a loss that is not finite for finite outputs")
    _require(all(map(torch.equal, before, _tensors(*arguments))), objective, "changed its inputs in place")
    _require(torch.equal(loss, objective(*arguments)), objective, "returned different losses for the same inputs")
    _teaches(objective, student, loss)
    order = torch.arange(BATCH).flip(0)[: BATCH // 2]

    def turn(tensor: Tensor) -> Tensor:
        return tensor[order]

    turned = objective(_map(shown, turn), _map(teacher, turn), _map(student, turn))
    alike = torch.allclose(turned, loss[order], rtol=1e-4, atol=1e-6)
    _require(alike, objective, "gives a sample another loss in another batch, or at another place in it")
    _honours_device(objective, arguments)


def _require(condition: bool, objective: Objective, sentence: str) -> None:
    if not condition:
        raise AssertionError(f"{objective!r} {sentence}")


def _example(random: torch.Generator, layers: int) -> tuple[Shown, Answer, Answer]:
    """A batch of matched latents and two outputs that differ."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, generator=random)

    signal = torch.linspace(0.9999, 0.01, STEPS)
    schedule = NoiseSchedule(signal.sqrt(), (1 - signal).sqrt())
    clean, noise = normal(*LATENT), normal(*LATENT)
    timestep = torch.randint(0, STEPS, (BATCH,), generator=random)
    noisy = schedule.add_noise(clean, noise, timestep)
    shown = Shown(clean, noise, noisy, timestep, torch.ones(BATCH, dtype=torch.bool), schedule, "epsilon")
    theirs, ours = (Answer(normal(*LATENT), tuple(normal(*LAYER) for _ in range(layers))) for _ in range(2))
    for tensor in (ours.output, *ours.features):
        tensor.requires_grad_()
    return shown, theirs, ours


def _map(part: Part, change: Callable[[Tensor], Tensor]) -> Part:
    """The same with every (B, …) tensor changed."""
    if isinstance(part, Answer):
        return Answer(change(part.output), tuple(map(change, part.features)))
    clean, noise, noisy = map(change, (part.clean, part.noise, part.noisy))
    time, matched = change(part.timestep), change(part.matched)
    return dataclasses.replace(part, clean=clean, noise=noise, noisy=noisy, timestep=time, matched=matched)


def _tensors(shown: Shown, *answers: Answer) -> list[Tensor]:
    outputs = [tensor for answer in answers for tensor in (answer.output, *answer.features)]
    return [shown.clean, shown.noise, shown.noisy, shown.timestep, *outputs]


def _teaches(objective: Objective, student: Answer, loss: Tensor) -> None:
    outputs = [student.output, *student.features]
    slopes = torch.autograd.grad(loss.sum(), outputs, allow_unused=True) if loss.requires_grad else ()
    learns = any(slope is not None and bool(slope.ne(0).any()) for slope in slopes)
    _require(learns, objective, "has no gradient with respect to the student's output and features")


def _honours_device(objective: Objective, arguments: tuple[Shown, Answer, Answer]) -> None:
    """On the meta device tensors have no values, so anything that looks at one raises, as it would stall a GPU."""
    def away(tensor: Tensor) -> Tensor:
        return tensor.to("meta")

    shown, teacher, student = arguments
    shown = dataclasses.replace(_map(shown, away), schedule=shown.schedule.to("meta"))
    try:
        loss = objective(shown, _map(teacher, away), _map(student, away))
    except (RuntimeError, NotImplementedError) as error:
        raise AssertionError(f"{objective!r} looks at values or leaves the device it was given: {error}") from None
    _require(loss.is_meta, objective, "does not return its losses on the device it was given")
