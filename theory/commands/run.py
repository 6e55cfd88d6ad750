"""``aria-sim run``: one simulated trajectory of a regime, and how well trackers follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from aria.cli import errors, options, tables
from theory.columns import ExplainedCommand

if TYPE_CHECKING:
    from collections.abc import Callable

    from aria.interfaces import State, Tracker
    from theory.assumptions import Array
    from theory.regimes import Regime

DELTA = 0.05
"""Largest probability that the band misses the truth at a given step."""
NORMAL = 1.96
"""Half-width in standard errors of the band of a tracker without certificate."""


class Followed(NamedTuple):
    """Truth, estimate and band of one tracker, (T, K) each."""

    truth: Array
    estimate: Array
    width: Array
    """Half-width of the band."""
    certified: bool


COLUMNS = {
    "tracker": "Spec of the tracker, with its default arguments.",
    "rmse": "Root mean squared error of the estimate over all steps.",
    "bias": "Mean of estimate minus truth over all steps.",
    "band": "Kind of the confidence band: 'certified' if it is proved to contain the truth with probability 95 % at "
    "each step; 'own' if it is 1.96 standard errors of the tracker, because nothing is proved (the gains depend on the "
    "data, the visits on the noise, or the drift has no bound).",
    "half width": "Half-width of the band at the last step.",
    "coverage": "Share of the steps at which the truth was inside the band.",
}


@click.command("run", cls=ExplainedCommand, columns=COLUMNS)
@click.option("--regime", "regime_name", default="linear", show_default=True,
              help="Name of the regime; 'aria-sim regimes' lists them.")  # fmt: skip
@click.option("--tracker", "specs",
              callback=options.part("tracker"), multiple=True, default=("ema",), show_default=True,
              help="Spec of a tracker; repeat it for several.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 1_000_000), default=400, show_default=True, help="Number of steps.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
@click.option("--region", type=click.IntRange(0), default=0, show_default=True, help="The region to report.")
@click.option("--plot", callback=options.figure, metavar="FILE", help="Draw truth, estimates and bands step by step.")
@options.as_json
def command(
    regime_name: str, specs: tuple[str, ...], steps: int, seed: int, region: int, plot: str | None, as_json: bool
) -> None:
    """Simulate one run of a regime and report the errors of trackers and the coverage of their confidence bands."""
    from aria import registry
    from aria.progress import bar

    regime = named(regime_name)
    regions = regime.regions or 1
    if region >= regions:
        raise errors.Refusal(f"--region must be below {regions}, the regions of {regime_name!r}, got {region}")
    trackers = {registry.spec(part): part for part in map(registry.tracker, specs)}
    found: dict[str, Followed] = {}
    with bar("running", hidden=steps * len(trackers) < 10_000) as progress:
        for i, (name, tracker) in enumerate(trackers.items()):
            before = i * steps

            def tick(at: int, before: int = before) -> None:
                progress(before + at, steps * len(trackers))

            with errors.failures_of(tracker):
                found[name] = _follow(tracker, regime, steps, seed, tick)
    rows = [_row(name, part, region) for name, part in found.items()]
    if plot is not None:
        _draw(plot, regime_name, regime, found, region)
    if as_json:
        click.echo(tables.as_json({"regime": regime_name, "steps": steps, "seed": seed, "trackers": rows}))
        return
    click.echo(f"{regime_name}, {steps} steps, region {region} of {regions}")
    click.echo(tables.table(rows))


def named(name: str) -> Regime:
    """The regime called ``name``; an error that lists all names if there is none."""
    from theory.regimes import NAMED

    if name not in NAMED:
        raise errors.Refusal(f"unknown regime {name!r}; there are: {', '.join(sorted(NAMED))}")
    return NAMED[name]


def _row(name: str, part: Followed, region: int) -> dict[str, object]:
    import numpy as np

    error = (part.estimate - part.truth)[:, region]
    width = part.width[:, region]
    known = np.isfinite(width)
    return {
        "tracker": name,
        "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()),
        "band": "certified" if part.certified else "own",
        "half_width": float(width[-1]),
        "coverage": float((np.abs(error) <= width)[known].mean()) if known.any() else None,
    }


def _follow(tracker: Tracker, regime: Regime, steps: int, seed: int, progress: Callable[[int], None]) -> Followed:
    """Simulate one replica of the regime step by step."""
    import numpy as np
    import torch

    from aria.samplers import draws
    from theory.regimes import Random
    from theory.world import World

    if tracker.statistic not in ("mean", "constant"):
        raise errors.Refusal(f"trackers must estimate the mean, got one of the {tracker.statistic}: {tracker!r}")
    shape = (1, regime.regions or 1)
    world = World(regime, Random(draws.step_seed(seed, 0), shape))
    state = tracker.init(shape)
    estimate = tracker.estimate(state)
    certified = not regime.visits.adaptive and np.isfinite(regime.bound) and tracker.certificate(state) is not None
    kept = np.empty((3, steps, shape[1]))
    for step in range(1, steps + 1):
        state = tracker.update(state, world.step(estimate))
        estimate = tracker.estimate(state)
        width = _radius(tracker, state, regime) if certified else NORMAL * estimate.stderr
        for row, value in zip(kept, (world.truth, estimate.value, torch.as_tensor(width)), strict=True):
            row[step - 1] = value.expand(shape)[0].numpy()
        if step % 1000 == 0:
            progress(step)
    return Followed(kept[0], kept[1], kept[2], bool(certified))


def _radius(tracker: Tracker, state: State, regime: Regime) -> Array:
    """Radius that contains the truth with probability 1 - DELTA; infinite for regions that were never visited."""
    import numpy as np

    from theory import bounds

    certificate = tracker.certificate(state)
    assert certificate is not None
    width = np.asarray(bounds.radius_chebyshev(certificate, regime.sigma, regime.bound, DELTA))
    tails = regime.noise.sub_gaussian
    if tails < float("inf"):
        width = np.minimum(width, bounds.radius_sub_gaussian(certificate, tails, regime.bound, DELTA))
    return np.where(certificate.start.numpy() > 0, np.inf, width)


def _draw(path: str, name: str, regime: Regime, found: dict[str, Followed], region: int) -> None:
    import numpy as np

    from theory import plots

    truths = {"truth": next(iter(found.values())).truth[:, region]}
    if any(not np.array_equal(part.truth[:, region], truths["truth"]) for part in found.values()):
        truths = {f"truth under {spec}": part.truth[:, region] for spec, part in found.items()}
    shown = {spec: (part.estimate[:, region], part.width[:, region]) for spec, part in found.items()}
    title = f"{name}: drift at most {regime.bound:.3g} per step, noise {regime.sigma:.3g}"
    plots.trajectories(title, truths, shown).write(path)
