"""``aria-sim recommend``: the best settings of trackers for a given noise and drift, or for those of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aria.cli import errors, options, tables
from theory.columns import ExplainedCommand

if TYPE_CHECKING:
    from theory.noise_estimate import Reading

SETTLE = 10
"""Time constants after which certificates count as settled."""
PATTERNS = 500
"""Number of random visit patterns over which the certificate-gain tracker is averaged."""
MOST_STEPS = 20_000
SMALLEST, MOST_OBSERVATIONS = 1e-40, 1e12
"""Numbers below SMALLEST or above one over it may overflow in a bound."""


COLUMNS = {
    "tracker": "Kind of tracker.",
    "drift is": "Assumption under which the error is proved: 'adaptive' if drift and visits may react to the estimates "
    "as in training that a tracker steers; 'oblivious' if they are independent of them.",
    "setting": "Best rate or window size, or the rate at which the gain settles.",
    "mse": "Proved bound of the mean squared error at that setting.",
    "rmse": "Its root.",
    "× limit": "The bound divided by the smallest error that any linear tracker can certify.",
    "spec": "The tracker with its setting, as --tracker takes it.",
}


@click.command("recommend", cls=ExplainedCommand, columns=COLUMNS)
@click.option("--sigma", type=float, help="Standard deviation of one observation.")
@click.option("--drift", type=float, help="Largest move of a region's discrepancy in one step.")
@click.option("--visit-rate", type=float, default=1.0, show_default=True, help="Probability of a visit in one step.")
@click.option("--batch", type=float, default=1.0, show_default=True, help="Number of observations per visit.")
@click.option("--from-log", "log", metavar="FILE",
              help="Estimate all four from the discrepancy log of a training run.")  # fmt: skip
@options.as_json
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
    """Print the best settings of trackers for a given noise and drift, with their proved errors.

    A step is one update of the tracker. For --from-log the recommendation follows the adaptive bounds unless the
    config.json beside the log names an allocator that ignores the estimates (pool, uniform).
    """
    notes: list[str] = []
    adaptive = visit_rate == 1  # given by hand, rare visits are taken as independent of the noise
    if log is not None:
        from theory.run_settings import feedback_of

        if sigma is not None or drift is not None:
            raise errors.Refusal("give either --from-log or --sigma and --drift, not both")
        sigma, drift, visit_rate, batch, notes = _from_log(log)
        adaptive, reason = feedback_of(log)
        notes.insert(0, reason)
        if adaptive and visit_rate < 1:
            notes.insert(1, "the adaptive bounds hold if no visit, given the past, is less likely than visit_rate")
    if sigma is None or drift is None:
        raise errors.Refusal("give --sigma and --drift, or --from-log FILE")
    for name, value, least in (("sigma", sigma, 0.0), ("drift", drift, 0.0), ("visit-rate", visit_rate, None)):
        if value != least and not SMALLEST <= abs(value) <= 1 / SMALLEST:
            zero = "0 or " if least is not None else ""
            raise errors.Refusal(f"--{name} must be {zero}from {SMALLEST:g} to {1 / SMALLEST:g}, got {value:g}")
    if batch > MOST_OBSERVATIONS:
        raise errors.Refusal(f"--batch must be at most {MOST_OBSERVATIONS:g}, got {batch:g}")
    rows = _rows(sigma, drift, visit_rate, batch)
    best, why = _choice(sigma, drift, rows, adaptive, log is not None)
    setting = {"sigma": sigma, "drift": drift, "visit_rate": visit_rate, "batch": batch}
    if as_json:
        assumed = "adaptive" if adaptive else "oblivious"
        found = {**setting, "recommended": best, "why": why, "drift_is": assumed, "settings": rows, "notes": notes}
        click.echo(tables.as_json(found))
        return
    click.echo("  ".join(f"{name}={value:.4g}" for name, value in setting.items()))
    click.echo(tables.table(rows))
    click.echo(f"use {best}: {why}")
    for note in notes:
        click.echo(f"note: {note}")


def _rows(sigma: float, drift: float, visit_rate: float, batch: float) -> list[dict[str, object]]:
    """Each tracker at its best setting, with its bound."""
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
    """Certified error of the shipped tracker over random visits; None if it would take too long to settle.

    Its gains depend on the visits alone, so that given the visits the certificate is exact, and only they are drawn.
    """
    from aria.trackers import CertificateGain
    from theory.regimes import Bernoulli, Gaussian, Regime, Stationary
    from theory.simulate import simulate

    steps = int(SETTLE / (rate * visit_rate)) + 1
    if steps > MOST_STEPS:
        return None
    each = sigma / batch**0.5  # n observations are equivalent to one with standard deviation s/√n
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
    sigma: float, drift: float, rows: list[dict[str, object]], adaptive: bool, from_log: bool
) -> tuple[str, str]:
    """The recommended tracker and the reason."""
    if sigma == 0:
        return "ema(rate=1)", "without noise the newest observation is the truth"
    if drift == 0 and from_log:
        return "bank()", "the log shows no drift, but it may begin later; the bank tunes itself"
    if drift == 0:
        return _gain(sigma, drift), "without drift the mean of all observations is best, and its error goes to 0"
    assumed = "adaptive" if adaptive else "oblivious"
    by_tracker = {row["tracker"]: row for row in rows if row["drift_is"] == assumed}
    average = by_tracker["ema"]
    if adaptive:
        return str(average["spec"]), "no other rate has a smaller bound if the drift may react to the estimates"
    gain = by_tracker.get("certificate_gain")
    if gain is not None and float(str(gain["mse"])) < float(str(average["mse"])):
        return _gain(sigma, drift), "its gain depends on how long ago each visit was, unlike a fixed rate"
    return str(average["spec"]), "the best fixed rate for visits that do not depend on the noise"


# -------------------------------------------------------------------------------------------------------- from a log


def _from_log(path: str) -> tuple[float, float, float, float, list[str]]:
    """Noise, drift, visit rate and batch, averaged over the regions, and notes about them."""
    import math

    from aria.progress import bar
    from theory.log import Log
    from theory.noise_estimate import Readings

    log, readings = Log(path), Readings()
    with bar("reading", hidden=log.size < 1 << 24) as progress:
        for visits in log.visits(progress):
            readings.add(visits)
    notes = ["the last line is incomplete and was ignored"] if log.torn else []
    known = [r for r in readings.read() if math.isfinite(r.sigma) and math.isfinite(r.drift)]
    if not known:
        raise errors.Refusal(f"{path}: no region has enough visits to estimate noise and drift")
    notes.append(f"sigma and drift are root mean squares over {len(known)} regions; the drift may change later")
    notes += [f"region {r.region}: {remark}" for r in known for remark in r.remarks][:10]

    def typical(name: str) -> float:
        return math.sqrt(sum(float(getattr(r, name)) ** 2 for r in known) / len(known))

    wandering = sum(r.course == "wandering" for r in known)
    if wandering:
        notes.append(f"the drift of {wandering} regions is that of a random walk: bank() or kalman() are better there")
    rate, batch = (_mean(known, name) for name in ("visit_rate", "batch"))
    return typical("sigma"), typical("drift"), min(rate, 1.0), batch, notes


def _mean(readings: list[Reading], name: str) -> float:
    """Harmonic mean, since errors are proportional to 1/n and the drift between visits to 1/q."""
    return len(readings) / sum(1 / float(getattr(r, name)) for r in readings)
