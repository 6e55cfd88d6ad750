"""``aria-sim recommend``: how to set a tracker for a noise and a drift, told or read from a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aria.cli import errors, tables

if TYPE_CHECKING:
    from theory.noise_estimate import Reading

SETTLE = 10
"""Time constants after which certificates are taken as settled."""
PATTERNS = 500
"""Random visit patterns over which the certificate-gain tracker is averaged."""
MOST_STEPS = 20_000
SMALLEST, MOST_OBSERVATIONS = 1e-40, 1e12
"""What is smaller, or larger than one over it, may overflow in a bound."""


@click.command("recommend")
@click.option("--sigma", type=float, help="Standard deviation of one observation.")
@click.option("--drift", type=float, help="The most a region's discrepancy moves in a step.")
@click.option("--visit-rate", type=float, default=1.0, show_default=True, help="Probability of a visit in a step.")
@click.option("--batch", type=float, default=1.0, show_default=True, help="Observations a visit.")
@click.option("--from-log", "log", metavar="FILE", help="Read all of these from the discrepancy log of a run.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
@click.pass_context
def command(
    ctx: click.Context,
    sigma: float | None,
    drift: float | None,
    visit_rate: float,
    batch: float,
    log: str | None,
    as_json: bool,
) -> None:
    """The best rate, window and tracker for a given noise and drift, and the error they certify.

    A step is an update of the tracker; the log of a run counts them.

    "adaptive" errors hold while the drift reacts to the estimates, as in training that a tracker steers; "oblivious"
    ones for a drift fixed beforehand. × limit: the error over the least that any linear tracker can certify.
    """
    notes: list[str] = []
    if log is not None:
        if sigma is not None or drift is not None:
            raise errors.Refusal("give either --from-log or --sigma and --drift, not both")
        sigma, drift, visit_rate, batch, notes = _from_log(log)
    if sigma is None or drift is None:
        raise errors.Refusal("give --sigma and --drift, or --from-log FILE")
    for name, value, least in (("sigma", sigma, 0.0), ("drift", drift, 0.0), ("visit-rate", visit_rate, None)):
        if value != least and not SMALLEST <= abs(value) <= 1 / SMALLEST:
            zero = "0 or " if least is not None else ""
            raise errors.Refusal(f"--{name} must be {zero}from {SMALLEST:g} to {1 / SMALLEST:g}, got {value:g}")
    if batch > MOST_OBSERVATIONS:
        raise errors.Refusal(f"--batch must be at most {MOST_OBSERVATIONS:g}, got {batch:g}")
    rows = _rows(sigma, drift, visit_rate, batch)
    best, why = _choice(sigma, drift, visit_rate, batch, rows, log is not None)
    setting = {"sigma": sigma, "drift": drift, "visit_rate": visit_rate, "batch": batch}
    if as_json:
        click.echo(tables.as_json({**setting, "recommended": best, "why": why, "settings": rows, "notes": notes}))
        return
    click.echo("  ".join(f"{name}={value:.4g}" for name, value in setting.items()))
    click.echo(tables.table(rows))
    click.echo(f"use {best}: {why}")
    for note in notes:
        click.echo(f"note: {note}")


def _rows(sigma: float, drift: float, visit_rate: float, batch: float) -> list[dict[str, object]]:
    """Each tracker at its best setting, with what it certifies."""
    from theory import bounds

    q, n = visit_rate, batch
    rows: list[dict[str, object]] = []
    for model in ("adaptive", "oblivious"):
        adaptive = model == "adaptive"
        rate = float(bounds.asynchronous_best_rate(q, sigma, drift, n, adaptive=adaptive))
        mse = float(bounds.asynchronous_best_mse(q, sigma, drift, n, adaptive=adaptive))
        spec = _ema(rate) if rate > 0 else None
        rows.append(_row("ema", model, spec, rate, mse, sigma, drift, q, n))
        if q == 1:
            size = float(bounds.window_best_size(sigma, drift, n, adaptive=adaptive))
            mse = float(bounds.window_best_mse(sigma, drift, n, adaptive=adaptive))
            spec = f"window(size={size:.0f})" if size < float("inf") else None
            rows.append(_row("window", model, spec, size, mse, sigma, drift, q, n))
            if sigma > 0:
                rate = float(bounds.certificate_gain_rate(sigma, drift, n))
                mse = float(bounds.certificate_gain_mse(sigma, drift, n, adaptive=adaptive))
                rows.append(_row("certificate_gain", model, _gain(sigma, drift), rate, mse, sigma, drift, q, n))
    if q < 1 and sigma > 0 and drift > 0:
        rate = float(bounds.asynchronous_best_rate(q, sigma, drift, n, adaptive=False))
        found = _gain_mse(sigma, drift, q, n, rate)
        if found is not None:
            rows.append(_row("certificate_gain", "oblivious", _gain(sigma, drift), None, found, sigma, drift, q, n))
    return rows


def _ema(rate: float) -> str:
    return f"ema(rate={rate:.4g})"


def _gain(sigma: float, drift: float) -> str:
    return f"certificate_gain(sigma={sigma:.4g}, drift={drift:.4g})"


def _row(
    name: str,
    model: str,
    spec: str | None,
    setting: float | None,
    mse: float,
    sigma: float,
    drift: float,
    q: float,
    n: float,
) -> dict[str, object]:
    from theory import limits

    bounded = sigma > 0 and drift > 0
    limit = float(limits.asynchronous_linear_limit(sigma, drift, q, n)) if bounded else 0.0
    return {
        "tracker": name,
        "drift_is": model,
        "setting": setting,
        "mse": mse,
        "rmse": mse**0.5,
        "times_limit": mse / limit if limit > 0 else None,
        "spec": spec,
    }


def _gain_mse(sigma: float, drift: float, visit_rate: float, batch: float, rate: float) -> float | None:
    """Certified error of the shipped tracker over random visits: its gains look at the visits alone, so that given
    them the certificate is exact, and only they are drawn. None where settling would take too long."""
    from aria.trackers import CertificateGain
    from theory.regimes import Bernoulli, Gaussian, Regime, Stationary
    from theory.simulate import simulate

    steps = int(SETTLE / (rate * visit_rate)) + 1
    if steps > MOST_STEPS:
        return None
    each = sigma / batch**0.5  # a visit of n observations is one of deviation s/√n
    found = simulate(
        CertificateGain(sigma=each, drift=drift),
        Regime(Stationary(), Gaussian(each), Bernoulli(visit_rate)),
        steps=steps,
        replicas=PATTERNS,
        record=("certificate",),
    )
    seen = found["start weight"] == 0
    mse = (drift * found["lag"][seen]) ** 2 + each**2 * found["noise"][seen]
    return float(mse.mean())


def _choice(
    sigma: float, drift: float, visit_rate: float, batch: float, rows: list[dict[str, object]], from_log: bool
) -> tuple[str, str]:
    """The tracker to use and the reason."""
    if sigma == 0:
        return "ema(rate=1)", "without noise the newest observation is the truth"
    if drift == 0 and from_log:
        return "bank()", "the log shows no drift, which may yet begin; the bank tunes itself"
    if drift == 0:
        return _gain(sigma, drift), "without drift the mean of everything is best, and its error goes to 0"
    if visit_rate < 1:
        mine = next(row for row in rows if row["tracker"] == "ema" and row["drift_is"] == "oblivious")
        other = next((row for row in rows if row["tracker"] == "certificate_gain"), None)
        if other is not None and float(str(other["mse"])) < float(str(mine["mse"])):
            return _gain(sigma, drift), "it knows how long ago each visit was, which a fixed rate does not"
        return str(mine["spec"]), "the best fixed rate for visits that do not depend on the noise"
    return str(rows[0]["spec"]), "no other rate certifies less where the drift may react to the estimates"


# -------------------------------------------------------------------------------------------------------- from a log


def _from_log(path: str) -> tuple[float, float, float, float, list[str]]:
    """Noise, drift, visit rate and batch that stand for all regions, and what to say about them."""
    import math

    from aria.progress import bar
    from theory.log import Log
    from theory.noise_estimate import Readings

    log, readings = Log(path), Readings()
    with bar("reading", hidden=log.size < 1 << 24) as progress:
        for visits in log.visits(progress):
            readings.add(visits)
    notes = ["the last line has no end: it is left out"] if log.torn else []
    known = [r for r in readings.read() if math.isfinite(r.sigma) and math.isfinite(r.drift)]
    if not known:
        raise errors.Refusal(f"{path}: no region has enough visits to read its noise and drift")
    notes.append(f"root mean squares over {len(known)} regions; a drift read from a log is no promise")
    notes += [f"region {r.region}: {doubt}" for r in known for doubt in r.doubts][:10]

    def typical(name: str) -> float:
        return math.sqrt(sum(float(getattr(r, name)) ** 2 for r in known) / len(known))

    wandering = sum(r.course == "wandering" for r in known)
    if wandering:
        notes.append(f"{wandering} regions wander like a random walk: there bank() or kalman() serve better")
    rate, batch = (_mean(known, name) for name in ("visit_rate", "batch"))
    return typical("sigma"), typical("drift"), min(rate, 1.0), batch, notes


def _mean(readings: list[Reading], name: str) -> float:
    """The harmonic mean: errors go with 1/n and drift between visits with 1/q."""
    return len(readings) / sum(1 / float(getattr(r, name)) for r in readings)
