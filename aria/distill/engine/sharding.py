"""Sharding the student across ranks with PyTorch's ``fully_shard``, and gathering its weights again.

Each rank keeps a shard of every weight, of its gradient and of the optimiser's state. The weights of a block are
gathered just before the block computes and freed after it; weights outside of blocks stay gathered during a step.
:func:`local`, :func:`whole` and :func:`shard_like` return tensors of a model that is not sharded unchanged.
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
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

Model = TypeVar("Model", bound=nn.Module)


def shard(learner: nn.Module, model: nn.Module, device: torch.device) -> None:
    """Shard the weights of ``learner`` across all ranks, in place; ``model`` is the part of it that has the blocks.

    A block is a child of the model, or of a ``ModuleList`` or ``ModuleDict`` in it: a stage of a UNet, a layer of a
    transformer.
    """
    mesh = init_device_mesh(device.type, (get_world_size(),))
    for block in _blocks(model):
        if (embedding := _called_alone(block)) is not None:
            fully_shard(embedding, mesh=mesh)
        fully_shard(block, mesh=mesh)
    learner.register_forward_hook(_copy_views)
    fully_shard(learner, mesh=mesh)


def check(accelerator: Accelerator) -> None:
    """Refuse to shard with fp16 or in a single process."""
    if str(accelerator.mixed_precision) == "fp16":
        raise ValueError("fsdp works with mixed_precision bf16 or no, not with fp16, which needs a gradient scaler")
    if not is_initialized():
        raise ValueError("fsdp shards the student across processes: start several, with torchrun or accelerate launch")


def _blocks(model: nn.Module) -> list[nn.Module]:
    parts: list[nn.Module] = []
    for child in model.children():
        parts += list(child.children()) if isinstance(child, nn.ModuleList | nn.ModuleDict) else [child]
    return [part for part in parts if len(list(part.children())) > 0]


def _called_alone(block: nn.Module) -> nn.Module | None:
    """A part that is also called outside its block, and so is sharded separately: DiT's last layer calls an ``emb``."""
    embedding = getattr(getattr(block, "norm1", None), "emb", None)
    return embedding if isinstance(embedding, nn.Module) else None


def _copy_views(learner: nn.Module, inputs: Any, outputs: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
    """The learner's outputs, copied if they are a view, as the noise beside a variance is: FSDP warns about views."""
    output, features = outputs
    return output.clone() if output._is_view() else output, features


def local(value: Tensor) -> Tensor:
    """This rank's shard of a tensor."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Tensor) -> Tensor:
    """The whole tensor. Collective: every rank calls it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def shard_like(value: Tensor, pattern: Tensor) -> Tensor:
    """The whole tensor ``value``, which every rank has, sharded as ``pattern`` is."""
    if not isinstance(pattern, DTensor) or value.shape != pattern.shape:
        return value
    mesh, placements = pattern.device_mesh, pattern.placements
    return distribute_tensor(value.to(pattern.device), mesh, placements, src_data_rank=None)


def without_weights(model: Model) -> Model:
    """A copy of the model on the meta device; call it before the model is sharded."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(value): _on_meta(value) for value in tensors})


def _on_meta(value: Tensor) -> Any:
    empty = torch.empty_like(value, device="meta")
    return nn.Parameter(empty, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else empty


def gather(bare: Model, model: nn.Module, *, keep: bool) -> Model | None:
    """A whole copy of the sharded ``model`` on the CPU; ``bare`` is the model :func:`without_weights`.

    Collective: every rank calls it, and those without ``keep`` get None.
    """
    weights: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        gathered = whole(value.detach())
        if keep:
            weights[name] = gathered.cpu()
    if not keep:
        return None
    copied = copy.deepcopy(bare)
    copied.load_state_dict(weights, assign=True)
    for name, value in model.named_buffers():
        if name not in weights:  # buffers that are not in the state dict are not sharded either
            parent, _, last = name.rpartition(".")
            copied.get_submodule(parent).register_buffer(last, value.cpu(), persistent=False)
    return copied


class Sharded:
    """A module that may be sharded, saved and loaded as whole tensors. Collective: every rank calls its methods."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def state_dict(self) -> dict[str, Tensor]:
        return {name: whole(value) for name, value in self.module.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        load_whole(self.module, state)


def load_whole(module: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load whole tensors; if the module is sharded, each rank keeps its shard."""
    now = module.state_dict()
    shards = {name: shard_like(value, now.get(name, value)) for name, value in tensors.items()}
    module.load_state_dict(shards, strict=strict)
