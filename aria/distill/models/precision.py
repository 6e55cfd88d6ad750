"""The types of models' weights: some parts of a model stay in float32 when the rest is in half precision."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def cast(model: Model, dtype: torch.dtype) -> Model:
    """The model in ``dtype``, in place, but for what its class keeps in float32 when it is opened in another type."""
    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and not kept & set(name.split(".")):
            value.data = value.data.to(dtype)
    return model


def dtype_of(model: Any) -> torch.dtype:
    """The type of a model's inputs."""
    found: torch.dtype = model.dtype if hasattr(model, "dtype") else next(model.parameters()).dtype
    return found
