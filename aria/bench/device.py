"""Where tasks in memory compute, and how numbers get there and back without anyone waiting.

Batches are drawn on the CPU whatever the device is: random numbers are then the same on every machine, and a step's
hundreds of tiny operations are faster there. Models compute on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aria import checks

DEVICES = ("cpu", "cuda")


def chosen(name: str | None) -> str:
    """The device asked for; unless told, CUDA where there is one.

    >>> chosen("cpu")
    'cpu'
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    checks.one_of("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda': there is no CUDA device here, or this PyTorch was built without CUDA")
    return name


def environment(name: str) -> dict[str, str]:
    """What a process that is to compute on this device is started with: for the CPU it finds no other.

    >>> environment("cpu")
    {'CUDA_VISIBLE_DEVICES': ''}
    """
    return {"CUDA_VISIBLE_DEVICES": ""} if name == "cpu" else {}


def described(name: str) -> dict[str, Any]:
    """The device as a result has it: its kind, its maker's name for it, and where it may round float32 to TF32."""
    if name == "cpu":
        return {"device": name, "accelerator": None, "tf32": None}
    backends = {"products": torch.backends.cuda.matmul, "convolutions": torch.backends.cudnn}
    tf32 = [what for what, backend in backends.items() if _rounds(backend)]
    return {"device": name, "accelerator": torch.cuda.get_device_name(), "tf32": ", ".join(tf32) or None}


def _rounds(backend: Any) -> bool:
    """Whether it may round to TF32. Where somebody set a precision by its name, reading the older flag is an error."""
    try:
        return bool(backend.allow_tf32)
    except RuntimeError:
        return bool(backend.fp32_precision == "tf32")


def send(value: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on ``device``, from memory that is copied from without waiting for the device's work."""
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)


def fetch(*values: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Begin to copy tensors to the CPU. The answer, when called, waits for them, but for nothing begun after them.

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
    """``function`` of tensors shaped like ``example``. On CUDA its kernels, forward and backward, are recorded once
    and then started as two; what it is given must require gradients as here, and its answer is overwritten by the next.
    On a CPU it is the function itself."""
    if example[0].device.type != "cuda":
        return function
    graphed: Any = torch.cuda.make_graphed_callables(function, tuple(example), allow_unused_input=True)
    replayed: Callable[..., Tensor] = graphed
    return replayed
