"""The cost of one draw and one observe of the sampler, compared with the alternatives.

    python benchmarks/sampler.py                  # prints a table, writes benchmarks/results/sampler-cpu.json
    python benchmarks/sampler.py --device cuda    # the same on a GPU, where every host synchronisation is an error

Candidates of one size are timed in turn, round by round, in one process, so that a machine that slows down slows all of
them; ratios are medians over rounds of the ratio within a round. The bandit libraries run on the host.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import click
import torch
from baseline import Bare
from on_gpu import BATCH, Recorded, count_host_syncs, launches, operations
from peers import PEERS, available, measure
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

import aria

RESULTS = Path(__file__).parent / "results"


class Candidate(Protocol):
    """Something that draws a batch and learns from its losses."""

    def draw(self, n: int) -> object:
        """Draw ``n`` conditions."""

    def observe(self, drawn: object, signal: Tensor) -> None:
        """Learn from their (n,) losses."""

    def state_bytes(self) -> int:
        """Bytes of memory kept between steps, which grow with the number of regions."""


class Aria:
    """The shipped sampler."""

    def __init__(self, partition: aria.Partition, tracker: str, **settings: int) -> None:
        self.sampler = aria.Sampler(partition, tracker, "proportional", **settings)
        self.draw, self.observe = self.sampler.draw, self.sampler.observe

    def state_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.sampler.state_dict().values())


class BareLoop:
    """The same arithmetic written by hand."""

    def __init__(self, num_regions: int, device: str) -> None:
        self.bare = Bare(num_regions, device)

    def draw(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.bare.draw(n)

    def observe(self, drawn: tuple[Tensor, ...], signal: Tensor) -> None:
        self.bare.observe(drawn[0], signal)

    def state_bytes(self) -> int:
        return sum(value.nbytes for value in vars(self.bare).values() if isinstance(value, Tensor))


class TorchWeighted:
    """``torch.utils.data.WeightedRandomSampler`` over regions, rebuilt each step as changing weights require."""

    def __init__(self, num_regions: int) -> None:
        self.value = torch.ones(num_regions, dtype=torch.float64)

    def draw(self, n: int) -> Tensor:
        return torch.tensor(list(WeightedRandomSampler(self.value, n)))

    def observe(self, drawn: Tensor, signal: Tensor) -> None:
        self.value[drawn] = torch.lerp(self.value[drawn], signal.double(), 0.1)

    def state_bytes(self) -> int:
        return self.value.nbytes


@dataclass(frozen=True)
class Row:
    """One candidate at one size: median microseconds per step, and interquartile range over rounds."""

    name: str
    regions: int
    batch: int
    draw: float
    observe: float
    spread: float
    state_bytes: int
    against_bare: float | None = None
    operations: int | None = None
    launches: int | None = None

    @property
    def per_decision(self) -> float:
        """Microseconds per decision."""
        return (self.draw + self.observe) / self.batch


def candidates(num_regions: int, batch: int, device: str) -> dict[str, Candidate]:
    """All candidates that can be measured at this size."""
    pool = aria.Pool(columns={"region": range(num_regions)})
    partition = aria.partitioners.Labels("region").fit(pool).to(device)
    field = {
        "bare torch": BareLoop(num_regions, device),
        "aria ema": Aria(partition, "ema"),
        "aria ema, every=10": Aria(partition, "ema", every=10),
        "aria bank": Aria(partition, "bank"),
    }
    if device == "cuda":
        field["aria ema, recorded"] = Recorded(partition, "ema", batch)
    elif num_regions < 2**24:  # multinomial's limit
        field["WeightedRandomSampler"] = TorchWeighted(num_regions)
    return field


def time_sizes(num_regions: int, batch: int, device: str, rounds: int, budget: float) -> list[Row]:
    """One row for each candidate at this size."""
    field = candidates(num_regions, batch, device)
    # The bank's memory is large enough to empty the caches, so it takes turns with the hand-written loop alone.
    large = {name: candidate for name, candidate in field.items() if name in ("bare torch", "aria bank")}
    small = {name: candidate for name, candidate in field.items() if name != "aria bank"}
    return [
        *time_group(small, num_regions, batch, device, rounds, budget),
        *time_group(large, num_regions, batch, device, rounds, budget)[1:],
    ]


def time_group(
    field: dict[str, Candidate], num_regions: int, batch: int, device: str, rounds: int, budget: float
) -> list[Row]:
    """Medians over rounds in which these candidates take turns, the hand-written loop first."""
    signals = torch.rand(batch, device=device) + 0.5
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in field}
    for candidate in field.values():
        for _ in range(3):
            candidate.observe(candidate.draw(batch), signals)
    began, bare_times = time.perf_counter(), times["bare torch"]
    while len(bare_times) < rounds and (len(bare_times) < 3 or time.perf_counter() - began < budget):
        for name, candidate in field.items():
            times[name].append(one_round(candidate, batch, signals, wait, steps=10))
    bare = [sum(pair) for pair in bare_times]
    rows = []
    for name, candidate in field.items():
        draw, observe = (statistics.median(part) for part in zip(*times[name], strict=True))
        total = [sum(pair) for pair in times[name]]
        quarter, _, three = statistics.quantiles(total, n=4)
        ratio = statistics.median(own / hand for own, hand in zip(total, bare, strict=True))
        row = Row(name, num_regions, batch, draw, observe, three - quarter, candidate.state_bytes(), ratio)
        rows.append(replace(row, **device_work(candidate, batch, signals, device)))
    return rows


def device_work(candidate: Candidate, batch: int, signal: Tensor, device: str) -> dict[str, int]:
    """Number of operations that a step dispatches and, on a GPU, of kernels that it launches."""

    def step() -> None:
        candidate.observe(candidate.draw(batch), signal)

    counts = {"operations": operations(step)}
    return counts | ({"launches": launches(step)} if device == "cuda" else {})


def one_round(
    candidate: Candidate, batch: int, signal: Tensor, wait: Callable[[], None], steps: int
) -> tuple[float, float]:
    """Median microseconds of one draw and of one observe, in ``steps`` steps."""
    drawing, observing = [], []
    for _ in range(steps):
        start = time.perf_counter()
        drawn = candidate.draw(batch)
        wait()
        middle = time.perf_counter()
        candidate.observe(drawn, signal)
        wait()
        drawing.append(middle - start)
        observing.append(time.perf_counter() - middle)
    return 1e6 * statistics.median(drawing), 1e6 * statistics.median(observing)


def machine(device: str) -> dict[str, object]:
    """The machine and the versions that the numbers depend on."""
    versions = {name: version for name, version in available().items() if version}
    return {
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "libraries": versions,
    }


@click.command()
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--quick", is_flag=True, help="Small sizes and few rounds, without the bandit libraries' largest size.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="JSON file; benchmarks/results/sampler-DEVICE.json by default."
)
def main(device: str, quick: bool, out: Path | None) -> None:
    """Time the sampler and the alternatives to it."""
    sizes = (10, 1000) if quick else (10, 1000, 100_000, 1_000_000)
    batches = () if quick else (64, 1024, 4096)
    rounds, budget = (10, 5.0) if quick else (60, 40.0 if device == "cpu" else 10.0)
    # The largest first: as in a training process, the memory allocator has then handled larger blocks before.
    rows = [row for size in reversed(sizes) for row in time_sizes(size, BATCH, device, rounds, budget)]
    rows.sort(key=lambda row: row.regions)
    cases = [(1000, batch) for batch in batches]
    cases += [(size, 4096) for size in sizes if size > 1000] if device == "cuda" else []
    rows += [row for size, batch in cases for row in time_sizes(size, batch, device, rounds, budget)]
    libraries = (
        [] if device == "cuda" else [library_row(peer, size, quick) for peer in PEERS for size in (10, 1000, 100_000)]
    )
    record = {
        "command": f"benchmarks/sampler.py --device {device}{' --quick' if quick else ''}",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(device),
        "rows": [asdict(row) | {"per_decision": row.per_decision} for row in rows],
        "libraries": libraries,
        "targets": targets(rows, libraries),
        "host_syncs": count_host_syncs(100_000) if device == "cuda" else None,
    }
    click.echo(render(record))
    path = out or RESULTS / f"sampler-{device}{'-quick' if quick else ''}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    click.echo(f"\nwritten to {path.name}")
    if record["host_syncs"]:
        raise click.ClickException(f"{record['host_syncs']} of 20 steps waited for the GPU")


def library_row(peer: object, size: int, quick: bool) -> dict[str, object]:
    """The time of one policy of a bandit library, or the reason why it was not measured."""
    timing = measure(peer, size, budget=2.0 if quick else 20.0)
    row = {"name": peer.name, "library": peer.library, "regions": size, "batch": BATCH}
    return row | {"per_decision": timing.micros, "spread": timing.spread, "note": timing.note}


def targets(rows: list[Row], libraries: list[dict[str, object]]) -> dict[str, object]:
    """The ratios for which the sampler has targets."""
    by_size = {(row.name, row.regions, row.batch): row for row in rows}
    ema = by_size["aria ema", 1000, BATCH]
    timed = [row for row in libraries if row["regions"] == 1000 and row["per_decision"] is not None]
    fastest = min(timed, key=lambda row: row["per_decision"], default=None)
    found: dict[str, object] = {"ema_against_bare_at_1000": ema.against_bare}
    if fastest is not None:
        found["fastest_library_at_1000"] = f"{fastest['library']} {fastest['name']}"
        found["times_cheaper_than_it"] = fastest["per_decision"] / ema.per_decision
    large = by_size.get(("aria ema", 100_000, BATCH))
    if large is not None:
        huge = by_size["aria ema", 1_000_000, BATCH]
        found["ema_against_bare_at_100000"] = large.against_bare
        found["step_ms_at_100000"] = (large.draw + large.observe) / 1000
        found["growth_from_100000_to_1000000"] = (huge.draw + huge.observe) / (large.draw + large.observe)
    return found


def render(record: dict[str, object]) -> str:
    """The record as a table."""
    lines = [
        f"{'':24}{'K':>9}{'B':>6}{'draw µs':>11}{'observe µs':>12}{'µs/decision':>13}{'× bare':>8}{'state MB':>10}"
        f"{'operations':>12}{'launches':>10}"
    ]
    for row in record["rows"]:
        lines.append(
            f"{row['name']:24}{row['regions']:>9,}{row['batch']:>6}{row['draw']:>11,.1f}{row['observe']:>12,.1f}"
            f"{row['per_decision']:>13.3f}{row['against_bare']:>8.2f}{row['state_bytes'] / 1e6:>10.2f}"
            f"{row['operations']:>12}{row['launches'] or '–':>10}"
        )
    for row in record["libraries"]:
        cost = row["note"] if row["per_decision"] is None else f"{row['per_decision']:,.2f}"
        lines.append(f"{row['library'] + ' ' + row['name']:24}{row['regions']:>9,}{row['batch']:>6}{cost:>36}")
    lines += [
        f"{name.replace('_', ' ')}: {value if isinstance(value, str) else f'{value:.2f}'}"
        for name, value in record["targets"].items()
    ]
    if record["host_syncs"] is not None:
        lines.append(f"host synchronisations in 20 steps: {record['host_syncs']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
