"""The page of a run: a summary, losses, allocation, coverage, validation, quantisation and settings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from aria import html
from aria.distill.evaluation.report import figures
from aria.distill.evaluation.report.record import Array, Record, Region, Seen
from aria.run_log import LOSSES

GRIDS, ROWS, MOST = 6, 40, 10_000
"""Validation grids to embed, regions to list before the rest is folded away, and regions to list at all."""


def page(record: Record, worth: str | None = None) -> html.Html:
    """Everything that a run's folder holds, in one document, and one line on what allocation can be ``worth``."""
    seen = record.seen()
    sections = [_summary(record, seen, worth), _losses(record), *allocation(record, seen), *_validation(record)]
    sections += _quantised(record)
    return html.page(f"Distillation {record.folder.resolve().name}", *sections, _settings(record))


# -------------------------------------------------------------------------------------------------------- what happened


def _summary(record: Record, seen: Seen | None, worth: str | None) -> html.Html:
    facts: dict[str, object] = {"state": _state(record), **_progress(record), **_coverage(record, seen)}
    facts |= {"what allocation is worth": worth} if worth else {}
    return html.tag("section", html.pairs(facts))


def _state(record: Record) -> html.Html:
    if record.finished:
        return html.tag("span", f"finished: {record.step} steps", class_="good")
    total = record.settings.get("max_train_steps", "?")
    if not record.losses:
        return html.tag("span", f"nothing logged yet (0 of {total} steps)", class_="bad")
    return html.tag("span", f"step {record.step} of {total}: still running, or stopped early", class_="bad")


def _progress(record: Record) -> dict[str, object]:
    if not record.losses:
        return {}
    first, last = record.losses[0], record.losses[-1]
    facts: dict[str, object] = {"last line of the log": _written(record)}
    facts |= {f"loss, {name}": _from_to(first, last, name) for name in record.terms}
    if record.validation:
        facts["generation gap"] = _from_to(record.validation[0], record.validation[-1], "gap")
    speed = last["steps_per_second"]
    batch = record.settings.get("train_batch_size", 1) * record.settings.get("gradient_accumulation_steps", 1)
    samples = html.number(speed * batch)
    facts["speed"] = f"{html.number(speed)} steps per second, {samples} samples per second per device"
    left = record.settings.get("max_train_steps", 0) - record.step
    if left > 0 and speed > 0:
        facts["time left at this speed"] = f"{left / speed / 3600:.2g} hours"
    return facts


def _written(record: Record) -> str:
    """When the log was last written; a file system may hold times that no calendar has."""
    try:
        written = datetime.fromtimestamp((record.folder / LOSSES).stat().st_mtime, UTC)
    except (ValueError, OverflowError):
        return "unknown"
    return f"{written:%Y-%m-%d %H:%M:%S} UTC"


def _from_to(first: dict[str, Any], last: dict[str, Any], name: str) -> str:
    return f"{html.number(first[name])} at step {first['step']}, {html.number(last[name])} at step {last['step']}"


def _coverage(record: Record, seen: Seen | None) -> dict[str, object]:
    """How much of the pool has been visited. Conditions are not logged, so their number is an upper bound."""
    if seen is None:
        return {}
    sizes = np.array([region.size for region in record.regions])
    samples, mass = seen.samples, np.array([region.mass for region in record.regions])
    visited = samples > 0
    most = int(np.minimum(sizes, samples).sum())
    return {
        "samples observed by the tracker": f"{int(samples.sum())}",
        "regions visited": f"{int(visited.sum())} of {len(sizes)}, with {mass[visited].sum():.1%} of the pool's mass",
        "conditions visited": f"at most {most} of {int(sizes.sum())} ({most / max(1, int(sizes.sum())):.1%})",
    }


def _losses(record: Record) -> html.Html:
    if not record.losses:
        return html.section("Losses", html.tag("p", "Nothing has been logged yet."))
    losses = figures.losses(record.losses, record.terms).svg("losses")
    pale = "Pale: mean loss since the previous line of the log. Strong: its running mean over a twentieth of the run."
    speed = figures.speed(record.losses).svg("speed")
    since = "Steps per second since the run was last started."
    return html.section(
        "Losses",
        html.figure(losses, pale, "the terms of the loss over the steps"),
        html.details("Speed", html.figure(speed, since, "speed over the steps")),
    )


# ------------------------------------------------------------------------------------------- which regions were visited


def allocation(record: Record, seen: Seen | None) -> Iterator[html.Html]:
    """Where samples came from over the run, and how far the student was from the teacher there."""
    if seen is None:
        yield html.section("Allocation", html.tag("p", "No region has been seen yet."))
        return
    regions = record.regions
    mass = np.array([region.mass for region in regions])
    ratio = np.divide(seen.samples / seen.samples.sum(), mass, out=np.zeros_like(mass), where=mass > 0)
    shown = figures.most_and_least(ratio)
    yield html.section(
        "Allocation",
        html.figure(
            figures.heat(seen, regions, shown).svg("heat"),
            _heat_caption(len(shown) < len(regions)),
            "allocation and discrepancy of regions over the steps",
        ),
        *_reason(record),
        *_table(regions, seen, ratio),
    )
    yield html.section(
        "Coverage",
        html.figure(
            figures.coverage(seen, regions).svg("coverage"),
            _coverage_caption(int((seen.samples == 0).sum())),
            "share of the samples against share of the pool, and number of regions seen",
        ),
    )


def _heat_caption(some: bool) -> html.Html:
    probability, discrepancy = (html.tag("b", title) for title in figures.HEAT)
    few = f" Only the {figures.SHOWN // 2} regions with the most and the {figures.SHOWN // 2} with the fewest samples "
    few += "relative to their share of the pool are shown."
    return html.tag(
        "span", probability, ": the probability of drawing the region, divided by its share of the pool; 1 is random "
        "conditioning. ", discrepancy, ": how far the student is from the teacher, mean over the region's samples. "
        f"Grey: no sample.{few if some else ''}",
    )  # fmt: skip


def _coverage_caption(missing: int) -> html.Html:
    shares, seen = (html.tag("b", title) for title in figures.COVERAGE)
    left_out = {0: "", 1: " One region without a sample is left out."}
    return html.tag(
        "span", shares, ": a region above the line gets more samples than its share of the pool; the images' own "
        f"conditions are counted too.{left_out.get(missing, f' {missing} regions without a sample are left out.')} ",
        seen, ": how many regions have had at least one sample.",
    )  # fmt: skip


def _reason(record: Record) -> list[html.Html]:
    if isinstance(record.pool, str):
        return [html.tag("p", f"Regions are shown without their prompts: {record.pool}.", class_="soft")]
    return []


def _table(regions: list[Region], seen: Seen, ratio: Array) -> Iterator[html.Html]:
    """All regions, those with the most samples relative to their share first."""
    first, last, order = seen.at(last=False), seen.at(last=True), np.argsort(-ratio, kind="stable")
    rows = [
        _row(regions[k], int(seen.samples[k]), float(ratio[k]), float(first[k]), float(last[k])) for k in order[:MOST]
    ]
    yield from _rows(rows, len(order))


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


def _rows(rows: list[dict[str, object]], count: int) -> Iterator[html.Html]:
    """A table of regions: the first of them, then those folded away, then how many of ``count`` are left out."""
    rows = rows[:MOST]
    yield html.table(rows[:ROWS])
    if len(rows) > ROWS:
        yield html.details(f"{len(rows) - ROWS} more regions", html.table(rows[ROWS:]))
    if count > len(rows):
        yield html.tag("p", f"{count - len(rows)} further regions are left out.")


# --------------------------------------------------------------------------------------------------- what it looks like


def _validation(record: Record) -> Iterator[html.Html]:
    if not (record.validation or record.grids or record.linked):
        return
    parts = []
    if record.validation:
        gap = (
            "Mean squared difference between the final latents of the teacher and of the student with averaged "
            "weights, from the same noise and prompts each time; 0 is a perfect copy."
        )
        gaps = figures.gaps(record.validation).svg("gaps")
        parts.append(html.figure(gaps, gap, "the generation gap over the steps"))
    if record.linked:
        parts.append(html.tag("p", "The images are left out: their folder is a link to another.", class_="bad"))
    for step, path in reversed(_spread(record.grids)):
        png = record.grid(path)
        if isinstance(png, str):
            parts.append(html.tag("p", f"The image of step {step} is left out: {png}.", class_="bad"))
            continue
        shown = [html.image(png, f"Step {step}: teacher and student from the same noise")]
        film = record.film(path)
        if isinstance(film, str):
            shown.append(html.tag("p", f"The film of step {step} is left out: {film}.", class_="bad"))
        elif film is not None:
            shown.append(html.image(film, f"Step {step}: the same videos playing"))
        parts.append(html.details(f"Step {step}", *shown, open=(step, path) == record.grids[-1]))
    yield html.section("Validation", *parts)


def _spread(paths: list[tuple[int, Path]]) -> list[tuple[int, Path]]:
    """At most :data:`GRIDS` of the grids: the first, the last, and others evenly spaced between them."""
    if len(paths) <= GRIDS:
        return paths
    return [paths[math.floor(place * (len(paths) - 1) / (GRIDS - 1))] for place in range(GRIDS)]


def _quantised(record: Record) -> Iterator[html.Html]:
    """The discrepancy of every region before and after quantisation; regions that lost the most come first."""
    measured = record.quantised
    if measured is None:
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
        for row in sorted(measured["regions"], key=lambda row: float(row["before"] - row["after"]))
    ]
    size, gap = measured["bytes"], measured["discrepancy"]
    summary = (
        f"With 8-bit integer weights the student takes {size['after'] / 1e6:.4g} MB instead of "
        f"{size['before'] / 1e6:.4g} MB. The mean squared difference from the teacher's outputs, with regions weighted "
        f"by their share of the pool, was {html.number(gap['before'])} and is now {html.number(gap['after'])}, on "
        f"{measured['samples']} samples over all noise levels."
    )
    old = "Measured on an earlier student: run `aria quantise` again for the current one."
    parts = [html.tag("p", old, class_="bad")] if record.outdated else []
    yield html.section("Quantised", *parts, html.tag("p", summary), *_rows(rows, len(rows)))


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
