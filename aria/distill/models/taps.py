"""Reading the features inside a model, by module name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from torch import Tensor, nn

from aria import checks


@contextmanager
def taps(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of the named submodules during the forward passes within; the hooks are gone afterwards.

    Hooks stand on the modules themselves, so a wrapper for several ranks does not hide them. A recomputation during the
    backward pass (gradient checkpointing) happens after the ``with`` block and is not seen.

    >>> import torch
    >>> net = nn.Sequential(nn.Identity(), nn.ReLU())
    >>> with taps(net, ["0"]) as seen:
    ...     net(torch.tensor([-1.0])).item(), seen["0"].item()
    (0.0, -1.0)
    """
    seen: dict[str, Tensor] = {}
    modules = {name: find(model, name) for name in names}
    hooks = [module.register_forward_hook(_record(seen, name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def find(model: nn.Module, name: str) -> nn.Module:
    """A submodule by its dotted name; the error for a wrong one suggests the nearest that exists."""
    with suppress(AttributeError):
        if name:
            return model.get_submodule(name)
    known = [path for path, _ in model.named_modules() if path]
    close = checks.closest(name, known)
    have = f"did you mean {close!r}?" if close else f"it has: {', '.join(n for n, _ in model.named_children())}"
    raise ValueError(f"{type(model).__name__} has no module {name!r}; {have}")


def _record(seen: dict[str, Tensor], name: str) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output  # a stage returns (hidden, skip connections)
        seen[name] = first if isinstance(first, Tensor) else first.sample

    return hook
