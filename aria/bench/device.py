"""The device on which tasks in memory compute, and asynchronous copies to and from it.

Batches are always drawn on the CPU, so that random numbers are the same on every machine, and because a step's hundreds
of tiny operations are faster there. Models compute on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aria import checks
from aria.checks import InvalidSetting

DEVICES = ("cpu", "cuda")


def chosen(name: str | None) -> str:
    """The device to use: the one named, or else CUDA if it is available.

    >>> chosen("cpu")
    'cpu'
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    checks.one_of("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        message = "device 'cuda': there is no CUDA device here, or this PyTorch was built without CUDA"
        raise InvalidSetting("device", "missing", message)
    return name


def environment(name: str) -> dict[str, str]:
    """Environment variables for a process that computes on this device; for the CPU they hide every GPU.

    >>> environment("cpu")
    {'CUDA_VISIBLE_DEVICES': ''}
    """
    return {"CUDA_VISIBLE_DEVICES": ""} if name == "cpu" else {}


def described(name: str) -> dict[str, Any]:
    """The device for the report: its kind, its product name, and which operations may use TF32."""
    if name == "cpu":
        return {"device": name, "accelerator": None, "tf32": None}
    backends = {"products": torch.backends.cuda.matmul, "convolutions": torch.backends.cudnn}
    tf32 = [operation for operation, backend in backends.items() if _uses_tf32(backend)]
    return {"device": name, "accelerator": torch.cuda.get_device_name(), "tf32": ", ".join(tf32) or None}


def _uses_tf32(backend: Any) -> bool:
    """Whether the backend may use TF32. Reading the older flag is an error once the newer one has been set."""
    try:
        return bool(backend.allow_tf32)
    except RuntimeError:
        return bool(backend.fp32_precision == "tf32")


def send(value: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to ``device``, through pinned memory so that the host does not wait."""
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)


def fetch(*values: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Start copying tensors to the CPU. The returned function waits for these copies and nothing later, and returns
    them.

    >>> arrived = fetch(torch.ones(2), torch.zeros(1))
    >>> arrived()
    (tensor([1., 1.]), tensor([0.]))
    """
    copies = tuple(value.to("cpu", non_blocking=True) for value in values)
    if all(value.is_cpu for value in values):
        return lambda: copies
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def arrived() -> tuple[Tensor, ...]:
        copied.synchronize()
        return copies

    return arrived


def recorded(function: Callable[..., Tensor], example: Sequence[Tensor]) -> Callable[..., Tensor]:
    """``function`` as two CUDA graphs, one for the forward and one for the backward pass; on a CPU the function itself.

    Arguments must have the shapes of ``example`` and require gradients where it does. Every call overwrites the output
    of the one before.
    """
    if example[0].device.type != "cuda":
        return function
    graphed: Any = torch.cuda.make_graphed_callables(function, tuple(example), allow_unused_input=True)
    replayed: Callable[..., Tensor] = graphed
    return replayed
