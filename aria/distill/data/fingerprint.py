"""What cached tensors were made with, part by part, so that a refusal can name the part that differs."""

from __future__ import annotations

import hashlib
import inspect
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from aria.distill.models.denoisers.base import digest, shift_of, statistics_of

SCALING = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
"""The names of what :func:`vae` returns: the first two, or the last two."""
VOLATILE = {"transformers_version", "torch_dtype", "dtype"}


def encoders(pipeline: Any, dtype: torch.dtype) -> dict[str, str | int | None]:
    """Class, configuration, weights and tokenizer of everything that turns a text into a condition.

    Weights are compared as ``dtype``, the type of the cache: an encoder opened in that type and one opened in float32
    and rounded to it are the same.
    """
    parts: dict[str, str | int | None] = {
        "pipeline": type(pipeline).__name__,
        "dtype": str(dtype).removeprefix("torch."),
        "force_zeros_for_empty_prompt": str(pipeline.config.get("force_zeros_for_empty_prompt")),
    }
    for name, part in sorted(pipeline.components.items()):
        if name.startswith("text_encoder") and part is not None:
            parts[f"{name} config"] = _config(part)
            parts[f"{name} weights"] = weights(part, dtype)
        if name.startswith("tokenizer") and part is not None:
            part = getattr(part, "tokenizer", part)  # of a processor of texts and images
            parts[name] = _tokenizer(part)
            parts[f"{name} length"] = int(part.model_max_length)
    return parts


def model(pipeline: Any, module: nn.Module, dtype: torch.dtype) -> dict[str, str | int | None]:
    """The denoising model and the noise schedule it is sampled with."""
    return {
        "teacher config": _config(module),
        "teacher weights": weights(module, dtype),
        "scheduler": f"{type(pipeline.scheduler).__name__} {_config(pipeline.scheduler)}",
    }


def vae(pipeline: Any) -> dict[str, float | str]:
    """How latents are scaled: ``(latent - shift_factor) * scaling_factor`` is what the denoiser sees, or channel by
    channel ``(latent - latents_mean) / latents_std``."""
    vae = pipeline.vae
    if (found := statistics_of(vae)) is None:
        return {"scaling_factor": float(vae.config.scaling_factor), "shift_factor": shift_of(vae)}
    lists = (values.tolist() if isinstance(values, Tensor) else values for values in found)
    return {name: " ".join(map(str, values)) for name, values in zip(("latents_mean", "latents_std"), lists)}


def weights(module: nn.Module, dtype: torch.dtype) -> str:
    """A digest of names, shapes and values of all weights; several weights are hashed at a time."""

    def hashed(weight: Tensor) -> str:
        values = weight.detach().to(dtype).cpu().contiguous().flatten().view(torch.uint8)
        return hashlib.sha256(values.numpy().data).hexdigest()

    state = sorted(module.state_dict().items())
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(hashed, [weight for _, weight in state])
    return digest("\n".join(f"{name} {tuple(weight.shape)} {one}" for (name, weight), one in zip(state, hashes)))


def _config(part: Any) -> str:
    """A digest of the settings that differ from the defaults, since versions add settings with defaults."""
    if hasattr(part.config, "to_diff_dict"):
        config = part.config.to_diff_dict()
    else:
        usual = {name: p.default for name, p in inspect.signature(type(part).__init__).parameters.items()}
        config = {key: value for key, value in part.config.items() if _text(value) != _text(usual.get(key))}
    return digest(_text({key: value for key, value in config.items() if key not in VOLATILE and key[0] != "_"}))


def _text(value: Any) -> str:
    """A value as text; a tuple and a list are the same."""
    return json.dumps(value, sort_keys=True, default=str)


def _tokenizer(tokenizer: Any) -> str:
    """A digest of vocabulary, merges and rules, without the padding and truncation that the last call left set."""
    if getattr(tokenizer, "is_fast", False):
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        rules.pop("padding", None), rules.pop("truncation", None)
    else:
        rules = {"vocabulary": tokenizer.get_vocab()}
    return digest(_text([rules, tokenizer.special_tokens_map]))
