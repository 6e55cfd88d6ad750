"""A student whose weights are divided among ranks (PyTorch's ``fully_shard``), and its weights as a whole again.

Each rank keeps a part of every weight, of its gradient and of the optimiser's memory. The weights of a block are put
together just before the block computes and forgotten after it; the weights outside of blocks stay together during a
step. Everything here does nothing to a model that is not divided.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed import get_world_size, is_initialized
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

Model = TypeVar("Model", bound=nn.Module)


def shard(learner: nn.Module, model: nn.Module, device: torch.device) -> None:
    """Divide the weights of ``learner``, of which ``model`` is the part with the blocks, among all ranks; in place.

    A block is a child of the model, or of a list in the model: a stage of a UNet, a layer of a transformer.
    """
    mesh = init_device_mesh(device.type, (get_world_size(),))
    for block in _blocks(model):
        if (embedding := _called_apart(block)) is not None:
            fully_shard(embedding, mesh=mesh)
        fully_shard(block, mesh=mesh)
    learner.register_forward_hook(_own_memory)
    fully_shard(learner, mesh=mesh)


def check(accelerator: Accelerator) -> None:
    """Refuse a precision and a launch with which no model can be divided."""
    if str(accelerator.mixed_precision) == "fp16":
        raise ValueError("fsdp works with mixed_precision bf16 or no, not with fp16, whose scaler it would need")
    if not is_initialized():
        raise ValueError("fsdp divides the student among processes: start several, with torchrun or accelerate launch")


def _blocks(model: nn.Module) -> list[nn.Module]:
    parts: list[nn.Module] = []
    for child in model.children():
        parts += list(child) if isinstance(child, nn.ModuleList) else [child]
    return [part for part in parts if len(list(part.children())) > 0]


def _called_apart(block: nn.Module) -> nn.Module | None:
    """What is called without its block too, and so is put together by itself: DiT's last layer asks an ``emb``."""
    embedding = getattr(getattr(block, "norm1", None), "emb", None)
    return embedding if isinstance(embedding, nn.Module) else None


def _own_memory(learner: nn.Module, told: Any, answer: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
    """The learner's answer where its output is no part of another tensor, as beside a variance: FSDP warns of those."""
    output, features = answer
    return output.clone() if output._is_view() else output, features


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's weights are divided."""
    return any(isinstance(part, FSDPModule) for part in model.modules())


def local(value: Tensor) -> Tensor:
    """This rank's part of a tensor."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Tensor) -> Tensor:
    """A tensor put together from all ranks, every one of which must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def divided_as(value: Tensor, pattern: Tensor) -> Tensor:
    """The whole tensor ``value``, which every rank has, divided as ``pattern`` is."""
    if not isinstance(pattern, DTensor) or value.shape != pattern.shape:
        return value
    device, places = pattern.device_mesh, pattern.placements
    return distribute_tensor(value.to(pattern.device), device, places, src_data_rank=None)


def skeleton(model: Model) -> Model:
    """The model without its weights, to be made before it is divided."""
    held: list[Tensor] = [*model.parameters(), *model.buffers()]
    without = {id(value): _empty(value) for value in held}
    return copy.deepcopy(model, without)


def _empty(value: Tensor) -> Any:
    empty = torch.empty_like(value, device="meta")
    return nn.Parameter(empty, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else empty


def put_together(bare: Model, model: nn.Module, *, keep: bool) -> Model | None:
    """A whole model on the CPU with the weights of the divided ``model``; ``bare`` is its :func:`skeleton`.

    Every rank must ask, those that ``keep`` get it.
    """
    held: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        together = whole(value.detach())
        if keep:
            held[name] = together.cpu()
    if not keep:
        return None
    made = copy.deepcopy(bare)
    made.load_state_dict(held, assign=True)
    for name, value in model.named_buffers():
        if name not in held:  # what is not saved is not divided either
            parent, _, last = name.rpartition(".")
            made.get_submodule(parent).register_buffer(last, value.cpu(), persistent=False)
    return made


class Sharded:
    """A module that may be sharded, as a stateful object of whole tensors. Every rank must call its methods."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def state_dict(self) -> dict[str, Tensor]:
        return {name: whole(value) for name, value in self.module.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        load_whole(self.module, state)


def load_whole(module: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load whole tensors, of which a rank of a sharded module keeps its part."""
    now = module.state_dict()
    own = {name: divided_as(value, now.get(name, value)) for name, value in tensors.items()}
    module.load_state_dict(own, strict=strict)
