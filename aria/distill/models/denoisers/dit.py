"""DiT: a transformer conditioned on a class."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.embeddings import LabelEmbedding
from torch import Tensor, nn

from aria import checks
from aria.distill.models.denoisers.base import Condition, Denoiser
from aria.distill.models.denoisers.variance import learned
from aria.distill.objectives.base import Objective

NULL = 1000
"""The class with which the pipeline guides, whatever the model."""
LABEL = "label"
"""The column with each condition's class."""


class DiT(Denoiser):
    """Conditions are ``class_labels`` (N,); ``embedding`` (N, D), the teacher's own vector of the class, is no input of
    the model but makes regions of classes that it takes for similar.

    Texts are classes: numbers, or names in the pipeline's ``id2label``. The null condition is class 1000, which the
    pipeline guides with. That is right for models of 1000 classes, and others are refused.
    """

    pipelines = ("DiTPipeline",)

    def __call__(self, model: nn.Module, noisy: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        output: Tensor = model(noisy, timestep=timestep, class_labels=condition["class_labels"], return_dict=False)[0]
        return output[:, : noisy.shape[1]]

    def encode(self, pipeline: Any, texts: list[str], device: torch.device | str) -> Condition:
        return _labelled(pipeline, torch.tensor([class_of(pipeline, text) for text in texts]), device)

    def null(self, pipeline: Any, device: torch.device | str) -> Condition:
        classes = int(pipeline.transformer.config.num_embeds_ada_norm)
        if classes != NULL:
            raise ValueError(
                f"DiTPipeline guides with class {NULL} whatever the model, and the null class of this one is {classes}"
            )
        return _labelled(pipeline, torch.tensor([NULL]), device)

    def features(self, condition: Condition) -> Tensor:
        return condition["embedding"].float()

    def columns(self, pipeline: Any, texts: Sequence[str]) -> dict[str, list[str]]:
        """The name of each class, or its number where it has none."""
        names: dict[int, str] = {}
        for name, number in pipeline.labels.items():
            names.setdefault(number, name)
        classes = [class_of(pipeline, text) for text in texts]
        return {LABEL: [names.get(number, str(number)) for number in classes]}

    def depends_on(self, pipeline: Any) -> dict[str, str]:
        table = _table(pipeline).detach().float().cpu().contiguous()
        return {"classes": _digest(json.dumps(pipeline.labels).encode()), "class table": _digest(table.numpy().data)}

    def terms(self, model: Any) -> tuple[Objective, ...]:
        return learned(model, "proj_out_2")

    def latent_shape(self, pipeline: Any, resolution: int | None = None) -> tuple[int, ...]:
        own = int(pipeline.transformer.config.sample_size) * self.scale(pipeline)
        if resolution not in (None, own):
            raise ValueError(f"resolution must be {own} for this pipeline, the model's own, got {resolution}")
        return super().latent_shape(pipeline)

    def inputs(self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor) -> dict[str, Any]:
        """All the pipeline can be given; it draws its noise itself, so :meth:`generate` goes its steps one by one."""
        return {"class_labels": condition["class_labels"].tolist()}

    def generate(
        self, pipeline: Any, condition: Condition, null: Condition, noise: Tensor, *, steps: int, guidance: float
    ) -> Tensor:
        """The pipeline's own steps, from a noise that is given and to latents that are not decoded."""
        model, scheduler = pipeline.transformer, pipeline.scheduler
        labels = condition["class_labels"].to(noise.device)
        guided = guidance > 1
        both = torch.cat([labels, null["class_labels"].to(labels).expand_as(labels)]) if guided else labels
        scheduler.set_timesteps(steps)
        latents = noise
        for timestep in scheduler.timesteps:
            latents = scheduler.scale_model_input(latents, timestep)
            shown = torch.cat([latents, latents]) if guided else latents
            with torch.no_grad():
                output = self(model, shown, timestep.to(noise.device).expand(len(shown)), {"class_labels": both})
            if guided:
                under, without = output.chunk(2)
                output = without + guidance * (under - without)
            latents = scheduler.step(output, timestep, latents).prev_sample
        return latents


def class_of(pipeline: Any, text: str) -> int:
    """The class that ``text`` means: a number, or one of the pipeline's names."""
    classes = int(pipeline.transformer.config.num_embeds_ada_norm)
    if text.isdecimal():
        if int(text) < classes:
            return int(text)
        raise ValueError(f"there is no class {text}; the teacher has 0 to {classes - 1}")
    if text in pipeline.labels:
        return int(pipeline.labels[text])
    close = checks.closest(text, pipeline.labels)
    known = f"0 to {classes - 1} and " + ("the names in its id2label" if pipeline.labels else "no names")
    hint = f"did you mean {close!r}?" if close else f"the teacher has {known}"
    raise ValueError(f"there is no class {text!r}; {hint}")


def keep_labels(model: nn.Module) -> None:
    """Have a model in training take every class as given, without dropping labels at random.

    diffusers' label embeddings themselves replace one in ten by the null class. Here the batches do, so that teacher
    and student get the same class, and so that a run is a function of its seed.
    """
    for part in model.modules():
        if isinstance(part, LabelEmbedding):
            part.dropout_prob = 0.0


def _labelled(pipeline: Any, labels: Tensor, device: torch.device | str) -> Condition:
    table = _table(pipeline)
    return {"class_labels": labels.to(device), "embedding": table[labels.to(table.device)].detach().to(device)}


def _table(pipeline: Any) -> Tensor:
    """(1001, D) the vectors of the classes as the first block has them; each block has its own, in DiT the same."""
    table: Tensor = pipeline.transformer.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight
    return table


def _digest(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
