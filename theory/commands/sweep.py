"""``aria-sim sweep``: error against a tracker's setting, or allocators in closed loop against the oracle."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from theory import printing

if TYPE_CHECKING:
    from collections.abc import Callable

    from aria.interfaces import Allocator, Tracker
    from theory.assumptions import Array
    from theory.regimes import Regime

Z = 2.576
"""Half width of a 99 % interval, in standard errors."""
SETTLED = 600
"""Steps by default: the second half of them is looked at."""
ALLOCATED = 150
"""Steps by default where allocators are compared: before all of the discrepancy is trained away."""
LARGEST = 1e6
"""The largest value tried: a window of so many steps fills the memory of a small machine."""
OCTAVES = 3
"""How far the sweep goes to either side of the theoretical optimum."""
NO_DRIFT = 0.05
"""Centre of the swept rates where theory has no best one: nothing moves, or without bound."""


@click.command("sweep", cls=printing.OneLine)
@click.option("--tracker", "spec", default="ema", show_default=True, help="A spec without the swept setting.")
@click.option("--over", help="The setting to sweep; by default rate for ema and size for window.")
@click.option("--values", help="Values to try, separated by commas; by default around the theoretical optimum.")
@click.option("--allocator", "allocators", multiple=True, help="Compare allocators in closed loop instead.")
@click.option("--regime", "regime_name", help="A regime by its name [default: linear, or closed-loop]")
@click.option("--steps", type=click.IntRange(2, 1_000_000), help="[default: 600, or 150 for allocators]")
@click.option("--replicas", type=click.IntRange(2, 1_000_000), default=1000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--plot", callback=printing.figure, metavar="FILE", help="Draw error against setting.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def command(
    spec: str,
    over: str | None,
    values: str | None,
    allocators: tuple[str, ...],
    regime_name: str | None,
    steps: int | None,
    replicas: int,
    seed: int,
    plot: str | None,
    as_json: bool,
) -> None:
    """Mean squared error over the second half of a run, for several settings of a tracker.

    The bound and the optimum are those proved for the regime's largest drift and noise. With --allocator: what
    discrepancy training leaves under each allocator, led by the tracker's estimates, and led by the truth ("oracle");
    "× won" is the share of the oracle's lead over a uniform allocation that remains: below 0 where uniform wins, empty
    where the oracle does not lead.
    """
    from theory.commands.run import named

    steps = steps or (ALLOCATED if allocators else SETTLED)
    if allocators:
        if over or values or plot:
            raise printing.Refusal("--allocator compares allocators: leave out --over, --values and --plot")
        name = regime_name or "closed-loop"
        rows = measure_allocators(spec, allocators, name, named(name), steps, replicas, seed)
        optimum = None
    else:
        name = regime_name or "linear"
        rows, optimum = _settings(spec, over, values, name, named(name), steps, replicas, seed, plot)
    if as_json:
        click.echo(printing.as_json({"regime": name, "steps": steps, "optimum": optimum, "rows": rows}))
        return
    click.echo(f"{name}, {steps} steps, {replicas} replicas")
    click.echo(printing.table(rows))
    if optimum is not None:
        click.echo(f"theoretical optimum: {optimum:.4g}")


# -------------------------------------------------------------------------------------------------------- one setting


def _settings(
    spec: str,
    over: str | None,
    values: str | None,
    name: str,
    regime: Regime,
    steps: int,
    replicas: int,
    seed: int,
    plot: str | None,
) -> tuple[list[dict[str, object]], float | None]:
    """One row for each value, and the theoretical optimum where there is one."""
    from aria import registry
    from theory import plots
    from theory.simulate import bar, simulate
    from theory.whole_file import replacing

    family = spec.split("(")[0].strip()
    over = over or {"ema": "rate", "window": "size"}.get(family)
    if over is None:
        raise printing.Refusal(f"give --over, the setting of {family!r} to sweep; aria plugins lists what it takes")
    if re.search(rf"\b{re.escape(over)}\s*=", spec):
        raise printing.Refusal(f"{over} is swept: leave it out of --tracker, got {spec!r}")
    proved = {("ema", "rate"): "rate", ("window", "size"): "size"}.get((family, over))
    optimum = _optimum(regime, proved)
    tried = _values(values) if values else _grid(proved, optimum)
    trackers = [registry.tracker(_with(spec, over, value)) for value in tried]
    regions = regime.regions or 1
    errors = []
    with bar("sweeping", hidden=replicas * regions * steps * len(tried) < 30_000_000) as progress:
        for i, tracker in enumerate(trackers):

            def tick(done: int, total: int, i: int = i) -> None:
                progress(i * total + done, len(trackers) * total)

            with printing.blamed_on(tracker):
                found = simulate(
                    tracker, regime, steps=steps, replicas=replicas, burn=steps // 2, record=("sums",), seed=seed,
                    progress=tick,
                )  # fmt: skip
            errors.append(found)
    rows: list[dict[str, object]] = []
    for value, error in zip(tried, errors, strict=True):
        mean = (error["sum e²"] / (steps - steps // 2)).mean(1)  # (R,) over time and regions
        half = Z * float(mean.std()) / replicas**0.5
        bound = _bound(regime, proved, value, steps)
        ratio = None if bound is None else float(mean.mean()) / bound
        rows.append({over: value, "mse": float(mean.mean()), "plus_minus": half, "bound": bound, "mse/bound": ratio})
    if plot is not None:
        bounds = [row["bound"] for row in rows]
        measured = [float(str(row["mse"])) for row in rows], [float(str(row["plus_minus"])) for row in rows]
        curve = None if None in bounds else [float(str(bound)) for bound in bounds]
        title = f"{spec} in the regime {name}"
        with replacing(plot) as unfinished:
            plots.errors(str(unfinished), title, f"{over} of {family}", tried, measured, curve, optimum)
    return rows, optimum


def _with(spec: str, over: str, value: float) -> str:
    """``spec`` with one more argument: window(sigma=1) becomes window(sigma=1, size=8)."""
    text = spec.strip()
    shown = str(int(value)) if value == int(value) and over != "rate" else repr(value)
    if not text.endswith(")"):
        return f"{text}({over}={shown})"
    inside = text[:-1].rstrip()
    return f"{inside}{'' if inside.endswith('(') else ', '}{over}={shown})"


def _values(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise printing.Refusal(f"--values must be numbers separated by commas, got {text!r}") from None
    if unfit := [value for value in values if not abs(value) <= LARGEST]:
        raise printing.Refusal(f"--values must be at most {LARGEST:g}, got {unfit[0]:g}")
    return values


def _covered(regime: Regime, proved: str | None) -> bool:
    """Whether a closed form holds: bounded drift, one observation a visit, a window only where visits are certain."""
    certain = proved == "rate" or (regime.least == 1 and not regime.visits.adaptive)
    one = not regime.visits.batched or regime.least == 1
    return proved is not None and regime.bound < float("inf") and regime.least > 0 and certain and one


def _optimum(regime: Regime, proved: str | None) -> float | None:
    from theory import bounds

    if not _covered(regime, proved) or regime.bound == 0:
        return None
    if proved == "size":
        return float(bounds.window_best_size(regime.sigma, regime.bound, adaptive=regime.adaptive))
    return float(bounds.asynchronous_best_rate(regime.least, regime.sigma, regime.bound, adaptive=regime.adaptive))


def _grid(proved: str | None, optimum: float | None) -> list[float]:
    """Half octaves around the optimum."""
    if proved is None:
        raise printing.Refusal("give --values: theory has an optimum for the rate of ema and the size of window only")
    factors = [2 ** (i / 2) for i in range(-2 * OCTAVES, 2 * OCTAVES + 1)]
    if proved == "size":
        return sorted({float(max(round((optimum or 1 / NO_DRIFT) * factor), 1)) for factor in factors})
    return sorted({min(float(f"{(optimum or NO_DRIFT) * factor:.6g}"), 1.0) for factor in factors})


def _bound(regime: Regime, proved: str | None, value: float, steps: int) -> float | None:
    """What is proved of the error at every step of the second half."""
    from theory import bounds

    if not _covered(regime, proved):
        return None
    s, d, q, adaptive = regime.sigma, regime.bound, regime.least, regime.adaptive
    if proved == "size":
        return float(bounds.window_mse(value, s, d, adaptive=adaptive)) if value <= steps // 2 else None
    if (1 - q * value) ** (steps // 2) > 1e-3:  # not settled: its first observations still count too much
        return None
    return float(bounds.asynchronous_mse(value, q, s, d, adaptive=adaptive))


# --------------------------------------------------------------------------------------------------------- closed loop


def measure_allocators(
    spec: str, specs: tuple[str, ...], name: str, regime: Regime, steps: int, replicas: int, seed: int
) -> list[dict[str, object]]:
    """What each allocator leaves of the discrepancy, beside its oracle's and a uniform allocation's."""
    import dataclasses

    from aria import registry
    from aria.allocators import Uniform
    from theory.regimes import Allocated
    from theory.simulate import bar
    from theory.threads import one_thread

    if not isinstance(regime.visits, Allocated):
        raise printing.Refusal(f"--allocator needs a regime whose visits an allocator decides, not {name!r}")
    tracker = registry.tracker(spec)
    parts: dict[str, Allocator] = {registry.spec(part): part for part in map(registry.allocator, specs)}
    visits = regime.visits
    runs = len(parts) * 2 + 1
    done = 0
    with bar("allocating", hidden=runs * steps < 3000) as progress, one_thread():

        def left(allocator: Allocator, oracle: bool) -> Array:
            nonlocal done
            chosen = dataclasses.replace(regime, visits=dataclasses.replace(visits, allocator=allocator))
            found = _left(tracker, chosen, oracle, steps, replicas, seed, lambda at: progress(done + at, runs * steps))
            done += steps
            return found

        uniform = left(Uniform(), False)
        rows: list[dict[str, object]] = []
        for shown, part in parts.items():
            mine, oracle = left(part, False), left(part, True)
            lead = float((uniform - oracle).mean())
            rows.append(
                {
                    "allocator": shown,
                    "left": float(mine.mean()),
                    "plus_minus": Z * float(mine.std(ddof=1)) / replicas**0.5,
                    "oracle": float(oracle.mean()),
                    "uniform": float(uniform.mean()),
                    "times_won": float((uniform - mine).mean()) / lead if lead > 1e-12 else None,
                }
            )
    return rows


def _left(
    tracker: Tracker,
    regime: Regime,
    oracle: bool,
    steps: int,
    replicas: int,
    seed: int,
    progress: Callable[[int], None],
) -> Array:
    """(R,) the mean over regions of the truth after the last step, as a share of where it started."""
    import torch

    from aria.interfaces import Estimate
    from aria.samplers import draws
    from theory.regimes import Random
    from theory.world import World

    shape = (replicas, regime.regions or 1)
    world = World(regime, Random(draws.step_seed(seed, 0), shape))
    state, begin = tracker.init(shape), world.truth.mean(-1)
    with torch.inference_mode():
        for step in range(1, steps + 1):
            truth = world.truth.expand(shape)
            believed = Estimate(truth, torch.zeros_like(truth)) if oracle else tracker.estimate(state)
            state = tracker.update(state, world.step(believed))
            if step % 50 == 0:
                progress(step)
    left: Array = (world.truth.expand(shape).mean(-1) / begin).numpy()
    return left
