"""The sampler's state as tensors only, with its settings beside it so that a foreign state is refused."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from aria.interfaces import State

SETTINGS = "settings"


def pack(settings: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of ``tensors``, and ``settings`` as the bytes of their JSON. What could not be loaded is not saved."""
    _refuse_nan(tensors)
    text = json.dumps(settings, sort_keys=True).encode()
    return {SETTINGS: torch.tensor(list(text), dtype=torch.uint8)} | {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }


def unpack(state: dict[str, Tensor], settings: dict[str, Any], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the saved tensors on the devices of ``like``, refused unless settings, names and shapes agree."""
    if not isinstance(state, dict) or SETTINGS not in state:
        raise ValueError("this is no sampler state: it has no settings")
    saved = _settings(state[SETTINGS])
    for name in sorted(settings.keys() | saved.keys()):
        if name == "partition" and saved.get(name) != settings.get(name):
            raise ValueError("the state was saved with another partition: keep it with aria.partitioners.save and load")
        if saved.get(name) != settings.get(name):
            raise ValueError(
                f"the state was saved with {name}={saved.get(name)!r}, this sampler has {settings.get(name)!r}"
            )
    names = state.keys() - {SETTINGS}
    if names != like.keys():
        raise ValueError(f"the state lacks or adds {', '.join(sorted(names ^ like.keys()))}")
    for name, tensor in like.items():
        if state[name].shape != tensor.shape or state[name].dtype != tensor.dtype:
            got = f"{state[name].dtype} {tuple(state[name].shape)}"
            raise ValueError(f"{name} in the state is {got}, this sampler needs {tensor.dtype} {tuple(tensor.shape)}")
    _refuse_nan(state)
    if int(state["counters"].min()) < 0:
        raise ValueError(
            f"the state counts {state['counters'].tolist()} steps, updates and batches: none can be negative"
        )
    if not torch.equal(state["mass"].cpu(), like["mass"].cpu()):
        raise ValueError("the state was saved with another target mass")
    return {name: state[name].detach().to(tensor.device).clone() for name, tensor in like.items()}


def _refuse_nan(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if bool(tensor.isnan().any()):
            raise ValueError(f"{name} in the state holds NaN")


def _settings(packed: Tensor) -> dict[str, Any]:
    try:
        saved = json.loads(bytes(packed.tolist()))
    except (TypeError, ValueError):
        saved = None
    if not isinstance(saved, dict):
        raise ValueError("this is no sampler state: its settings cannot be read")
    return saved


def under(prefix: str, tensors: dict[str, Tensor]) -> State:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
