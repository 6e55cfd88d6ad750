"""``aria-sim sweep``: error as a function of a tracker's setting, or allocators in a closed loop beside the oracle."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING

import click

from aria.cli import errors, options, tables
from theory.columns import ExplainedCommand
from theory.commands.run import known_regime, named

if TYPE_CHECKING:
    from torch import Tensor

    from aria.interfaces import Tracker
    from theory.regimes import Regime

SETTLED = 600
"""Default number of steps; errors are averaged over the second half."""
ALLOCATED = 150
"""Default number of steps for comparing allocators: before all of the discrepancy is trained away."""
LARGEST = 1e6
"""Largest value to try: a window of this many steps fills the memory of a small machine."""
OCTAVES = 3
"""Range of the sweep to either side of the theoretical optimum."""
NO_DRIFT = 0.05
"""Centre of the swept rates if there is no theoretical optimum: no drift, or drift without bound."""


COLUMNS = {
    "rate, size, …": "Value of the setting that is swept.",
    "mse": "Measured mean squared error over the second half of the steps.",
    "±": "Half-width of a 99 % confidence interval of the column before it.",
    "bound": "Proved bound of the mean squared error for the regime's largest drift and noise; a dash without one.",
    "mse/bound": "Ratio of the two; 1 if the bound is attained.",
    "allocator": "With --allocator: spec of the allocator.",
    "left": "With --allocator: mean discrepancy that is left after the last step, as a share of the mean at the start; "
    "smaller is better.",
    "oracle": "What the same allocator leaves if it is given the true values instead of the estimates.",
    "uniform": "What a uniform allocation leaves.",
    "× won": "Share of the oracle's lead over the uniform allocation that remains with estimates; below 0 if uniform "
    "is better, a dash if the oracle has no lead.",
}


@click.command("sweep", cls=ExplainedCommand, columns=COLUMNS)
@click.option("--tracker", "spec", callback=options.part("tracker"), default="ema", show_default=True,
              help="Spec of the tracker, without the swept setting.")  # fmt: skip
@click.option("--over", help="The setting to sweep; by default rate for ema and size for window.")
@click.option("--values", help="Values to try, separated by commas; by default around the theoretical optimum.")
@click.option("--allocator", "allocators", callback=options.part("allocator"), multiple=True,
              help="Compare allocators instead; repeat it for several.")  # fmt: skip
@click.option("--regime", "regime_name", callback=known_regime,
              help="Name of the regime; 'aria-sim regimes' lists them  [default: linear, or closed-loop]")  # fmt: skip
@click.option("--steps", type=click.IntRange(2, 1_000_000),
              help="Number of steps  [default: 600, or 150 for allocators]")  # fmt: skip
@click.option("--replicas", type=click.IntRange(2, 1_000_000), default=1000, show_default=True,
              help="Number of simulated runs.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
@click.option("--plot", callback=options.figure, metavar="FILE", help="Draw the error as a function of the setting.")
@options.as_json
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
    """Measure the error of a tracker for several values of a setting, beside the proved bound.

    With --allocator, measure instead how much discrepancy is left when allocators decide what is trained.
    """
    from theory import closed_loop

    steps = steps or (ALLOCATED if allocators else SETTLED)
    if allocators:
        if over or values or plot:
            raise errors.Refusal("--allocator compares allocators: leave out --over, --values and --plot")
        name = regime_name or "closed-loop"
        rows = closed_loop.measure_allocators(spec, allocators, name, named(name), steps, replicas, seed)
        optimum = None
    else:
        name = regime_name or "linear"
        rows, optimum = _settings(spec, over, values, name, named(name), steps, replicas, seed, plot)
    if as_json:
        click.echo(tables.as_json({"regime": name, "steps": steps, "optimum": optimum, "rows": rows}))
        return
    click.echo(f"{name}, {steps} steps, {replicas} replicas")
    click.echo(tables.table(rows))
    if optimum is not None:
        click.echo(f"theoretical optimum: {optimum:.4g}")


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
    """One row for each value, and the theoretical optimum if there is one."""
    from aria import registry
    from theory.errors import Z99

    family = spec.split("(")[0].strip()
    over = _swept(spec, family, over)
    proved = {("ema", "rate"): "rate", ("window", "size"): "size"}.get((family, over))
    optimum = _optimum(regime, proved)
    tried = _values(values) if values else _grid(over, proved, optimum)
    trackers = [registry.tracker(_with(spec, over, value)) for value in tried]
    rows: list[dict[str, object]] = []
    for value, mean in zip(tried, _errors(trackers, regime, steps, replicas, seed), strict=True):
        half = Z99 * float(mean.std()) / replicas**0.5
        bound = _bound(regime, proved, value, steps)
        ratio = None if bound is None else float(mean.mean()) / bound
        rows.append({over: value, "mse": float(mean.mean()), "plus_minus": half, "bound": bound, "mse/bound": ratio})
    if plot is not None:
        _draw(plot, f"{spec} in the regime {name}", f"{over} of {family}", tried, rows, optimum)
    return rows, optimum


def _swept(spec: str, family: str, over: str | None) -> str:
    """The setting to sweep, which must not be in the spec."""
    from aria import registry

    over = over or {"ema": "rate", "window": "size"}.get(family)
    if over is None:
        settings = [field.name for field in fields(registry.tracker(spec))]  # type: ignore[arg-type]  # as the contract says
        known = ", ".join(settings) or "none"
        raise errors.Refusal(f"give --over, the setting of {family!r} to sweep; it has {known}")
    if re.search(rf"\b{re.escape(over)}\s*=", spec):
        raise errors.Refusal(f"{over} is swept: leave it out of --tracker, got {spec!r}")
    return over


def _errors(trackers: list[Tracker], regime: Regime, steps: int, replicas: int, seed: int) -> list[Tensor]:
    """(R,) mean squared error of each tracker over regions and the second half of the steps."""
    from aria.progress import bar
    from theory.simulate import simulate

    burn, work = steps // 2, replicas * (regime.regions or 1) * steps * len(trackers)
    means = []
    with bar("sweeping", hidden=work < 30_000_000) as progress:
        for i, tracker in enumerate(trackers):

            def tick(done: int, total: int, i: int = i) -> None:
                progress(i * total + done, len(trackers) * total)

            with errors.failures_of(tracker):
                found = simulate(
                    tracker, regime, steps=steps, replicas=replicas, burn=burn, record=("sums",), seed=seed,
                    progress=tick,
                )  # fmt: skip
            means.append((found["sum e²"] / (steps - burn)).mean(1))
    return means


def _draw(
    plot: str, title: str, setting: str, tried: list[float], rows: list[dict[str, object]], optimum: float | None
) -> None:
    """Draw the error as a function of the setting, with the bound if there is one for every value."""
    from theory import plots

    def numbers(name: str) -> list[float]:
        return [float(str(row[name])) for row in rows]

    curve = None if None in [row["bound"] for row in rows] else numbers("bound")
    measured = numbers("mse"), numbers("plus_minus")
    plots.errors(title, setting, tried, measured, curve, optimum).write(plot)


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
        raise errors.Refusal(f"--values must be numbers separated by commas, got {text!r}") from None
    if unfit := [value for value in values if not abs(value) <= LARGEST]:
        raise errors.Refusal(f"--values must be at most {LARGEST:g}, got {unfit[0]:g}")
    return values


def _covered(regime: Regime, proved: str | None) -> bool:
    """Whether a closed form holds: bounded drift, one observation per visit, and for a window visits at every step."""
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


def _grid(over: str, proved: str | None, optimum: float | None) -> list[float]:
    """Half octaves around the optimum."""
    if proved is None:
        known = "the rate of ema and the size of window"
        raise errors.Refusal(f"give --values for {over!r}: there is a theoretical optimum for {known} only")
    factors = [2 ** (i / 2) for i in range(-2 * OCTAVES, 2 * OCTAVES + 1)]
    if proved == "size":
        return sorted({float(max(round((optimum or 1 / NO_DRIFT) * factor), 1)) for factor in factors})
    return sorted({min(float(f"{(optimum or NO_DRIFT) * factor:.6g}"), 1.0) for factor in factors})


def _bound(regime: Regime, proved: str | None, value: float, steps: int) -> float | None:
    """Bound of the error that holds at every step of the second half."""
    from theory import bounds

    if not _covered(regime, proved):
        return None
    s, d, q, adaptive = regime.sigma, regime.bound, regime.least, regime.adaptive
    if proved == "size":
        return float(bounds.window_mse(value, s, d, adaptive=adaptive)) if value <= steps // 2 else None
    if (1 - q * value) ** (steps // 2) > 1e-3:  # not settled: the first observations still have too much weight
        return None
    return float(bounds.asynchronous_mse(value, q, s, d, adaptive=adaptive))
