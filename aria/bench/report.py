"""The page of a comparison, made of its result alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aria import html
from aria.bench import figures, table, words
from aria.bench.arms import LOOKAHEAD

Result = Mapping[str, Any]

CHANGES = (
    "Change of the generation gap against {baseline}, in per cent: mean over {seeds} paired seeds ± standard error; "
    "negative is better. The generation gap is the mean squared difference between what student and teacher make of "
    "the same noise. * marks changes that chance explains with p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}.01 in a "
    "paired t test, adjusted (Holm) for all arms and groups of the table together."
)
COLOURS = (
    html.tag("span", "Green", class_="good"),
    " is what shrinks by more than two standard errors, ",
    html.tag("span", "orange", class_="bad"),
    " what grows by as much; the rest may be chance.",
)
ROWS = "A row is an arm, a way to allocate; a column the mean over a group of conditions: "
MISLEADS = (
    "The last column is the flat error of noise predictions on images with their own conditions: it is shown because "
    "it misleads, an arm may lead there and generate worse."
)
ARMS = (
    "Arms differ in where the conditions come from that are put in the place of an image's own, and if they say so in "
    "how noise levels count and who makes the images; worlds, starts, images, noise and timesteps are the same for all."
)
CURVES = (
    "The generation gap over that of {baseline} at the end, seed by seed; mean and standard error (band) over {seeds} "
    "seeds. A line that crosses 1 is where {baseline} ends."
)
PARETO = (
    "What the rarest conditions gain (down) against what the most frequent ones pay (right), with standard errors; "
    "{baseline} is at the origin, and below and left of it nobody pays."
)
SPEED = "Steps: the share of the run until an arm is where {baseline} ends; a dash: never."
PAYS = "Groups pay whose gap grows by more than two standard errors."
GAINS = {
    table.ORACLE: "Of the oracle's gain: the part of it that an arm has, uniformly over conditions; the oracle knows "
    "every region's exact discrepancy.",
    LOOKAHEAD: "Of lookahead's: the same of what it gains that always goes on from the best arm's student.",
}
CHANCE = "No share of the gain of {marks} is shown: it cannot be told from chance."
METRICS = (
    "gap: the generation gap; x0: error of the image that a noise prediction implies; own: flat error of noise "
    "predictions on the images at hand; others are the task's own."
)


def page(result: Result) -> html.Html:
    """Everything about a comparison in one document."""
    told = {"baseline": result["baseline"], "seeds": len(result["seeds"])}
    curves = html.figure(figures.curves(result), CURVES.format(**told), "the generation gap over the steps")
    return html.page(
        f"Comparison on {result['task'].split('(')[0]}",
        _summary(result),
        html.section("Who gains and who pays", *_explained(result, told), _changes(result)),
        html.section("Arms", html.tag("p", ARMS), *_arms(result)),
        *_ends(result, told),
        html.section("On the way", curves),
        html.section("Sooner, and how near the best", html.tag("p", _said(result, told)), _speed(result)),
        _numbers(result),
    )


def _explained(result: Result, told: Mapping[str, object]) -> Iterator[html.Html]:
    """What the table of changes shows: its numbers, colours, rows and columns."""
    yield html.tag("p", CHANGES.format(**told), " ", *(COLOURS if len(result["seeds"]) > 1 else ()))
    groups = [part for name in result["groups"] for part in (", ", html.tag("b", name), f" ({words.of_group(name)})")]
    yield html.tag("p", ROWS, *groups[1:], ".", f" {MISLEADS}" if table.OWN in result["table"][0] else "")


def _ends(result: Result, told: Mapping[str, object]) -> Iterator[html.Html]:
    if figures.has_ends(result):
        drawn = html.figure(figures.pareto(result), PARETO.format(**told), "the tail's change against the head's")
        yield html.section("Head against tail", drawn)


def _summary(result: Result) -> html.Html:
    setting = result["setting"]
    told = {
        "task": html.tag("code", result["task"]),
        "setting": f"replacement {setting['replacement']}, noise levels weighted {setting['weighting']}",
        "every run": f"{max(row['step'] for row in result['records'])} steps",
        "seeds": ", ".join(map(str, result["seeds"])),
        "command": html.tag("code", result["command"]),
        "made": f"{result['date']}, in {result['seconds']:.0f} s besides what was there already",
    }
    return html.tag("section", html.pairs(told))


def _changes(result: Result) -> html.Html:
    columns = {f"gap.{group}": group for group in result["groups"]}
    if table.OWN in result["table"][0]:
        columns[table.OWN] = "own images, flat ε error"
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
    said = table.signed(mean) + (f" ± {error:.1f}{star}" if error is not None else "")
    sure = error is not None and abs(mean) > 2 * error
    colour = (" good" if mean < 0 else " bad") if sure else ""
    return html.tag("td", said, class_=f"number{colour}")


def _arms(result: Result) -> Iterator[html.Html]:
    """What each arm does, and its settings."""
    shared = {"replacement", "weighting"}
    there = "where those conditions come from"
    yield html.table([{"arm": arm["name"], there: words.of_arm(arm)} for arm in _all(result)])
    settings = [{"arm": arm["name"]} | {name: "the setting's" if value is None and name in shared else value
                                        for name, value in arm.items() if name != "name"}
                for arm in result["arms"]]  # fmt: skip
    yield html.details("Settings of the arms", html.table(settings))


def _all(result: Result) -> list[Mapping[str, Any]]:
    """The arms, and the mark that is none."""
    ahead = [{"name": row["arm"]} for row in result["table"] if row["arm"] == LOOKAHEAD]
    return [*result["arms"], *ahead]


def _said(result: Result, told: Mapping[str, object]) -> str:
    """What is in the columns that are there, and why a share of a gain is not."""
    there = [mark for mark in table.MARKS if any(row["arm"] == mark for row in result["table"])]
    shown = table.marks_of(result["table"])
    hidden = " and of ".join(mark for mark in there if mark not in shown)
    said = [SPEED.format(**told), *(GAINS[mark] for mark in shown)]
    said += [CHANCE.format(marks=hidden)] if hidden else []
    return " ".join([*said, *([PAYS] if len(result["seeds"]) > 1 else [])])


def _speed(result: Result) -> html.Html:
    rows = [_row(row, result["groups"]) for row in result["table"] if row["arm"] != result["baseline"]]
    known = {name for row in rows for name, value in row.items() if value is not None}
    return html.table([{name: value for name, value in row.items() if name in known} for row in rows])


def _row(row: dict[str, Any], groups: list[str]) -> dict[str, object]:
    pays = table.who_pays(row, groups)
    return {
        "arm": row["arm"],
        **{f"steps, {group}": share for group, share in row["steps"].items()},
        "of the oracle's gain": row["of_oracle"],
        "of lookahead's": row["of_lookahead"],
        "who pays": None if pays is None else ", ".join(pays) or "nobody",
    }


def _numbers(result: Result) -> html.Html:
    values = [{"arm": row["arm"], **_values(row)} for row in result["table"]]
    return html.section(
        "Numbers",
        html.details("Every metric at the end, means over the seeds", html.tag("p", METRICS), html.table(values)),
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
