"""The cost of a step of the engine, compared with the same step in a hand-written loop.

    python benchmarks/engine.py                              # scaled-down models on the CPU, a few minutes
    python benchmarks/engine.py --preset sd1 --compile       # Stable Diffusion 1.x in its true size, on a GPU
    python benchmarks/engine.py --preset sd1 --student bk-small --batch 16 --batch 128

Candidates train the same student from the same teacher at the same precision and batch size. They take turns, round by
round, in one process, so that a machine that slows down slows all of them; ratios are medians over rounds of the ratio
within a round. Then the script measures the parts of the engine's step, counts its floating point operations and
compares their rate with that of a matrix product at the same precision, and measures the memory of each candidate in a
process of its own.

Since they take turns, all candidates are in memory at once. At the size of sd1 each holds about 11 GB between its turns
(student, moments and moving average in float32, and its own teacher): 33 GB for three candidates, 55 GB for the five
with --compile. The candidate that runs needs memory for gradients and activations as well.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import accelerate
import click
import diffusers
import torch
from engine_loops import CANDIDATES, COMPILED
from engine_world import PRESETS, REGIONS, Preset, World, world
from torch.utils.flop_counter import FlopCounterMode

RESULTS = Path(__file__).parent / "results"
WARM, PARTS = 2, 4
"""Number of warm-up steps, and number of steps whose parts are timed."""
Run = dict[str, Any]


def tidy(device: torch.device) -> None:
    """Free unused memory and compiled code."""
    torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


Times = dict[str, list[tuple[float, float]]]
"""For each candidate, one pair in each round: wall-clock seconds of a step, and seconds of processor time."""


def rounds(field: dict[str, Any], count: int, steps: int, device: torch.device) -> Times:
    """Time every candidate in every round; the order rotates from round to round."""
    seconds: Times = {name: [] for name in field}
    names = list(field)
    for number in range(count):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wait(device)
            start, work = time.perf_counter(), time.process_time()
            for _ in range(steps):
                field[name].step()
            wait(device)
            seconds[name].append(((time.perf_counter() - start) / steps, (time.process_time() - work) / steps))
    return seconds


def summary(seconds: Times, batch: int) -> list[Run]:
    """A row for each candidate: medians and quartiles over rounds.

    On a CPU that runs other work as well, processor time is more reliable than wall-clock time.
    """
    rows = []
    for name, times in seconds.items():
        pairs = list(zip(times, seconds["engine"], strict=True))
        by_clock = statistics.quantiles([other[0] / engine[0] for other, engine in pairs], n=4)
        by_work = statistics.quantiles([other[1] / engine[1] for other, engine in pairs], n=4)
        rate = statistics.quantiles([batch / clock for clock, _ in times], n=4)
        rows.append(
            {
                "name": name,
                "images_per_second": rate[1],
                "quarters": [rate[0], rate[2]],
                "engine_is_faster_by": by_clock[1],
                "faster_quarters": [by_clock[0], by_clock[2]],
                "processor_time_ratio": by_work[1],
                "processor_time_quarters": [by_work[0], by_work[2]],
            }
        )
    return rows


class Clock:
    """Seconds spent in parts of a step, by CUDA events on a GPU, so that there is no host sync."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.marks: dict[str, list[tuple[Any, Any]]] = defaultdict(list)

    def now(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def around(self, owner: Any, method: str, part: str) -> Callable[[], None]:
        """Time every call of a method; the returned function restores it."""
        inner = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self.now()
            result = inner(*args, **kwargs)
            self.marks[part].append((start, self.now()))
            return result

        own = vars(owner).get(method)
        setattr(owner, method, timed)
        return lambda: delattr(owner, method) if own is None else setattr(owner, method, own)

    def seconds(self) -> dict[str, float]:
        """Total seconds of each part's calls."""
        if self.cuda:
            torch.cuda.synchronize()
            return {part: sum(a.elapsed_time(b) for a, b in marks) / 1000 for part, marks in self.marks.items()}
        return {part: sum(b - a for a, b in marks) for part, marks in self.marks.items()}


def apart(distiller: Any, steps: int, device: torch.device) -> Run:
    """Shares of the parts of a step. The rest is the loss, clearing gradients and the loop itself."""
    clock = Clock(device)
    parts = [
        (distiller.source, "next", "data and draw"),
        (distiller.sampler, "draw", "draw"),
        (distiller.teacher, "forward", "teacher"),
        (distiller.learner, "forward", "student, forward"),
        (distiller.accelerator, "backward", "student, backward"),
        (distiller.accelerator, "clip_grad_norm_", "clip"),
        (distiller.optimizer, "step", "optimiser"),
        (distiller.average, "update", "moving average"),
        (distiller, "_observe", "observe"),
        (distiller, "step", "step"),
    ]
    undo = [clock.around(*part) for part in parts]
    for _ in range(steps):
        distiller.step()
    for back in undo:
        back()
    seconds = clock.seconds()
    whole, draw = seconds.pop("step"), seconds.pop("draw")
    seconds["data"] = seconds.pop("data and draw") - draw
    seconds["draw"] = draw
    shares = {part: value / whole for part, value in seconds.items()}
    return {"shares": shares | {"rest": 1 - sum(shares.values())}, "step_ms": 1000 * whole / steps}


def operations(distiller: Any) -> int:
    """Floating point operations of one step, a multiply-add counted as two."""
    with FlopCounterMode(display=False) as counter:
        distiller.step()
    return int(counter.get_total_flops())


def waits(distiller: Any) -> str | None:
    """The first host sync in one step of the engine; None if there is none."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        distiller.step()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return str(error).split("\n")[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a matrix product: the best over sizes that double until a product takes 0.2 seconds.

    A size that is fast in float32 may be slow in bfloat16: some processors take minutes for a product of size 2048.
    """
    best, side, least = 0.0, 128, 0.0
    while least < 0.2 and side <= 16384:
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        least = float("inf")
        for _ in range(4):
            wait(device)
            start = time.perf_counter()
            a @ b
            wait(device)
            least = min(least, time.perf_counter() - start)
        best = max(best, 2 * side**3 / least)
        side *= 2
    return best


def peak_of(name: str, preset: Preset, student: str, device: torch.device) -> float:
    """Peak memory of one candidate during its steps, in MB, with nothing else in memory.

    On a CPU it is the growth of the process.
    """
    before = 0.0 if device.type == "cuda" else _in_use("VmRSS")
    here = world(preset, student, device)
    one = {**CANDIDATES, **COMPILED}[name](here)
    here.teacher = here.begun = None  # type: ignore[assignment]  # each candidate has its own
    if name != "by hand":  # needed only to encode everything beforehand
        here.text = here.vae = here.pixels = None  # type: ignore[assignment]
    gc.collect()
    one.step()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the peak until now
    for _ in range(2):
        one.step()
    return torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else _in_use("VmHWM") - before


def _in_use(line: str) -> float:
    """A line of Linux' memory statistics of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(text.split()[1]) for text in lines if text.startswith(line)) * 1024 / 1e6


def in_a_process(name: str, preset: str, student: str, device: str, changes: dict[str, Any]) -> float:
    """:func:`peak_of` in a fresh process."""
    options = [f"--{key}={value}" for key, value in changes.items() if value is not None]
    command = [sys.executable, __file__, "--preset", preset, "--student", student, "--device", device, *options]
    ended = subprocess.run([*command, "--memory_of", name], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise click.ClickException(f"measuring the memory of {name!r} failed: {ended.stderr.strip()[-500:]}")
    return float(ended.stdout.splitlines()[-1])


def measure(here: World, student: str, compiled: bool) -> Run:
    """All measurements of one student that are made in this process."""
    preset, device = here.preset, here.device
    kinds = CANDIDATES | (COMPILED if compiled else {})
    field = {name: make(here) for name, make in kinds.items()}
    for one in field.values():
        for _ in range(WARM):
            one.step()
    seconds = rounds(field, preset.rounds, preset.steps, device)
    engine = field["engine"]
    field.clear()
    tidy(device)
    parts, flops, peak = apart(engine, PARTS, device), operations(engine), matrix_rate(device, preset.dtype)
    step = statistics.median(clock for clock, _ in seconds["engine"])
    return {
        "student": student,
        "batch": preset.batch,
        "parameters": sum(value.numel() for value in engine.student.parameters()),
        "rows": summary(seconds, preset.batch),
        "parts": parts["shares"],
        "draw_and_observe": parts["shares"]["draw"] + parts["shares"]["observe"],
        "flops_of_a_step": flops,
        "flops_per_second": flops / step,
        "matrix_product_flops_per_second": peak,
        "utilisation": flops / step / peak,
    } | ({"waits_for_the_gpu": waits(engine)} if device.type == "cuda" else {})


def machine(device: torch.device) -> Run:
    """The machine that the numbers were measured on."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "python": platform.python_version(),
        "libraries": {module.__name__: module.__version__ for module in (torch, diffusers, accelerate)},
    }


def render(record: Run) -> str:
    """The record as a text table."""
    lines = []
    for one in record["students"]:
        lines.append(f"{one['student']}, {one['parameters'] / 1e6:.1f} M parameters, batch {one['batch']}")
        titles = ("images/s", 10), ("quarters", 18), ("engine faster by", 18), ("quarters", 14), ("by work", 9)
        titles += (("peak MB", 10),)
        lines.append("  " + " " * 28 + "".join(f"{title:>{width}}" for title, width in titles))
        for row in one["rows"]:
            quarters, faster = row["quarters"], row["faster_quarters"]
            lines.append(
                f"  {row['name']:28}{row['images_per_second']:>10.2f}{quarters[0]:>9.2f} – {quarters[1]:<6.2f}"
                f"{row['engine_is_faster_by']:>18.2f}{faster[0]:>7.2f} – {faster[1]:.2f}"
                f"{row['processor_time_ratio']:>9.2f}{row['peak_mb']:>10,.0f}"
            )
        shares = ", ".join(f"{part} {share:.1%}" for part, share in one["parts"].items())
        lines.append(f"  engine's step: {shares}")
        lines.append(
            f"  draw and observe {one['draw_and_observe']:.2%}; {one['flops_of_a_step'] / 1e9:.1f} GFLOP a step, "
            f"{one['flops_per_second'] / 1e9:,.0f} GFLOP/s, {one['utilisation']:.0%} of a matrix product's "
            f"{one['matrix_product_flops_per_second'] / 1e9:,.0f}"
        )
        if "waits_for_the_gpu" in one:
            lines.append(f"  the engine's step waits for the GPU: {one['waits_for_the_gpu'] or 'nowhere'}")
    return "\n".join(lines)


def plot(record: Run, path: Path) -> None:
    """Images per second of every candidate, with quartiles, and the parts of the engine's step."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = len(record["students"])
    figure, axes = pyplot.subplots(rows, 2, figsize=(10, 2.6 * rows), squeeze=False)
    for (left, right), one in zip(axes, record["students"], strict=True):
        names = [row["name"] for row in one["rows"]]
        middle = [row["images_per_second"] for row in one["rows"]]
        ends = [[abs(row["quarters"][end] - row["images_per_second"]) for row in one["rows"]] for end in (0, 1)]
        left.barh(names, middle, xerr=ends, color="#0072B2")
        left.set(title=f"{one['student']}, batch {one['batch']}", xlabel="images a second")
        left.invert_yaxis()
        right.barh(list(one["parts"]), [100 * share for share in one["parts"].values()], color="#D55E00")
        right.set(title="the engine's step", xlabel="% of its time")
        right.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path)


@click.command()
@click.option("--preset", "name", default="cpu", show_default=True, type=click.Choice(list(PRESETS)),
              help="Size of the models, batch and number of rounds.")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda"]),
              help="Device to measure; by default cuda for the preset sd1, else cpu.")  # fmt: skip
@click.option("--student", help="Student to train: bk-base, bk-small or bk-tiny; by default those of the preset.")
@click.option("--batch", "batches", type=click.IntRange(1), multiple=True,
              help="Batch size; repeat the option for several. By default the preset's.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(2), help="Number of rounds; by default the preset's.")
@click.option("--steps", type=click.IntRange(1), help="Number of steps of each candidate in a round.")
@click.option("--precision", type=click.Choice(["no", "bf16", "fp16"]),
              help="Mixed precision; by default the preset's.")  # fmt: skip
@click.option("--compile", "compiled", is_flag=True, help="Time compiled candidates as well.")
@click.option("--out", type=click.Path(path_type=Path),
              help="File for the result; by default benchmarks/results/engine-PRESET.json.")  # fmt: skip
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="File for a plot of the result.")
@click.option("--memory_of", hidden=True)
def main(name: str, device: str | None, student: str | None, batches: tuple[int, ...], compiled: bool,
         out: Path | None, picture: Path | None, memory_of: str | None, **changes: Any) -> None:  # fmt: skip
    """Compare the engine's speed and memory with hand-written loops.

    All candidates are in memory at once: at the size of sd1 about 11 GB each between their turns, 33 GB in total or
    55 GB with --compile, plus the gradients and activations of the candidate that runs.
    """
    preset = PRESETS[name].with_values(**changes)
    kind = device or ("cuda" if name == "sd1" else "cpu")
    if kind == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("there is no CUDA device here; --device cpu, or --preset cpu, works anywhere")
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # a candidate that is only partly compiled is an error
    where, students = torch.device(kind), (student,) if student else preset.students
    sizes = batches or (preset.batch,)
    if memory_of:
        click.echo(peak_of(memory_of, replace(preset, batch=sizes[0]), students[0], where))
        return
    record: Run = {
        "command": " ".join(["benchmarks/engine.py", *_shown()]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(where),
        "preset": {"name": name, "regions": REGIONS, **asdict(preset)},
        "students": [],
    }
    for one, batch in itertools.product(students, sizes):
        found = measure(world(replace(preset, batch=batch), one, where), one, compiled)
        tidy(where)  # so that the device is empty when memory is measured next
        for row in found["rows"]:
            row["peak_mb"] = in_a_process(row["name"], name, one, kind, {**changes, "batch": batch})
        record["students"].append(found)
    click.echo(render(record))
    path = out or RESULTS / f"engine-{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    if picture is not None:
        plot(record, picture)
    click.echo(f"\nwritten to {path.name}")


def _shown() -> list[str]:
    """The options of the command without file names."""
    words = sys.argv[1:]
    files = "--out", "--plot"
    hidden = {place + step for place, text in enumerate(words) if text in files for step in (0, 1)}
    return [text for place, text in enumerate(words) if place not in hidden and text.split("=")[0] not in files]


if __name__ == "__main__":
    main()
