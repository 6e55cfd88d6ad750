"""The page of an evaluation, made from its result and the sheet of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aria import html
from aria.distill.evaluation.comparison import GAP

TABLE = (
    "Means over the prompts of each group with their 95 % bootstrap intervals. The generation gap is the mean squared "
    "difference between the latents that student and teacher make from the same noise: lower is better. Of all other "
    "scores, higher is better. Change: the difference from the first student in %, resampled prompt by prompt; p from "
    "Wilcoxon's signed-rank test of the pairs, adjusted by Holm's method over the whole table."
)
SHEET = "The prompts with the smallest gap of the first student, those around the median, and those with the largest."


def page(result: Mapping[str, Any], pictures: Path, film: Path | None = None) -> html.Html:
    """Everything about an evaluation in one document."""
    facts: dict[str, object] = {"teacher": html.tag("code", result["teacher"])}
    facts |= {f"student {name}": html.tag("code", path) for name, path in result["students"].items()}
    facts |= {name: value for name, value in result["settings"].items() if value is not None}
    if (covered := result["coverage"]) is not None:
        groups = f"{covered['groups']} of {covered['of']} groups have a prompt here"
        facts["coverage of the pool"] = f"{groups}; they have {covered['share']:.0%} of the pool"
    return html.page("Evaluation", html.tag("section", html.pairs(facts)), *sections(result, pictures, film))


def sections(result: Mapping[str, Any], pictures: Path, film: Path | None = None) -> list[html.Html]:
    """The pictures, of videos also the film, and a table for each metric."""
    metrics = list(dict.fromkeys(row["metric"] for row in result["table"]))
    parts = [
        html.section("Generation gap" if metric == GAP else f"Score {metric}", html.table(_rows(result, metric)))
        for metric in metrics
    ]
    parts[0] = html.section("Generation gap", html.tag("p", TABLE), html.table(_rows(result, metrics[0])))
    sheet = html.image(pictures.read_bytes(), "teacher and students, prompt by prompt")
    sheets = [sheet] if film is None else [sheet, html.image(film.read_bytes(), "the same videos playing")]
    return [html.section("Best, median and worst prompts", html.tag("p", SHEET), *sheets), *parts]


def _rows(result: Mapping[str, Any], metric: str) -> list[dict[str, object]]:
    rows = []
    for row in result["table"]:
        if row["metric"] != metric:
            continue
        change = row["change"]
        rows.append(
            {
                "group": row["group"],
                "prompts": row["prompts"],
                "student": row["student"],
                "mean": row["mean"],
                "interval": between(row["low"], row["high"], "{:.4g}"),
                "change, %": None if change is None or change["mean"] is None else f"{change['mean']:+.1f}",
                "its interval": None if change is None else between(change["low"], change["high"], "{:+.1f}"),
                "p": None if change is None else change.get("p_adjusted"),
            }
        )
    return rows


def between(low: float | None, high: float | None, form: str) -> str | None:
    """An interval as text."""
    return None if low is None or high is None else f"{form.format(low)} … {form.format(high)}"
