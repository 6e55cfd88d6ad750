"""``aria-sim run``: one trajectory of a regime, and how trackers follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from theory import printing

if TYPE_CHECKING:
    from collections.abc import Callable

    from aria.interfaces import State, Tracker
    from theory.assumptions import Array
    from theory.regimes import Regime

DELTA = 0.05
"""At each step the band misses the truth with at most this probability."""
NORMAL = 1.96
"""Standard errors in the band of a tracker without certificate."""


class Followed(NamedTuple):
    """What one tracker did, (T, K) each."""

    truth: Array
    estimate: Array
    width: Array
    """Half the width of the band."""
    certified: bool


@click.command("run", cls=printing.OneLine)
@click.option("--regime", "regime_name", default="linear", show_default=True,
              help="A regime by its name; any other word lists them.")  # fmt: skip
@click.option("--tracker", "specs", multiple=True, default=("ema",), show_default=True, help="A tracker's spec.")
@click.option("--steps", type=click.IntRange(1, 1_000_000), default=400, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--region", type=click.IntRange(0), default=0, show_default=True, help="The region to show.")
@click.option("--plot", callback=printing.figure, metavar="FILE", help="Draw truth, estimates and bands.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def command(
    regime_name: str, specs: tuple[str, ...], steps: int, seed: int, region: int, plot: str | None, as_json: bool
) -> None:
    """One run of a regime: how far the estimates were off, and how often the truth lay in their band; a row a tracker.

    --plot draws the truth, the estimates and the bands step by step.

    "certified" bands are proved: at each step they miss the truth with a probability of at most 5 %. Where there is no
    certificate (gains that depend on the data, visits that depend on the noise, drift without bound) the band is the
    tracker's own, 1.96 standard errors.
    """
    from aria import registry
    from theory.simulate import bar

    regime = named(regime_name)
    regions = regime.regions or 1
    if region >= regions:
        raise printing.Refusal(f"--region must be below {regions}, the regions of {regime_name!r}, got {region}")
    trackers = {registry.spec(part): part for part in map(registry.tracker, specs)}
    found: dict[str, Followed] = {}
    with bar("running", hidden=steps * len(trackers) < 10_000) as progress:
        for i, (name, tracker) in enumerate(trackers.items()):
            before = i * steps

            def tick(at: int, before: int = before) -> None:
                progress(before + at, steps * len(trackers))

            with printing.blamed_on(tracker):
                found[name] = _follow(tracker, regime, steps, seed, tick)
    rows = [_row(name, part, region) for name, part in found.items()]
    if plot is not None:
        _draw(plot, regime_name, regime, found, region)
    if as_json:
        click.echo(printing.as_json({"regime": regime_name, "steps": steps, "seed": seed, "trackers": rows}))
        return
    click.echo(f"{regime_name}, {steps} steps, region {region} of {regions}")
    click.echo(printing.table(rows))


def named(name: str) -> Regime:
    """The regime of this name, or one line that lists them."""
    from theory.regimes import NAMED

    if name not in NAMED:
        raise printing.Refusal(f"unknown regime {name!r}; there are: {', '.join(sorted(NAMED))}")
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
    """One replica of the regime, step by step."""
    import numpy as np
    import torch

    from aria.samplers import draws
    from theory.regimes import Random
    from theory.world import World

    if tracker.statistic not in ("mean", "constant"):
        raise printing.Refusal(f"trackers must estimate the mean, got one of the {tracker.statistic}: {tracker!r}")
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
    """Within which the truth lies with probability 1 - DELTA; infinite for regions never seen."""
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
    title = f"{name}: drift at most {regime.bound:.3g} a step, noise {regime.sigma:.3g}"
    plots.trajectories(title, truths, shown).write(path)
