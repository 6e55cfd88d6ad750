"""The public conformance check of adapters: what they pass to a model and read from it is what its pipeline does."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers.base import Condition, Denoiser
from aria.distill.models.denoisers.guidance import GUIDANCE, is_open

TEXTS = ("a red cat", "a dog in the snow", "an old house by the sea")
STEPS, SCALE = 3, 3.0
"""Of the generations that are compared; each is also made without guidance."""
TOLERANCE = 1e-4
"""The largest difference of equal tensors, relative to the largest value: what float32 leaves between batches."""


def check_denoiser(
    denoiser: Denoiser,
    pipeline: Any,
    texts: Sequence[str] = TEXTS,
    seed: int = 0,
    *,
    resolution: int | None = None,
    frames: int | None = None,
) -> None:
    """Raise AssertionError, in one sentence, at the first promise of :class:`Denoiser` that is broken on ``pipeline``.

    Conditions and outputs belong to their own row; latents, after every step of a denoising loop written with the
    adapter, are those of the pipeline, without guidance and with it, for its own encoding of ``texts`` and of no text;
    features, latents and images have the shapes and types that the engine relies on.

    The pipeline should be a tiny one, in float32 and evaluation mode, whose parameters are random: where they begin as
    zeros, conditions have no effect and a fault in them cannot be seen. Images have the pipeline's own size unless
    ``resolution`` is given, in pixels a side, and videos its own length unless ``frames`` are.

    >>> from aria.distill.models import denoisers
    >>> check_denoiser(denoisers.DiT, None)
    Traceback (most recent call last):
    ...
    AssertionError: <class 'aria.distill.models.denoisers.dit.DiT'> is no instance of Denoiser: give an instance
    """
    if not isinstance(denoiser, Denoiser):
        raise AssertionError(f"{denoiser!r} is no instance of Denoiser: give an instance")
    _usable(denoiser, pipeline, texts)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        check = _Check(denoiser, pipeline, list(texts), seed, resolution, frames)
        check.conditions()
        check.latents()
        check.rows()
        check.weights()
        check.generations()


def _usable(denoiser: Denoiser, pipeline: Any, texts: Sequence[str]) -> None:
    """Refuse a pipeline or texts with which nothing can be checked."""
    name = type(pipeline).__name__
    if name not in denoiser.pipelines:
        raise ValueError(f"{type(denoiser).__name__} is an adapter for {', '.join(denoiser.pipelines)}, got a {name}")
    if len(set(texts)) < 3 or len(set(texts)) < len(texts):
        raise ValueError(f"give at least 3 texts, all different, got {list(texts)}")
    for part, module in pipeline.components.items():
        if isinstance(module, nn.Module) and module.training:
            raise ValueError(f"the pipeline's {part} is in training mode, in which outputs are random: call eval()")
        if isinstance(module, nn.Module) and next(module.parameters()).dtype != torch.float32:
            raise ValueError(f"the pipeline's {part} is not in float32, in which outputs are compared")


@dataclass
class _Trace:
    """What a generation did."""

    start: Tensor | None = None
    """(N, …) the noise it began with."""
    latents: list[Tensor] = field(default_factory=list)
    """(N, …) after each step."""
    arguments: dict[str, Tensor] = field(default_factory=dict)
    """Of the first call of the model."""
    scheduler: Any = None
    """As it was prepared for the first step."""
    images: Tensor | None = None
    """(N, 3, H, W) in [0, 1], or (N, 3, F, H, W) of videos."""


@dataclass(frozen=True)
class _Check:
    denoiser: Denoiser
    pipeline: Any
    texts: list[str]
    seed: int
    resolution: int | None
    frames: int | None

    @functools.cached_property
    def model(self) -> Any:
        return self.denoiser.model_of(self.pipeline)

    @functools.cached_property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @functools.cached_property
    def condition(self) -> Condition:
        return self.denoiser.encode(self.pipeline, self.texts, self.device)

    @functools.cached_property
    def null_row(self) -> Condition:
        """(1, …) of no text."""
        return self.denoiser.null(self.pipeline, self.device)

    @functools.cached_property
    def null(self) -> Condition:
        """One row for each text."""
        rows = len(self.texts)
        return {name: value.expand(rows, *value.shape[1:]) for name, value in self.null_row.items()}

    @functools.cached_property
    def noise(self) -> Tensor:
        shape = (len(self.texts), *self.denoiser.shape(self.pipeline, self.resolution, self.frames))
        return torch.randn(shape, generator=self.generator()).to(self.device)

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        """Of the pipeline's call, for the conditions as they are encoded here."""
        return self.denoiser.inputs(self.pipeline, self.condition, self.null, self.noise)

    @functools.cached_property
    def embeds_guidance(self) -> bool:
        """Whether the model takes the guidance scale as an input, so that it is evaluated once per step."""
        return is_open(self.model)

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def require(self, holds: bool, sentence: str) -> None:
        if not holds:
            raise AssertionError(f"{type(self.denoiser).__name__}: {sentence}")

    def conditions(self) -> None:
        """One row per text, whatever other texts are in the batch; the same tensors for no text; and features."""
        null, rows = self.null_row, len(self.texts)
        for name, value in self.condition.items():
            self.require(len(value) == rows, f"encode must return one row per text, {rows}, got {len(value)} of {name}")
        self.require(null.keys() == self.condition.keys(),
                     f"null returns {sorted(null)}, and encode {sorted(self.condition)}")  # fmt: skip
        for name, value in null.items():
            wanted = (1, *self.condition[name].shape[1:])
            self.require(value.shape == wanted, f"null must return {name} of {wanted}, got {tuple(value.shape)}")
        for row, text in enumerate(self.texts):
            alone = self.denoiser.encode(self.pipeline, [text], self.device)
            for name, value in alone.items():
                self.require(_equal(value, self.condition[name][row : row + 1]),
                             f"encode returns another {name} for a text in a batch than for that text alone")
        features = self.denoiser.features(self.condition)
        shape = tuple(features.shape)
        self.require(len(shape) == 2 and shape[0] == rows,
                     f"features must be one vector per condition, ({rows}, D), got {shape}")  # fmt: skip
        self.require(features.dtype == torch.float32, f"features must be float32, got {features.dtype}")
        self.require(bool(features.isfinite().all()), "features are not all finite")

    def latents(self) -> None:
        """Latents become images, and images latents of the same shape, scaled back as they were scaled."""
        pixels = self.denoiser.decode(self.pipeline, self.noise)
        frames = self.denoiser.frames(self.pipeline, self.frames)
        sides = [length * self.denoiser.scale(self.pipeline) for length in self.noise.shape[-2:]]
        wanted = (len(self.texts), 3, *([] if frames is None else [frames]), *sides)
        self.require(pixels.shape == wanted, f"decode must return images of {wanted}, got {tuple(pixels.shape)}")
        self.require(bool(((pixels >= 0) & (pixels <= 1)).all()), "decode returns images that are not in [0, 1]")
        vae = self.pipeline.vae
        with _calls(vae, "encode") as encodings:
            latents = self.denoiser.encode_images(self.pipeline, 2 * pixels - 1, self.generator())
        wanted = tuple(self.noise.shape)
        self.require(latents.shape == wanted, f"encode_images must return {wanted}, as shape says, "
                     f"got {tuple(latents.shape)}")  # fmt: skip
        self.require(bool(latents.isfinite().all()), "encode_images returns latents that are not finite")
        with _calls(vae, "decode") as decodings:
            self.denoiser.decode(self.pipeline, latents)
        self.require(len(encodings) == len(decodings) == 1,
                     "encode_images and decode must call the pipeline's autoencoder once each")  # fmt: skip
        encoded, decoded = encodings[0][1][0], decodings[0][0]
        drawn = encoded if isinstance(encoded, Tensor) else encoded.sample(self.generator())
        self.require(_equal(decoded, drawn), "decode does not undo how encode_images scales latents")

    def rows(self) -> None:
        """A row's output depends on its own latents, timestep and condition."""
        rows, trace = len(self.texts), self.pipelines_own(1.0)
        steps = trace.scheduler.timesteps.to(self.device)
        times, condition = steps[torch.arange(rows, device=self.device) % len(steps)], self.at(1.0)
        together = self.evaluate(self.noise, times, condition)
        self.require(together.shape == self.noise.shape,
                     f"__call__ must return {tuple(self.noise.shape)}, as the latents, got {tuple(together.shape)}")
        for row in range(rows):
            only = slice(row, row + 1)
            part = {name: value[only] for name, value in condition.items()}
            self.require(_equal(self.evaluate(self.noise[only], times[only], part), together[only]),
                         "__call__ returns another output for a row in a batch than for the row alone")  # fmt: skip
        same, time = self.noise[:1].expand_as(self.noise), times[:1].expand(rows)
        outputs = self.evaluate(same, time, condition)
        swapped = self.evaluate(same, time, {name: value.flip(0) for name, value in condition.items()})
        self.require(_equal(swapped, outputs.flip(0)), "__call__ does not permute outputs as conditions are permuted")
        self.require(not _equal(outputs[1:], outputs[:-1]), "__call__ returns the same output under other conditions")

    @torch.enable_grad()
    def weights(self) -> None:
        """The output depends on all weights but those of ``idle`` modules, and on none of these."""
        model = copy.deepcopy(self.model).requires_grad_(True)
        parameters = dict(model.named_parameters())
        times = torch.full((len(self.texts),), 500.0, device=self.device)
        output = self.denoiser(model, self.noise, times, self.at(1.0))
        gradients = torch.autograd.grad(output.sum(), list(parameters.values()), allow_unused=True)
        without = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None}
        idle = {id(value) for module in self.denoiser.idle(model) for value in module.parameters()}
        declared = {name for name, value in parameters.items() if id(value) in idle}
        for names, what in ((without - declared, "does not depend on {}, which is not in an idle module"),
                            (declared - without, "depends on {}, which is in an idle module")):  # fmt: skip
            self.require(not names, f"the model's output {what.format(min(names, default=''))}")

    def generations(self) -> None:
        """Latents are the pipeline's, whose conditions are first those of the adapter and then its own."""
        for scale in (self.denoiser.unguided, SCALE):
            trace = self.pipelines_own(scale)
            self.require(len(trace.latents) > 0, "the pipeline's scheduler is never asked for a step")
            found = self.loop(trace, scale)
            guided = f"at guidance {scale:g}, null, inputs and guide are not what the pipeline guides with"
            self.compare(found, trace, guided if scale == SCALE else self.cause(found, trace))
            images = self.denoiser.decode(self.pipeline, trace.latents[-1])
            assert trace.images is not None
            self.require(_equal(images, trace.images), "decode returns other images than the pipeline")
        torch.manual_seed(self.seed)
        with self.listening(_Trace()) as trace:
            made = self.denoiser.generate(
                self.pipeline, self.condition, self.null_row, self.noise, steps=STEPS, guidance=SCALE
            )
        self.require(_equal(made, self.loop(trace, SCALE).latents[-1]), "generate returns other latents than the loop")
        if "prompt" not in inspect.signature(self.pipeline.__call__).parameters:
            return  # its conditions are no texts that it encodes
        for scale, sentence in ((self.denoiser.unguided, "encode returns other conditions than the pipeline's own"),
                                (SCALE, "null is not the condition that the pipeline guides with")):  # fmt: skip
            trace = self.pipelines_own(scale, encodes=True)
            self.compare(self.loop(trace, scale), trace, sentence)

    def compare(self, found: _Trace, wanted: _Trace, sentence: str) -> None:
        for step, (ours, theirs) in enumerate(zip(found.latents, wanted.latents, strict=True), start=1):
            self.require(_equal(ours, theirs), f"{sentence}: latents after step {step} of {len(wanted.latents)} differ "
                         f"from the pipeline's by {_apart(ours, theirs):.2g} of their size")  # fmt: skip

    def cause(self, found: _Trace, wanted: _Trace) -> str:
        """Why latents differ, if they do: the model's first inputs do, or else its output is read differently."""
        names = [name for name, value in wanted.arguments.items()
                 if name not in found.arguments or not _equal(found.arguments[name], value)]  # fmt: skip
        names += [name for name in found.arguments if name not in wanted.arguments]
        if names:
            return f"__call__ passes the model another {', '.join(names)} than the pipeline"
        return "__call__ passes the model what the pipeline does, and returns something else than its output"

    def pipelines_own(self, scale: float, *, encodes: bool = False) -> _Trace:
        """The pipeline's generation, from what ``inputs`` returns, or from texts that it ``encodes`` itself."""
        inputs = self.inputs
        if encodes:  # whatever stands for a prompt has that in its name
            inputs = {name: value for name, value in inputs.items() if "prompt" not in name}
            inputs["prompt"] = list(self.texts)  # some pipelines put what they make of it into the same list
            if self.denoiser.negative_prompt is not None:
                inputs["negative_prompt"] = [self.denoiser.negative_prompt] * len(self.texts)
        torch.manual_seed(self.seed)
        with self.listening(_Trace()) as trace:
            guidance = {self.denoiser.scale_argument: scale}
            images = self.pipeline(
                **inputs, **guidance, num_inference_steps=STEPS, output_type="np", return_dict=False
            )[0]
        trace.images = torch.from_numpy(images).movedim(-1, 1).to(self.device)
        return trace

    def loop(self, trace: _Trace, scale: float) -> _Trace:
        """The same generation, written with the adapter's call."""
        scheduler, latents, found = copy.deepcopy(trace.scheduler), trace.start, _Trace()
        scales = hasattr(scheduler, "scale_model_input")
        assert latents is not None
        torch.manual_seed(self.seed)
        for timestep in scheduler.timesteps:
            shown = scheduler.scale_model_input(latents, timestep) if scales else latents
            times = timestep.to(self.device).expand(len(shown))
            with self.listening(found):
                output = self.evaluate(shown, times, self.at(scale))
            if scale != self.denoiser.unguided and self.denoiser.guides(self.pipeline) and not self.embeds_guidance:
                without = self.evaluate(shown, times, self.null)
                output = self.denoiser.guide(without, output, torch.full((len(output),), scale, device=self.device))
            latents = scheduler.step(output, timestep, latents)[0]
            found.latents.append(latents)
        return found

    def evaluate(self, noisy: Tensor, times: Tensor, condition: Condition) -> Tensor:
        return self.denoiser(self.model, noisy, times, condition)

    def at(self, scale: float) -> Condition:
        """The conditions, with the scale where the model takes it."""
        if not self.embeds_guidance:
            return self.condition
        return self.condition | {GUIDANCE: torch.full((len(self.texts),), scale, device=self.device)}

    def unpacked(self, latents: Tensor) -> Tensor:
        """A copy of the pipeline's latents in the shape that the adapter has them in."""
        return self.denoiser.unpack(latents, self.noise).clone()

    @contextmanager
    def listening(self, trace: _Trace) -> Iterator[_Trace]:
        """Note in ``trace`` what the model is given first, and every step of the pipeline's scheduler.

        Not every pipeline has a callback for its steps, and none shows the state of its scheduler.
        """
        scheduler, rows = self.pipeline.scheduler, len(self.texts)
        step, signature = scheduler.step, inspect.signature(scheduler.step)

        @functools.wraps(step)  # pipelines look at the arguments it takes
        def stepping(*args: Any, **kwargs: Any) -> Any:
            if trace.scheduler is None:
                trace.start = self.unpacked(signature.bind(*args, **kwargs).arguments["sample"][:rows])
                trace.scheduler = copy.deepcopy(scheduler)
                del trace.scheduler.step
            result = step(*args, **kwargs)
            trace.latents.append(self.unpacked(result[0][:rows]))  # some pipelines step both halves of a guided batch
            return result

        def called(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            trace.arguments = trace.arguments or _named(module, args, kwargs)

        scheduler.step = stepping
        hook = self.model.register_forward_pre_hook(called, with_kwargs=True)
        try:
            yield trace
        finally:
            hook.remove()
            del scheduler.step


@contextmanager
def _calls(owner: Any, name: str) -> Iterator[list[tuple[Any, Any]]]:
    """The first argument and the result of every call of a method."""
    method, found = getattr(owner, name), []

    @functools.wraps(method)
    def calling(first: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(first, *args, **kwargs)
        found.append((first, result))
        return result

    setattr(owner, name, calling)
    try:
        yield found
    finally:
        delattr(owner, name)


def _named(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors among a call's arguments, also those in dictionaries and lists, and lists of numbers, by name."""
    found: dict[str, Tensor] = {}
    for name, value in inspect.signature(module.forward).bind(*args, **kwargs).arguments.items():
        inner = {name: value}
        if isinstance(value, list) and not any(isinstance(one, Tensor) for one in value):
            inner = {name: torch.tensor(value)}
        elif isinstance(value, dict | list):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            inner = {f"{name}[{key!r}]": part for key, part in parts}
        found |= {key: part.detach().clone() for key, part in inner.items() if isinstance(part, Tensor)}
    return found


def _apart(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    found, wanted = found.double(), wanted.double()
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))


def _equal(found: Tensor, wanted: Tensor) -> bool:
    """Whether two tensors are the same but for rounding; one number is the same as a row of it."""
    if found.shape != wanted.shape and 1 not in (found.numel(), wanted.numel()):
        return False
    return bool(_apart(found, wanted) <= TOLERANCE)
