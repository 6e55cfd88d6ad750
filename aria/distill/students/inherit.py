"""What a student takes over from its teacher, and a record of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

Init = Literal["slice", "copy", "fresh"]
"""``slice``: matching tensors are copied, wider ones cut; ``copy``: only matching ones; ``fresh``: nothing."""
INITS = get_args(Init)
Slicer = Callable[[str, Tensor, Sequence[int]], Tensor]
"""The part of a teacher's tensor that becomes the student's tensor of a name and a shape."""


class Sources(Protocol):
    """Which blocks of the teacher stay."""

    def source(self, name: str) -> str:
        """The teacher's name of the student's tensor ``name``."""
        ...


@dataclass(frozen=True)
class Inheritance:
    """Where each tensor of the student comes from: the teacher's name and how many parameters, none for a buffer.

    A shortcut convolution that the teacher does not need, and a student with other widths does, is sliced from the
    identity; it has the name that it would have in the teacher.
    """

    copied: dict[str, tuple[str, int]]
    sliced: dict[str, tuple[str, int]]
    fresh: dict[str, int]
    unused: list[str]
    """Tensors of the teacher that no tensor of the student comes from."""

    def counts(self) -> dict[str, int]:
        """Parameters copied, sliced and fresh; together they are all the student has."""
        return {
            "copied": sum(size for _, size in self.copied.values()),
            "sliced": sum(size for _, size in self.sliced.values()),
            "fresh": sum(self.fresh.values()),
        }

    def as_json(self) -> dict[str, Any]:
        """Counts and names, as they are written into the student's folder."""
        counts = self.counts()
        return {
            "copied": {"parameters": counts["copied"], "from": {name: of for name, (of, _) in self.copied.items()}},
            "sliced": {"parameters": counts["sliced"], "from": {name: of for name, (of, _) in self.sliced.items()}},
            "fresh": {"parameters": counts["fresh"], "names": list(self.fresh)},
            "unused": {"names": self.unused},
        }


@torch.no_grad()
def inherit(
    student: nn.Module, teacher: Mapping[str, Tensor], blocks: Sources, slicer: Slicer | None, init: Init
) -> Inheritance:
    """Fill ``student`` from the teacher's tensors, in place; without ``slicer``, what does not match stays as it is."""
    record = Inheritance({}, {}, {}, [])
    sizes = {name: parameter.numel() for name, parameter in student.named_parameters()}
    for name, tensor in student.state_dict().items():
        size = sizes.get(name, 0)
        source = blocks.source(name)
        given = None if init == "fresh" else teacher.get(source)
        if given is None and slicer is not None and ".conv_shortcut." in name:
            given = _identity(teacher, source)
        if given is not None and given.shape == tensor.shape:
            tensor.copy_(given)
            record.copied[name] = source, size
        elif given is not None and slicer is not None:
            tensor.copy_(slicer(name, given, tensor.shape))
            record.sliced[name] = source, size
        else:
            record.fresh[name] = size
    used = {source for source, _ in (*record.copied.values(), *record.sliced.values())}
    record.unused.extend(name for name in teacher if name not in used)
    return record


def _identity(teacher: Mapping[str, Tensor], source: str) -> Tensor:
    """What a teacher's resnet does that has no shortcut convolution, because it reads as many channels as it writes."""
    bias = teacher[source.rpartition("conv_shortcut.")[0] + "conv2.bias"]
    if source.endswith(".bias"):
        return torch.zeros_like(bias)
    return torch.eye(len(bias), dtype=bias.dtype, device=bias.device)[:, :, None, None]
