"""The cost of a sampler step on a GPU: kernel launches, host syncs, and how much a recorded CUDA graph would save."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import aria
from aria.bench.device import recorded
from aria.interfaces import RegionStats
from aria.samplers import draws
from aria.statistics import sum_by_region

BATCH = 256


class Recorded:
    """The shipped tracker and allocator, with each half of a step recorded once as a CUDA graph and then replayed.

    This shows how much a sampler could gain from CUDA graphs. Random numbers and conditions within regions are drawn as
    in the sampler; what a graph cannot contain, growing memory or decisions on the host, is left out. On a CPU nothing
    is recorded.
    """

    def __init__(self, partition: aria.Partition, tracker: str, batch: int) -> None:
        self.sampler = aria.Sampler(partition, tracker, "proportional")
        rule, mass = self.sampler.tracker, self.sampler.mass
        state = rule.init(mass.shape, mass.device)
        names, self.state = tuple(state), tuple(state.values())
        visit, floor = torch.ones_like(mass), self.sampler.floor

        def regions(points: Tensor, *state: Tensor) -> Tensor:
            weights = self.sampler.allocator(rule.estimate(dict(zip(names, state))), mass)
            probs = torch.addcdiv(floor * mass, weights, weights.sum(), value=1 - floor)
            return draws.invert(probs.cumsum(0), points)

        def moved(region: Tensor, signal: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            sums = sum_by_region(region, (torch.ones_like(signal), signal, signal * signal), len(mass))
            return tuple(rule.update(dict(zip(names, state)), RegionStats(*sums, visit)).values())

        self.generator, self.step = torch.Generator(mass.device), 0
        points = draws.systematic(batch, self.generator)
        region, signal = torch.zeros(batch, dtype=torch.int64, device=mass.device), torch.ones_like(points)
        self.regions = recorded(regions, (points, *self.state))
        self.moved: Any = recorded(moved, (region, signal, *self.state))

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Regions and conditions, (B,) each."""
        generator = self.generator.manual_seed(draws.step_seed(0, self.step))
        self.step += 1
        region = draws.shuffled(self.regions(draws.systematic(n, generator), *self.state), generator)
        return region, self.sampler.partition.draw(region, generator)["index"]

    def observe(self, drawn: tuple[Tensor, Tensor], signal: Tensor) -> None:
        """Update the tracker."""
        self.state = self.moved(drawn[0], signal.double(), *self.state)

    def state_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.state)


class Operations(TorchDispatchMode):
    """Context that counts the operations dispatched by the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(step: Callable[[], None]) -> int:
    """Number of operations that a step dispatches; those in a recorded graph are not counted."""
    with Operations() as counted:
        step()
    return counted.count


def launches(step: Callable[[], None]) -> int:
    """Number of kernels and graphs that a step launches on a GPU."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        step()
        torch.cuda.synchronize()
    return sum("LaunchKernel" in event.name or "GraphLaunch" in event.name for event in seen.events())


@contextmanager
def no_host_sync() -> Iterator[None]:
    """Context in which every host sync raises an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def count_host_syncs(num_regions: int) -> int:
    """Number of steps out of 20 with a host sync in a draw or an observe of any kind of sampler."""
    weight = torch.arange(num_regions) % 3  # a third of the regions are empty
    pool = aria.Pool(columns={"region": range(num_regions)}, weight=weight)
    plain = aria.partitioners.Labels("region").fit(aria.Pool(columns={"region": range(num_regions)})).to("cuda")
    labels = aria.partitioners.Labels("region")
    product = aria.partitioners.Product(labels, aria.partitioners.Bins("timestep", 0, 1000, 4)).fit(pool).to("cuda")
    samplers = [
        aria.Sampler(plain, "ema"),
        aria.Sampler(plain, "bank", timesteps=1000),
        aria.Sampler(product, "ema(importance=True)", "ucb", timesteps=1000, correction="importance", stratified=False),
        aria.Sampler(product, "discounted", "softmax", nonfinite="skip", every=3),
    ]
    signal, timestep = torch.rand(BATCH, device="cuda"), torch.randint(0, 1000, (BATCH,), device="cuda")
    where = torch.rand(BATCH, device="cuda") < 0.5
    synced = 0
    for step in range(20):
        try:
            with no_host_sync():
                for sampler in samplers:
                    kwargs = {"timestep": timestep} if sampler.normaliser else {}
                    sampler.observe(sampler.draw(BATCH), signal, where=where if step % 2 else None, **kwargs)
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            synced += 1
            click.echo(f"step {step}: {error}", err=True)
    return synced
