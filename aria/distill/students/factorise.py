r"""Low-rank layers: a student whose linear layers, and 1×1 convolutions, are products of two thinner ones.

.. math::
    W \approx \underbrace{U_r \sqrt{S_r}}_{m \times r} \; \underbrace{\sqrt{S_r} V_r^\top}_{r \times n},
    \qquad r = \max\Bigl(1, \Bigl\lfloor \rho \frac{mn}{m+n} \Bigr\rfloor\Bigr)

are the first :math:`r` singular directions of :math:`W`, the best approximation of that rank, and both factors train. A
fraction :math:`\rho` of the layer's weights is left. A plain diffusers configuration cannot express that a layer is a
product, so :func:`unfactorise` multiplies the factors before a model is saved: the folder opens anywhere and is as
large and as slow as before. Its weights keep their rank, though, so :func:`factorise` of the opened model, with the
same fraction, finds the same products again and makes it small and fast, up to rounding.

The layer ``cond_proj``, which projects the guidance scale, stays as it is: guidance distillation adds it
to a student of products, and it would have no rank to find again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aria import checks

Layer = nn.Linear | nn.Conv2d
_WHOLE = "cond_proj"
"""What a layer is called that is left whole."""


class Product(nn.Module):
    """Two layers, one after the other, in the place of one."""

    def __init__(self, first: Layer, second: Layer) -> None:
        super().__init__()
        self.first, self.second = first, second

    @property
    def weight(self) -> Tensor:
        """The weight of the layer it stands for; models read its type and device."""
        product: Tensor = self.second.weight.flatten(1) @ self.first.weight.flatten(1)
        return product.view(*product.shape, *self.first.weight.shape[2:])

    @property
    def bias(self) -> Tensor | None:
        return self.second.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y


def factorise(model: nn.Module, ratio: float) -> nn.Module:
    """Every layer that can be factorised, but ``cond_proj``, as a product with ``ratio`` of its weights; in place.

    >>> layer = factorise(nn.Sequential(nn.Linear(8, 8)), 0.5)[0]
    >>> layer.first.weight.shape, layer.second.weight.shape
    (torch.Size([2, 8]), torch.Size([8, 2]))
    """
    checks.open_unit("rank_ratio", ratio)
    if is_factorised(model):
        raise ValueError("the model is factorised already; unfactorise it first")
    found = [(name, module) for name, module in model.named_modules() if _divisible(name, module)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no linear layer to factorise")
    for name, layer in found:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        _replace(model, name, _product(layer, ratio))
    return model


def unfactorise(model: nn.Module) -> nn.Module:
    """Every product multiplied out, in place: the plain model."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Product):
            _replace(model, name, _multiplied(module))
    return model


def is_factorised(model: nn.Module) -> bool:
    """Whether any layer of the model is a product."""
    return any(isinstance(module, Product) for module in model.modules())


def rank_of(rows: int, columns: int, ratio: float) -> int:
    """The rank with which two factors have ``ratio`` of the weights of one matrix, at least 1."""
    return max(1, int(ratio * rows * columns / (rows + columns)))


def _divisible(name: str, module: nn.Module) -> bool:
    if name.rpartition(".")[2] == _WHOLE:
        return False
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _product(layer: Layer, ratio: float) -> Product:
    weight = layer.weight.detach().flatten(1)  # (m, n)
    outputs, inputs = weight.shape
    rank = rank_of(outputs, inputs, ratio)
    left, size, right = torch.linalg.svd(weight.double(), full_matrices=False)
    root = size[:rank].sqrt()
    first, second = _like(layer, inputs, rank), _like(layer, rank, outputs, pointwise=True)
    with torch.no_grad():
        first.weight.copy_((root[:, None] * right[:rank]).view_as(first.weight))
        second.weight.copy_((left[:, :rank] * root).view_as(second.weight))
    second.bias = layer.bias
    return Product(first, second).train(layer.training)


def _multiplied(product: Product) -> Layer:
    layer = _like(product.first, product.first.weight.shape[1], product.second.weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(product.weight)
    layer.bias = product.second.bias
    return layer.train(product.training)


def _like(layer: Layer, inputs: int, outputs: int, *, pointwise: bool = False) -> Layer:
    """A layer of the same kind with another width and no bias yet; ``pointwise`` looks at every position once."""
    device, dtype = layer.weight.device, layer.weight.dtype
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs, outputs, bias=False, device=device, dtype=dtype)
    steps = {} if pointwise else {"stride": layer.stride, "padding": layer.padding}
    return nn.Conv2d(inputs, outputs, 1, bias=False, device=device, dtype=dtype, **steps)  # type: ignore[arg-type]


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
