"""``aria-sim run``: one simulated trajectory of a regime, and how well trackers follow it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from aria.cli import errors, options, tables
from theory.columns import ExplainedCommand

if TYPE_CHECKING:
    from collections.abc import Callable

    from aria.interfaces import Certificate, Tracker
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


@cache
def regimes() -> list[str]:
    """The names of the regimes, read from the source, since the regimes themselves load torch.

    >>> regimes()[:2]
    ['asynchronous', 'batches']
    """
    body = ast.parse((Path(__file__).parents[1] / "regimes" / "named.py").read_text(encoding="utf-8")).body
    table = next(node for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DESCRIBED")
    dicts = (node for node in ast.walk(table) if isinstance(node, ast.Dict))
    return sorted(ast.literal_eval(key) for node in dicts for key in node.keys if key is not None)


def known_regime(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A click callback that refuses the name of no regime, before anything is loaded."""
    if value is not None and value not in regimes():
        raise errors.Refusal(f"unknown regime {value!r}; there are: {', '.join(regimes())}")
    return value


@click.command("run", cls=ExplainedCommand, columns=COLUMNS)
@click.option("--regime", "regime_name", callback=known_regime, default="linear", show_default=True,
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
    """The regime called ``name``, which is one of :func:`regimes`."""
    from theory.regimes import NAMED

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

    from aria.interfaces import Certificate
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
    kept = np.empty((5 if certified else 3, steps, shape[1]))
    for step in range(1, steps + 1):
        state = tracker.update(state, world.step(estimate))
        estimate = tracker.estimate(state)
        certificate = tracker.certificate(state) if certified else None
        band = (NORMAL * estimate.stderr,) if certificate is None else certificate
        for row, value in zip(kept, (world.truth, estimate.value, *band), strict=True):
            row[step - 1] = value.expand(shape)[0].numpy()
        if step % 1000 == 0:
            progress(step)
    width = _radius(Certificate(*map(torch.from_numpy, kept[2:])), regime) if certified else kept[2]
    return Followed(kept[0], kept[1], width, bool(certified))


def _radius(certificate: Certificate, regime: Regime) -> Array:
    """Radius that contains the truth with probability 1 - DELTA; infinite for regions that were never visited."""
    import numpy as np

    from theory import bounds

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
