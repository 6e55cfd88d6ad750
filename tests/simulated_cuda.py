"""A CUDA device on a machine without one: CPU tensors that are taken for CUDA tensors, and a record of every wait.

PyTorch's fake tensors have no values, and their gradients abort a build without CUDA. A tensor here holds a CPU tensor:
it has values, so that code which is set up by looking at them runs as it is, and results can be compared with a CPU's.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from types import FrameType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
_META = torch.device("meta")
"""What PyTorch's C++ code takes the device for: it has no code for CUDA here."""
_READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""Tags of operations whose result depends on values in a way that the host has to wait for."""
_aten = torch.ops.aten
_COPIES = (_aten._to_copy.default, _aten.copy_.default)
_INDEXING = (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default)
_LOWER = frozenset((
    "addmm", "baddbmm", "bmm", "conv1d", "conv2d", "conv3d", "einsum", "linear", "matmul", "__matmul__", "mm",
    "scaled_dot_product_attention",
))  # fmt: skip
_FLOAT32 = frozenset((
    "cumsum", "exp", "group_norm", "layer_norm", "log", "mse_loss", "norm", "pow", "__pow__", "prod", "rsqrt",
    "softmax", "sum",
))  # fmt: skip
"""Functions that autocast computes in half precision and in float32 on CUDA, of those that models here call:
https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior"""
_state = threading.local()


class WrongDevice(RuntimeError):
    """An operation on tensors of two devices, which fails on a GPU or makes the host wait."""


class Waits(RuntimeError):
    """The host waits for the device."""


class OnCuda(Tensor):
    """A tensor that is on the device."""

    held: Tensor
    """On the CPU."""

    @staticmethod
    def __new__(cls, held: Tensor) -> OnCuda:
        made: OnCuda = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=CUDA, requires_grad=False, dispatch_device=True,
        )  # fmt: skip
        made.held = held
        return made

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, new: OnCuda) -> None:
        Tensor.data.__set__(self, new)  # type: ignore[attr-defined]
        self.held = new.held

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def record_stream(self, stream: object) -> None:
        """Memory is not given away here."""

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnCuda({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """Sees the operations on CPU tensors too, and those that make a tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


def _call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operation: checked, computed on the CPU, and its results where they would be."""
    if func is torch.ops.prim.device.default:
        return _META if isinstance(args[0], OnCuda) else torch.device("cpu")
    flat = tree_flatten((args, kwargs))[0]
    there = [value for value in flat if isinstance(value, OnCuda)]
    here = [value for value in flat if isinstance(value, Tensor) and not isinstance(value, OnCuda)]
    asked = kwargs.get("device")
    on_device = bool(there) if asked is None else torch.device(asked).type in ("cuda", "meta")
    _check(func, args, kwargs, there, here, on_device)
    own = {id(value.held): value for value in there}
    plain = {name: value for name, value in kwargs.items() if name not in ("device", "pin_memory")}
    if asked is not None:
        plain["device"] = torch.device("cpu")
    with no_dispatch():
        result = func(*tree_map(_held, args), **tree_map(_held, plain))

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        made = own.get(id(value))  # itself, where it was changed in place
        return made if made is not None else OnCuda(value) if on_device else value

    with no_dispatch():
        return tree_map(placed, result)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnCuda) else value


def _check(func: Any, args: Any, kwargs: Any, there: list[OnCuda], here: list[Tensor], on_device: bool) -> None:
    """Refuse an operation on two devices, and, where nothing may wait, one that does."""
    name = func.__name__ if hasattr(func, "__name__") else str(func)
    if func in _COPIES:
        target = isinstance(args[0], OnCuda) if func is _aten.copy_.default else on_device
        source = args[1] if func is _aten.copy_.default else args[0]
        if isinstance(source, OnCuda) and not target:
            _wait(f"{name} copies from the device to the host")
        elif target and not isinstance(source, OnCuda) and source.numel() and not _non_blocking(func, args, kwargs):
            _wait(f"{name} copies from the host to the device and is not non_blocking")
        return
    if there and any(value.ndim for value in here):
        shapes = [tuple(value.shape) for value in here if value.ndim]
        raise WrongDevice(f"{name} on tensors of the device and a CPU tensor of shape {shapes[0]}{_place()}")
    generator = kwargs.get("generator")
    if generator is not None and (generator._cdata in _Generator.there) != on_device:
        raise WrongDevice(f"{name} with a generator of another device{_place()}")
    if func in _INDEXING:
        if there and any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]):
            _wait(f"{name} with a mask counts its entries")
    elif there and _READS & set(func.tags):
        _wait(f"{name} reads a value")


def _non_blocking(func: Any, args: Any, kwargs: Any) -> bool:
    return bool(kwargs.get("non_blocking") or (func is _aten.copy_.default and len(args) > 2 and args[2]))


def _wait(what: str) -> None:
    """Refuse it where nothing may wait, unless a function is on the stack that may."""
    if not getattr(_state, "hot", False):
        return
    allowed, met = _state.allowed, _state.met
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        for place in allowed:
            if frame.f_code.co_name == place[1] and frame.f_code.co_filename.endswith(place[0]):
                met.add(place)
                return
        frame = frame.f_back
    raise Waits(f"{what}{_place()}")


def _place() -> str:
    """The innermost line that is neither PyTorch's nor of this file."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if "/torch/" not in file and file != __file__:
            return f", in {'/'.join(file.split('/')[-3:])}:{frame.f_lineno}, {frame.f_code.co_name}"
        frame = frame.f_back
    return ""


class _Autocast(TorchFunctionMode):
    """Autocast of CUDA, which PyTorch's C++ code does not do here: inputs in the types it would give them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if (name in _LOWER or name in _FLOAT32) and torch.is_autocast_enabled("cuda"):
            dtype = torch.get_autocast_dtype("cuda") if name in _LOWER else torch.float32

            def as_cast(value: Any) -> Any:
                fits = isinstance(value, OnCuda) and value.is_floating_point() and value.dtype != torch.float64
                return value.to(dtype) if fits else value

            args, kwargs = tree_map(as_cast, args), tree_map(as_cast, kwargs)
        return func(*args, **kwargs)


@contextmanager
def _modes() -> Iterator[None]:
    """PyTorch makes no attempt to start CUDA while fake tensors are made; every operation is ours before theirs."""
    with FakeTensorMode(), _Everywhere(), _Autocast():
        yield


@contextmanager
def nothing_waits(allowed: Mapping[tuple[str, str], str] | None = None) -> Iterator[None]:
    """Within it a wait of the host for the device is an error, but for the functions ``allowed``, by (end of the file's
    path, name), with the reason. What is allowed has to be met, so that the list does not outlive its reasons."""
    _state.hot, _state.allowed, _state.met = True, dict(allowed or {}), set()
    try:
        yield
    finally:
        _state.hot = False
    if unmet := _state.allowed.keys() - _state.met:
        raise AssertionError(f"nothing waits any more in {sorted(unmet)}")


class _Generator(torch._C.Generator):
    """A random generator on the device it was made for. Its numbers are those of the CPU."""

    there: ClassVar[set[int]] = set()
    """Those on the device, by what PyTorch's C++ code knows them by."""

    def __new__(cls, device: torch.device | str = "cpu") -> _Generator:
        made: _Generator = super().__new__(cls)
        if torch.device(device).type == "cuda":
            cls.there.add(made._cdata)
        return made

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Made in ``__new__``."""

    def __del__(self) -> None:
        self.there.discard(self._cdata)

    @property
    def device(self) -> torch.device:
        return CUDA if self._cdata in self.there else torch.device("cpu")


class _Stream:
    """A stream or event of a device whose work is always done."""

    def __init__(self, *_: object, **__: object) -> None:
        """Of any device."""

    def record_event(self) -> _Stream:
        return self

    def wait_event(self, event: object) -> None:
        """It has happened."""

    def synchronize(self) -> None:
        _wait("synchronize waits for the device")


class _Threads(ThreadPoolExecutor):
    """Threads in which the device exists, and may be waited for."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def within() -> Any:
            with _modes():
                return work(*args, **kwargs)

        return super().submit(within)


@contextmanager
def simulated_cuda() -> Iterator[torch.device]:
    """Within it tensors can be made on the device, moved to it, and trained there."""
    from accelerate.state import AcceleratorState, PartialState

    from aria.distill.data import table

    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(table, "ThreadPoolExecutor", _Threads)
        patch.setattr(torch.cuda, "Stream", _Stream)
        patch.setattr(torch.cuda, "Event", _Stream)
        patch.setattr(torch.cuda, "current_stream", _Stream)
        patch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        patch.setattr(torch.cuda, "synchronize", _Stream().synchronize)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
        for state in (PartialState, AcceleratorState):
            kept = property(lambda self: CUDA, lambda self, value: self.__dict__.update(device=value))
            patch.setattr(state, "device", kept, raising=False)
        same_kind = torch._has_compatible_shallow_copy_type
        patch.setattr(
            torch, "_has_compatible_shallow_copy_type",  # a module that is moved to the device gets new parameters
            lambda own, new: type(own.data) is type(new.data) and same_kind(own, new),
        )  # fmt: skip
        stack.enter_context(_modes())
        yield CUDA
