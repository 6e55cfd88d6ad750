"""The page of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from aria import html
from aria.distill.evaluation.report import figures
from aria.distill.evaluation.report.record import Array, Record, Region, Seen
from aria.distill.runs.callbacks.log import LOSSES

GRIDS, ROWS = 6, 40
"""Validation grids that are embedded, and regions listed before the rest is folded away."""


def page(record: Record) -> html.Html:
    """Everything a run's folder says, in one document."""
    seen = record.seen()
    sections = [_summary(record, seen), _losses(record), *_allocation(record, seen), *_validation(record)]
    sections += _quantised(record)
    return html.page(f"Distillation {record.folder.resolve().name}", *sections, _settings(record))


# -------------------------------------------------------------------------------------------------------- what happened


def _summary(record: Record, seen: Seen | None) -> html.Html:
    told: dict[str, object] = {"state": _state(record), **_progress(record), **_coverage(record, seen)}
    return html.tag("section", html.pairs(told))


def _state(record: Record) -> html.Html:
    if record.finished:
        return html.tag("span", f"finished: {record.step} steps", class_="good")
    total = record.settings.get("max_train_steps", "?")
    if not record.losses:
        return html.tag("span", f"nothing is logged yet of {total} steps", class_="bad")
    return html.tag("span", f"step {record.step} of {total}: still going on, or stopped", class_="bad")


def _progress(record: Record) -> dict[str, object]:
    if not record.losses:
        return {}
    first, last = record.losses[0], record.losses[-1]
    written = datetime.fromtimestamp((record.folder / LOSSES).stat().st_mtime, UTC)
    told: dict[str, object] = {"last line of the log": f"{written:%Y-%m-%d %H:%M:%S} UTC"}
    for name in record.terms:
        told[f"loss, {name}"] = f"{first[name]:.4g} at step {first['step']}, {last[name]:.4g} at step {last['step']}"
    for row in record.validation[-1:]:
        begun = record.validation[0]
        told["generation gap"] = f"{begun['gap']:.4g} at step {begun['step']}, {row['gap']:.4g} at step {row['step']}"
    speed = last["steps_per_second"]
    batch = record.settings.get("train_batch_size", 1) * record.settings.get("gradient_accumulation_steps", 1)
    told["speed"] = f"{speed:.4g} steps a second, {speed * batch:.4g} samples a second on each device"
    left = record.settings.get("max_train_steps", 0) - record.step
    if left > 0 and speed > 0:
        told["time left at this speed"] = f"{left / speed / 3600:.2g} hours"
    return told


def _coverage(record: Record, seen: Seen | None) -> dict[str, object]:
    """How much of the pool has been visited. Which conditions were is not logged; how many at most is known."""
    if seen is None:
        return {}
    sizes = np.array([region.size for region in record.regions])
    samples, mass = seen.samples, np.array([region.mass for region in record.regions])
    visited = samples > 0
    most = int(np.minimum(sizes, samples).sum())
    return {
        "samples told to the tracker": f"{int(samples.sum())}",
        "regions visited": f"{int(visited.sum())} of {len(sizes)}, with {mass[visited].sum():.1%} of the pool's mass",
        "conditions visited": f"{most} at most, of {int(sizes.sum())} ({most / max(1, int(sizes.sum())):.1%})",
    }


def _losses(record: Record) -> html.Html:
    if not record.losses:
        return html.section("Losses", html.tag("p", "Nothing has been logged yet."))
    said = "Mean over the samples between two lines of the log (pale), and its mean over a twentieth of the run."
    shown = html.figure(figures.losses(record.losses, record.terms), said, "the terms of the loss over the steps")
    speed = html.figure(
        figures.speed(record.losses), "Steps a second since the run was last started.", "speed over the steps"
    )
    return html.section("Losses", shown, html.details("Speed", speed))


# ----------------------------------------------------------------------------------------------------------- who got it


def _allocation(record: Record, seen: Seen | None) -> Iterator[html.Html]:
    if seen is None:
        yield html.section("Allocation", html.tag("p", "No region has been seen yet."))
        return
    regions = record.regions
    mass = np.array([region.mass for region in regions])
    ratio = np.divide(seen.samples / seen.samples.sum(), mass, out=np.zeros_like(mass), where=mass > 0)
    shown = figures.most_and_least(ratio)
    few = f" The {figures.SHOWN // 2} regions with the most and with the fewest samples for their share are shown."
    said = (
        "Left: the probability with which a region is drawn over its share of the pool; 1 is random conditioning. "
        "Right: the mean discrepancy of its samples. Grey where a region had no sample."
        + (few if len(shown) < len(regions) else "")
    )
    yield html.section(
        "Allocation",
        html.figure(figures.heat(seen, regions, shown), said, "allocation and discrepancy of regions over the steps"),
        *_reason(record),
        *_table(regions, seen, ratio),
    )
    missing = int((seen.samples == 0).sum())
    said = (
        "Left: a region above the line gets more samples than its share of the pool, own conditions of the images "
        f"included. {f'{missing} regions without a sample are left out. ' if missing else ''}"
        "Right: how many regions have had a sample."
    )
    drawn = figures.coverage(seen, regions)
    yield html.section("Coverage", html.figure(drawn, said, "samples against the pool, and regions seen"))


def _reason(record: Record) -> list[html.Html]:
    if isinstance(record.pool, str):
        return [html.tag("p", f"Regions are shown without their prompts: {record.pool}.", class_="soft")]
    return []


def _table(regions: list[Region], seen: Seen, ratio: Array) -> Iterator[html.Html]:
    """All regions, those with the most samples for their share first."""
    first, last, order = seen.at(last=False), seen.at(last=True), np.argsort(-ratio, kind="stable")
    rows = [_row(regions[k], int(seen.samples[k]), float(ratio[k]), float(first[k]), float(last[k])) for k in order]
    yield html.table(rows[:ROWS])
    if len(rows) > ROWS:
        yield html.details(f"{len(rows) - ROWS} more regions", html.table(rows[ROWS:]))


def _row(region: Region, samples: int, ratio: float, first: float, last: float) -> dict[str, object]:
    return {
        "region": region.region,
        "name": region.name,
        "words": ", ".join(region.words) or None,
        "for example": " · ".join(region.examples[:2]) or None,
        "conditions": region.size,
        "share of the pool": region.mass,
        "samples": samples,
        "samples / share": ratio,
        "first discrepancy": first,
        "last discrepancy": last,
    }


# --------------------------------------------------------------------------------------------------- what it looks like


def _validation(record: Record) -> Iterator[html.Html]:
    if not record.validation and not record.grids:
        return
    parts = []
    if record.validation:
        said = (
            "Mean squared difference between the final latents of teacher and averaged student, from the same noise "
            "and prompts each time; 0 is a perfect copy."
        )
        parts.append(html.figure(figures.gaps(record.validation), said, "the generation gap over the steps"))
    for path in reversed(_spread(record.grids)):
        step = int(path.stem.removeprefix("step-"))
        shown = html.image(path.read_bytes(), f"Step {step}: teacher and averaged student from the same noise")
        parts.append(html.details(f"Step {step}", shown, open=path == record.grids[-1]))
    yield html.section("Validation", *parts)


def _spread(paths: list[Any]) -> list[Any]:
    """At most :data:`GRIDS` of the grids, the first and the last among them, the others spread evenly between."""
    if len(paths) <= GRIDS:
        return paths
    return [paths[math.floor(place * (len(paths) - 1) / (GRIDS - 1))] for place in range(GRIDS)]


def _quantised(record: Record) -> Iterator[html.Html]:
    """The discrepancy of every region before and after the weights became integers, those that lost most first."""
    told = record.quantised
    if told is None:
        return
    names = {region.region: region.label for region in record.regions}
    rows = [
        {
            "region": row["region"],
            "name": names.get(row["region"]),
            "samples": row["n"],
            "discrepancy": row["before"],
            "quantised": row["after"],
            "after / before": row["after"] / row["before"] if row["before"] else None,
        }
        for row in sorted(told["regions"], key=lambda row: float(row["before"] - row["after"]))
    ]
    size, gap = told["bytes"], told["discrepancy"]
    said = (
        f"With weights in 8-bit integers the student has {size['after'] / 1e6:.4g} instead of "
        f"{size['before'] / 1e6:.4g} megabytes. Its mean squared difference from its teacher's outputs, each region by "
        f"its share of the pool, was {gap['before']:.4g} and is {gap['after']:.4g}, on {told['samples']} samples of "
        "all noise levels."
    )
    old = "This is of an earlier student: run `aria quantise` again for the one that is here now."
    parts = [html.tag("p", old, class_="bad")] if record.outdated else []
    more = [html.details(f"{len(rows) - ROWS} more regions", html.table(rows[ROWS:]))] if len(rows) > ROWS else []
    yield html.section("Quantised", *parts, html.tag("p", said), html.table(rows[:ROWS]), *more)


def _settings(record: Record) -> html.Html:
    parts = []
    for name, section in record.sections.items():
        rows = [{"setting": key, "value": _value(value)} for key, value in section.items()]
        parts.append(html.details(name, html.table(rows)))
    return html.section("Settings", *parts)


def _value(value: Any) -> str:
    if value is None or value == []:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
