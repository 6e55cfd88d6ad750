"""Every exported allocator passes the conformance check, and the check detects each violation."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import itertools
import pkgutil
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from aria import allocators
from aria.allocators import Proportional
from aria.allocators.conformance import check_allocator
from aria.interfaces import Allocator, Estimate
from aria.registry import spec

CLASSES: list[type[Allocator]] = [getattr(allocators, name) for name in allocators.__all__]
EXAMPLES = [example for cls in CLASSES for example in cls.examples()]


def test_every_allocator_of_the_package_is_exported() -> None:
    names = [info.name for info in pkgutil.iter_modules(allocators.__path__)]
    modules = [importlib.import_module(f"aria.allocators.{name}") for name in names]
    defined = {
        name
        for module in modules
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Allocator) and cls.__module__ == module.__name__
    }
    assert defined == set(allocators.__all__)


@pytest.mark.parametrize("allocator", EXAMPLES, ids=spec)
def test_allocator_conforms(allocator: Allocator) -> None:
    check_allocator(allocator)
    check_allocator(allocator, regions=[40], seed=1)


@pytest.mark.parametrize("allocator", EXAMPLES, ids=spec)
def test_hyper_parameters_cannot_be_assigned(allocator: Allocator) -> None:
    for field in dataclasses.fields(allocator):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(allocator, field.name, 1.0)
    assert dataclasses.is_dataclass(allocator)


@pytest.mark.parametrize("allocator", EXAMPLES, ids=spec)
def test_weights_share_no_memory_with_the_inputs(allocator: Allocator) -> None:
    estimate, mass = Estimate(torch.rand(3), torch.rand(3)), torch.rand(3)
    memory = {part.untyped_storage().data_ptr() for part in (*estimate, mass)}
    assert allocator(estimate, mass).untyped_storage().data_ptr() not in memory


# ------------------------------------------------------------------------------- rules that break exactly one promise


@dataclass(frozen=True)
class Broken(Allocator):
    """A sound rule; its subclasses break it."""

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return Proportional()(estimate, mass)


class NotANumber(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return super().__call__(estimate, mass) / estimate.value.sum(-1, keepdim=True)


class Overflowing(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        weights = super().__call__(estimate, mass)
        return (weights / weights.amax(-1, keepdim=True)).clamp(min=0.9) * 1.7e308


class Negative(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return super().__call__(estimate, mass) - 0.01


class AllZero(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return torch.zeros_like(estimate.value)


class EmptyOnly(Broken):
    """Gives all the weight to a region that is never drawn, where there is one."""

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        empty = mass == 0
        return torch.where(empty.any(), empty.to(mass), super().__call__(estimate, mass))


class NeverExplores(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        weights = super().__call__(estimate, mass)
        seen = estimate.stderr.isfinite().to(weights)
        return torch.where((seen > 0).any(-1, keepdim=True), weights * seen, weights)


class WrongShape(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return super().__call__(estimate, mass).sum(-1, keepdim=True)


class ForgetsReplicas(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return mass.clone()


class MixesReplicas(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        weights = super().__call__(estimate, mass)
        return weights + weights.reshape(-1, weights.shape[-1]).mean(0)


class WholeNumbers(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return torch.ones_like(estimate.value, dtype=torch.int64)


class NoTensor(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return super().__call__(estimate, mass).tolist()  # type: ignore[no-any-return]


class ModifiesEstimate(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return super().__call__(Estimate(estimate.value.add_(1), estimate.stderr), mass)


class ModifiesMass(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return super().__call__(estimate, mass.mul_(2))


class DependsOnOrder(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        weights = super().__call__(estimate, mass)
        return weights * torch.arange(1, weights.shape[-1] + 1)


class Moody(Broken):
    calls = itertools.count(1)

    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return super().__call__(estimate, mass) * next(self.calls)


class Raises(Broken):
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        raise KeyError("no such region")


@dataclass
class Thawed(Broken.__base__):  # type: ignore[name-defined, misc]
    def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
        return Proportional()(estimate, mass)


@pytest.mark.parametrize(
    "cls, message",
    [
        (NotANumber, r"NotANumber returned a weight that is not finite on all values .* zero \(value \[0\]"),
        (Overflowing, r"Overflowing returned weights whose total overflows on ordinary estimates"),
        (Negative, r"Negative returned a negative weight on "),
        (AllZero, r"AllZero returned weights whose total is not positive on ordinary estimates"),
        (EmptyOnly, r"EmptyOnly returned weights whose total is not positive on ordinary estimates .*mass \[.*, 0\]"),
        (NeverExplores, r"NeverExplores gave no weight to an unobserved region on some regions unseen"),
        (WrongShape, r"WrongShape returned shape \[1\], not \[2\], on ordinary estimates"),
        (ForgetsReplicas, r"ForgetsReplicas returned shape \[1\], not \[16, 1\], on replicas along one axis"),
        (MixesReplicas, r"MixesReplicas gives replicas different weights when stacked on replicas along one axis"),
        (WholeNumbers, r"WholeNumbers returned weights of type torch.int64, not floating on ordinary estimates"),
        (NoTensor, r"NoTensor returned a list instead of a tensor on ordinary estimates"),
        (ModifiesEstimate, r"ModifiesEstimate modified its input on ordinary estimates"),
        (ModifiesMass, r"ModifiesMass modified its input on ordinary estimates"),
        (DependsOnOrder, r"DependsOnOrder depends on the order of the regions on ordinary estimates"),
        (Moody, r"Moody returned two different results for the same input on ordinary estimates"),
        (Raises, r"Raises raised KeyError: 'no such region', on ordinary estimates"),
        (Thawed, r"Thawed is a dataclass that is not frozen: write @dataclass\(frozen=True\)"),
    ],
)
def test_a_broken_rule_is_refused_by_name(cls: type[Allocator], message: str) -> None:
    with pytest.raises(AssertionError, match=message) as caught:
        check_allocator(cls())
    assert "\n" not in str(caught.value)


def test_the_rule_they_break_is_sound() -> None:
    check_allocator(Broken())


def test_a_plain_function_may_be_checked() -> None:
    check_allocator(lambda estimate, mass: Proportional()(estimate, mass))


def test_an_allocator_with_mutable_attributes_but_no_dataclass_is_left_to_its_author() -> None:
    class Plain:
        power = 2.0

        def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
            return Proportional(self.power)(estimate, mass)

    check_allocator(Plain())


def test_a_class_instead_of_an_instance_is_refused() -> None:
    with pytest.raises(TypeError, match=r"takes an instance: write check_allocator\(Proportional\(\.\.\.\)\)"):
        check_allocator(Proportional)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ on an accelerator


def on_meta(allocator: Allocator) -> Tensor:
    """Weights without values: whatever looks at a value on the way raises, as it would wait for an accelerator."""
    value = torch.empty(3, 5, device="meta", dtype=torch.float64)
    return allocator(Estimate(value, torch.empty_like(value)), value[0])


@pytest.mark.parametrize("allocator", EXAMPLES, ids=spec)
def test_no_allocator_looks_at_a_value(allocator: Allocator) -> None:
    weights = on_meta(allocator)
    assert weights.shape == (3, 5) and weights.dtype == torch.float64


def test_a_look_at_a_value_would_be_seen() -> None:
    class Looks(Broken):
        def __call__(self, estimate: Estimate, mass: Tensor) -> Tensor:
            return estimate.value if bool(estimate.value.sum() > 0) else mass.expand_as(estimate.value)

    with pytest.raises(RuntimeError, match="meta"):
        on_meta(Looks())


@pytest.mark.gpu
@pytest.mark.parametrize("allocator", [e for e in EXAMPLES if not isinstance(e, allocators.Oracle)], ids=repr)
def test_an_accelerator_agrees_and_is_never_waited_for(allocator: Allocator) -> None:
    generator = torch.Generator().manual_seed(0)
    value, stderr, mass = (torch.rand(3, 50, generator=generator, dtype=torch.float64) for _ in range(3))
    stderr[:, :5] = torch.inf
    there = Estimate(value.cuda(), stderr.cuda()), mass[0].cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        weights = allocator(*there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(weights.cpu(), allocator(Estimate(value, stderr), mass[0]), rtol=1e-9, atol=1e-12)
