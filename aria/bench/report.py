"""The page of a comparison, made of its result alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aria import html
from aria.bench import figures, table

Result = Mapping[str, Any]

CHANGES = (
    "Change of the generation gap against {baseline}, in per cent: mean over {seeds} paired seeds ± standard error; "
    "negative is better. * marks changes that chance explains with p < .01 in a paired t test, adjusted (Holm) for all "
    "arms and groups of the table together. The generation gap is the mean squared difference between what student "
    "and teacher make of the same noise."
)
MISLEADS = (
    "The last column is the flat error of noise predictions on images with their own conditions: it is shown because "
    "it misleads, an arm may lead there and generate worse."
)
OWN = "own.images"
CURVES = (
    "The generation gap over that of {baseline} at the end, seed by seed; mean and standard error (band) over {seeds} "
    "seeds. A line that crosses 1 is where {baseline} ends."
)
PARETO = (
    "What the rarest conditions gain (down) against what the most frequent ones pay (right), with standard errors; "
    "{baseline} is at the origin, and below and left of it nobody pays."
)
SPEED = (
    "Steps until an arm is where {baseline} ends, as a share of the run, and the part of the oracle's gain it has "
    "uniformly over conditions: the oracle knows every region's exact discrepancy. Groups pay whose gap grows by more "
    "than two standard errors. A dash: never there, no oracle, or its own gain cannot be told from chance."
)


def page(result: Result) -> html.Html:
    """Everything about a comparison in one document."""
    told = {"baseline": result["baseline"], "seeds": len(result["seeds"])}
    curves = html.figure(figures.curves(result), CURVES.format(**told), "the generation gap over the steps")
    said = CHANGES.format(**told) + (f" {MISLEADS}" if OWN in result["table"][0] else "")
    return html.page(
        f"Comparison on {result['task'].split('(')[0]}",
        _summary(result),
        html.section("Who gains and who pays", html.tag("p", said), _changes(result)),
        *_ends(result, told),
        html.section("On the way", curves),
        html.section("Sooner, and how near the oracle", html.tag("p", SPEED.format(**told)), _speed(result)),
        *_settings(result),
    )


def _ends(result: Result, told: Mapping[str, object]) -> Iterator[html.Html]:
    if figures.has_ends(result):
        drawn = html.figure(figures.pareto(result), PARETO.format(**told), "the tail's change against the head's")
        yield html.section("Head against tail", drawn)


def _summary(result: Result) -> html.Html:
    setting = result["setting"]
    told = {
        "task": html.tag("code", result["task"]),
        "setting": f"replacement {setting['replacement']}, noise levels weighted {setting['weighting']}",
        "length of a run": f"{max(row['step'] for row in result['records'])} steps",
        "seeds": ", ".join(map(str, result["seeds"])),
        "command": html.tag("code", result["command"]),
        "made": f"{result['date']}, in {result['seconds']:.0f} s besides what was there already",
    }
    return html.tag("section", html.pairs(told))


def _changes(result: Result) -> html.Html:
    columns = {f"gap.{group}": group for group in result["groups"]}
    if OWN in result["table"][0]:
        columns[OWN] = "own images, flat ε error"
    rows = []
    for row in result["table"]:
        shown = [_change(row[name], row["arm"] == result["baseline"]) for name in columns]
        rows.append(html.tag("tr", html.tag("td", row["arm"], class_="fixed"), *shown))
    titles = [html.tag("th", "arm"), *(html.tag("th", title, class_="number") for title in columns.values())]
    made = html.tag("table", html.tag("thead", html.tag("tr", *titles)), html.tag("tbody", *rows))
    return html.tag("div", made, class_="scroll")


def _change(cell: Mapping[str, Any], baseline: bool) -> html.Html:
    """A cell: green where the gap surely shrinks, red where it surely grows, beyond two standard errors."""
    if baseline:
        return html.tag("td", "0", class_="number soft")
    mean, error, p = cell["mean"], cell["error"], cell.get("p_adjusted")
    star = "*" if p is not None and p < table.LEVEL else ""
    said = f"{mean:+.1f}" + (f" ± {error:.1f}{star}" if error is not None else "")
    sure = error is not None and abs(mean) > 2 * error
    colour = (" good" if mean < 0 else " bad") if sure else ""
    return html.tag("td", said, class_=f"number{colour}")


def _speed(result: Result) -> html.Html:
    return html.table([_row(row, result["groups"]) for row in result["table"] if row["arm"] != result["baseline"]])


def _row(row: dict[str, Any], groups: list[str]) -> dict[str, object]:
    pays = table.who_pays(row, groups)
    return {
        "arm": row["arm"],
        **{f"steps, {group}": share for group, share in row["steps"].items()},
        "of the oracle's gain": row["of_oracle"],
        "of lookahead's": row["of_lookahead"],
        "who pays": None if pays is None else ", ".join(pays) or "nobody",
    }


def _settings(result: Result) -> Iterator[html.Html]:
    shared = {"replacement", "weighting"}
    arms = [{name: "the setting's" if value is None and name in shared else value for name, value in arm.items()}
            for arm in result["arms"]]  # fmt: skip
    values = [{"arm": row["arm"], **_values(row)} for row in result["table"]]
    yield html.section("Arms", html.table(arms))
    yield html.section(
        "Numbers",
        html.details("Every metric at the end, means over the seeds", html.table(values)),
        html.details("Recipe", html.pairs(_flat(result["recipe"]))),
        html.details("Machine and versions", html.pairs(_flat(result["machine"]))),
    )


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: cell["value"] for name, cell in row.items() if isinstance(cell, Mapping) and "value" in cell}


def _flat(told: Mapping[str, Any]) -> dict[str, object]:
    """Nested settings under the names of their own."""
    flat: dict[str, object] = {}
    for name, value in told.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return flat
